"""What Socket.IO's servers tell each other, through Redis `realtime`."""

from __future__ import annotations

from typing import Any

import socketio

from chatdata._redis import KEEPALIVE


def redis_manager(
    host: str,
    password: str,
    *,
    port: int = 6381,
    user: str = "chat_socketio",
    ca: str = "ca.pem",
    **more: Any,
) -> socketio.RedisManager:
    """The client manager for a server, with the options of docs/reference/connecting.md.

    `ca`: the path of the environment's authority; `more`: options of redis-py's that go before these.
    Errors are python-socketio's: an event that Redis refuses is lost, and logged.
    """
    return socketio.RedisManager(
        f"rediss://{host}:{port}",
        redis_options={
            "username": user,
            "password": password,
            "ssl_ca_certs": ca,
            "ssl_check_hostname": True,
            "client_name": "chat",
            "socket_keepalive": True,
            "socket_keepalive_options": KEEPALIVE,
            "health_check_interval": 10,
            **more,
        },
    )
