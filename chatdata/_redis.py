"""What the stores share: redis-py's clients, a Lua script, the server's clock, how replies are read."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from dataclasses import dataclass
from importlib import resources
from typing import Any
from uuid import UUID

from redis import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio import BlockingConnectionPool as AsyncBlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import SSLConnection as AsyncSSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncSentinelManagedSSLConnection
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedSSLConnection

__all__ = [
    "AsyncBlockingConnectionPool",
    "AsyncRedis",
    "AsyncRetry",
    "AsyncSentinel",
    "AsyncSentinelConnectionPool",
    "AsyncSentinelManagedSSLConnection",
    "AsyncTrustingConnection",
    "BlockingConnectionPool",
    "Change",
    "Redis",
    "Retry",
    "Script",
    "Sentinel",
    "SentinelConnectionPool",
    "SentinelManagedSSLConnection",
    "ServerClock",
    "TrustingConnection",
    "milliseconds",
    "text",
]

# A server whose host is gone is noticed in a minute.
KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}
# Where another one can take over, whoever only listens notices it in 5 s.
KEEPALIVE_OF_SEVERAL = {socket.TCP_KEEPIDLE: 2, socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 3}

# What a connection that broke is tried again with: a second and a half in all. What timed out is not: it
# would hold its caller up so many times longer.
RETRY: dict[str, Any] = {
    "backoff": ExponentialWithJitterBackoff(base=0.05, cap=0.5),
    "retries": 3,
    "supported_errors": (ConnectionLost,),
}


def options(password: str, ca: str) -> dict[str, Any]:
    """What redis-py takes beside an URL to connect by the contract, in seconds."""
    return {
        "password": password,
        "ssl_ca_certs": ca,
        "ssl_check_hostname": True,
        "client_name": "chat",
        "socket_connect_timeout": 5,
        "socket_timeout": 5,
        "socket_keepalive": True,
        "socket_keepalive_options": KEEPALIVE,
        "health_check_interval": 10,
    }


# Where another server can take over, a dead one is given up sooner. Each Sentinel is asked once, and the
# next one where it does not answer soon.
TAKEN_OVER: dict[str, Any] = {"socket_connect_timeout": 1, "socket_timeout": 2}
ASKED: dict[str, Any] = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}
ASKED_ONCE: dict[str, Any] = {"backoff": NoBackoff(), "retries": 0}


class AsyncTrustingConnection(AsyncSSLConnection):
    """Trusts the environment's authority and no other.

    redis-py reads all the system's authorities too, for each connection: some 50 ms, in which an event loop
    stands still.
    """

    def _connection_arguments(self) -> Any:
        if not self.ssl_context.context:
            self.ssl_context.context = ssl.create_default_context(cafile=self.ssl_context.ca_certs)
        return super()._connection_arguments()  # type: ignore[no-untyped-call,unused-ignore]


class TrustingConnection(SSLConnection):
    """Trusts the environment's authority and no other."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.ca_certs)
        return context.wrap_socket(sock, server_hostname=self.host)


@dataclass(frozen=True)
class Script:
    """A Lua script of chatdata/scripts, and the name by which EVALSHA calls it."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """The script in the file `name`.lua."""
        source = resources.files("chatdata").joinpath("scripts", f"{name}.lua").read_text()
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Change:
    """A user came online, or went."""

    user_id: UUID
    online: bool


class ServerClock:
    """Redis's clock in ms, so that the hosts of an application need not agree on the time.

    It costs no round trip but the first: every pipeline of a store brings TIME's answer to `learn`.
    """

    def __init__(self) -> None:
        self._ahead_ms: float | None = None

    def learn(self, answer: Any) -> int:
        """The server's time, from what TIME answered: seconds and microseconds."""
        now_ms = int(answer[0]) * 1000 + int(answer[1]) // 1000
        self._ahead_ms = now_ms - time.monotonic() * 1000
        return now_ms

    def now_ms(self) -> int | None:
        """The server's time, reckoned from the last answer; None before the first."""
        return None if self._ahead_ms is None else round(self._ahead_ms + time.monotonic() * 1000)


def milliseconds(seconds: float) -> int:
    """Seconds as Redis takes them in PX and PEXPIRE, which refuse 0."""
    return max(1, round(seconds * 1000))


def text(value: Any) -> str:
    """A reply as text, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else str(value)
