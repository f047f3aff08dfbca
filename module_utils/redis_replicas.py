"""What is asked of Redis's replicas and of Sentinel: connections, and answers as dictionaries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    HAS_REDIS = False
else:
    HAS_REDIS = True

Answer = TypeVar("Answer")
ANSWER_S = 3  # a host that is gone does not answer at all


def by_socket(path: str, username: str, password: str) -> Any:
    """A client of the server at a unix socket."""
    return redis.Redis(
        unix_socket_path=path,
        username=username,
        password=password,
        decode_responses=True,
        socket_timeout=ANSWER_S,
    )


def by_tls(address: str, port: int, username: str, password: str, ca: str) -> Any:
    """A client over verified TLS that tries once: redis-py's own retries make of a dead host many seconds."""
    return redis.Redis(
        host=address,
        port=port,
        username=username,
        password=password,
        decode_responses=True,
        ssl=True,
        ssl_ca_certs=ca,
        ssl_check_hostname=True,
        socket_connect_timeout=ANSWER_S,
        socket_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
    )


def refuses_password(error: Exception) -> bool:
    """Whether a server knows the user by another password; Debian 12's redis-py has no class for that."""
    return isinstance(error, redis.exceptions.AuthenticationError) or "WRONGPASS" in str(error)


def ask(connect: Callable[[str], Any], passwords: Sequence[str], question: Callable[[Any], Answer]) -> Answer:
    """What is answered to the first of the passwords that the server knows. Raises redis.RedisError."""
    *others, last = passwords
    for password in others:
        try:
            with connect(password) as client:
                return question(client)
        except redis.exceptions.RedisError as error:
            if not refuses_password(error):
                raise
    with connect(last) as client:
        return question(client)


def pairs(answer: Sequence[Any] | Mapping[Any, Any]) -> dict[str, str]:
    """An answer of names and values in turn, or (RESP3) a map, as a dictionary."""
    if isinstance(answer, Mapping):
        return {str(name): str(value) for name, value in answer.items()}
    return {str(name): str(value) for name, value in zip(answer[::2], answer[1::2], strict=True)}


def replication(client: Any) -> dict[str, str]:
    """INFO's section replication."""
    return {str(name): str(value) for name, value in client.info("replication").items()}


def replication_text(client: Any) -> str:
    """INFO replication as Redis writes it, a line a value."""
    lines = []
    for name, value in client.info("replication").items():
        shown = ",".join(f"{key}={part}" for key, part in value.items()) if isinstance(value, dict) else value
        lines.append(f"{name}:{shown}\n")
    return "".join(lines)


def await_(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true within the time; a server that does not answer yet is waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return True
        except redis.exceptions.RedisError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
