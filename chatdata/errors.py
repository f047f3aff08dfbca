"""The errors that chatdata raises: one tree, whatever driver was underneath."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import redis.exceptions
from psycopg_pool import PoolTimeout


class ChatDataError(Exception):
    """What every error of this package is; `sqlstate` is PostgreSQL's code, where it gave one."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class NotFound(ChatDataError):
    """What was asked for is not there."""


class AlreadyExists(ChatDataError):
    """Another row has this value already, in the field `field`."""

    def __init__(self, message: str, *, field: str, sqlstate: str | None = None) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.field = field


class Conflict(ChatDataError):
    """Undone in favour of another transaction; the same again may succeed."""


class Unavailable(ChatDataError):
    """The server, or a connection to it, is not to be had now; what was under way may have happened."""


class Timeout(ChatDataError):
    """A time limit ran out; what was under way may have happened."""


class SettingsInvalid(ChatDataError):
    """The connection contract lacks something, or something in it is wrong."""


class TokenUnknown(ChatDataError):
    """A refresh token that was never issued, has expired, or whose session was revoked."""


class TokenReused(ChatDataError):
    """A refresh token that was used before came again: its session is now revoked."""


class TokenInvalid(ChatDataError):
    """An access token that is expired, incomplete, or not signed by a key of ours."""


_FIELDS = {
    "users_pkey": "id",
    "idx_users_email": "email",
    "idx_users_email_lower": "email",
    "idx_users_username": "username",
    "idx_users_username_lower": "username",
    "rooms_pkey": "id",
    "room_users_pkey": "user_id",
    "messages_pkey": "id",
    "messages_room_id_seq_key": "seq",
}
_REFERENCES = {
    "rooms_created_by_fkey": "user",
    "room_users_room_id_fkey": "room",
    "room_users_user_id_fkey": "user",
    "messages_room_id_fkey": "room",
    "messages_user_id_fkey": "user",
}
_CONFLICT = {"40001", "40P01"}
# Cancelled by statement_timeout or an operator, lock_timeout, idle in a transaction, transaction_timeout.
_TIMEOUT = {"57014", "55P03", "25P03", "25P04"}
# Connections (08), resources (53), shutdowns and restarts (57P); 25006: a standby, which takes no writes.
_UNAVAILABLE = ("08", "53", "57P", "25006")


def from_postgresql(error: psycopg.Error) -> ChatDataError:
    """Chatdata's error for one of psycopg's.

    AlreadyExists and NotFound for a violated unique constraint or foreign key; Conflict after a deadlock or
    a failed serialization; Timeout where a limit ran out; Unavailable where the server or the connection is
    gone; ChatDataError for the rest, which is a mistake in a statement or its data.
    """
    code, constraint = error.sqlstate, error.diag.constraint_name or ""
    if code == "23505":
        field = _FIELDS.get(constraint, constraint)
        return AlreadyExists(f"this {field} is taken", field=field, sqlstate=code)
    if code == "23503":
        return NotFound(f"there is no such {_REFERENCES.get(constraint, constraint)}", sqlstate=code)
    kind = ChatDataError
    if code in _CONFLICT:
        kind = Conflict
    elif code in _TIMEOUT or isinstance(error, PoolTimeout):
        kind = Timeout
    elif code.startswith(_UNAVAILABLE) if code else isinstance(error, psycopg.OperationalError):
        kind = Unavailable
    # Without the detail, which may hold a row's values.
    return kind(f"PostgreSQL: {error.diag.message_primary or error}", sqlstate=code)


@contextmanager
def postgresql_errors() -> Iterator[None]:
    """Raise chatdata's errors for psycopg's, in async code as in sync code."""
    try:
        yield
    except psycopg.Error as error:
        raise from_postgresql(error) from error


# What a server says while it cannot serve, that redis-py has no class for.
_REDIS_REFUSALS = ("LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY")

# What a BlockingConnectionPool says, by the class of a lost connection.
_REDIS_POOL_EXHAUSTED = "No connection available"


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise chatdata's errors for redis-py's, in async code as in sync code.

    Timeout where redis-py waited in vain, for an answer or for a connection of its pool; Unavailable where
    the connection broke, or the server loads, is a replica, or is full; ChatDataError for the rest (a refused
    password or command).
    """
    try:
        yield
    except redis.exceptions.TimeoutError as error:
        raise Timeout(f"Redis: {error}") from error
    except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise ChatDataError(f"Redis: {error}") from error
    except (
        redis.exceptions.ConnectionError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ReadOnlyError,
        OSError,
    ) as error:
        exhausted = str(error).startswith(_REDIS_POOL_EXHAUSTED)
        raise (Timeout if exhausted else Unavailable)(f"Redis: {error}") from error
    except redis.exceptions.RedisError as error:
        kind = Unavailable if str(error).startswith(_REDIS_REFUSALS) else ChatDataError
        raise kind(f"Redis: {error}") from error
