"""What Socket.IO's servers tell each other, through Redis `realtime`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import socketio

from chatdata import _redis
from chatdata._redis import AsyncRetry


def redis_manager(
    host: str,
    password: str,
    *,
    port: int = 6381,
    user: str = "chat_socketio",
    ca: str = "ca.pem",
    sentinels: Sequence[tuple[str, int]] = (),
    sentinel_login: dict[str, str] | None = None,
    service: str = "realtime",
    **more: Any,
) -> socketio.AsyncRedisManager:
    """The client manager for a server, with the options of docs/reference/connecting.md.

    `ca`: the path of the environment's authority. With `sentinels`, hosts and ports, the master of `service`
    is asked for and `host` and `port` do not count; `sentinel_login`: the Sentinels' username and password.
    That needs redis-py 8: an older one's listener gives up after two seconds without an event.
    `more`: options of redis-py's that go before these.
    Errors are python-socketio's: an event that Redis refuses is lost, and logged.
    """
    verified = {
        "ssl_ca_certs": ca,
        "ssl_check_hostname": True,
        "client_name": "chat",
        "socket_keepalive": True,
    }
    login = {"username": user, "password": password}
    if not sentinels:
        kept = {"socket_keepalive_options": _redis.KEEPALIVE, "health_check_interval": 10}
        return socketio.AsyncRedisManager(
            f"rediss://{host}:{port}", redis_options=login | verified | kept | more
        )
    each = (
        verified | _redis.TAKEN_OVER | {"ssl": True, "socket_keepalive_options": _redis.KEEPALIVE_OF_SEVERAL}
    )
    asked = each | (sentinel_login or {}) | _redis.ASKED | {"retry": AsyncRetry(**_redis.ASKED_ONCE)}
    addresses = ",".join(f"{known}:{known_port}" for known, known_port in sentinels)
    return socketio.AsyncRedisManager(
        f"redis+sentinel://{addresses}/0/{service}",
        redis_options={"sentinel_kwargs": asked} | login | each | more,
    )
