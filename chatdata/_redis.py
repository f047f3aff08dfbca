"""What the stores share: redis-py's clients, a Lua script, the server's clock, how replies are read."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from importlib import resources
from typing import Any
from uuid import UUID

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

__all__ = ["AsyncRedis", "Change", "Redis", "Script", "ServerClock", "milliseconds", "text"]


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
