"""An application process's connections, by the contract: a pool to PostgreSQL, one for each Redis user."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from chatdata import _redis
from chatdata._redis import (
    BlockingConnectionPool,
    Redis,
    Retry,
    TrustingConnection,
)
from chatdata._sync.sentinel import MasterConnection, MasterFinder, MasterPool
from chatdata.errors import Unavailable, postgresql_errors
from chatdata.settings import Settings

# Requests for a connection that may wait, for each that there is; the next is refused at once.
WAITING_PER_CONNECTION = 20
# The pool's own attempts to connect would pause ever longer; after so many seconds it begins anew.
RECONNECT_S = 0.5


class Pools:
    """One process's connections to PostgreSQL and clients of Redis, open in a `with` block.

    `sessions` and `realtime` are what the stores take (AsyncRefreshTokens; AsyncPresence, AsyncTypingStatus);
    for Socket.IO's see Settings.socketio. Opening waits for no server: what is down is reported by whoever
    uses it, and used again as soon as it is back. Each waits `settings.pool_timeout_s` for a connection at
    most.
    """

    def __init__(self, settings: Settings) -> None:
        size = settings.postgresql_pool_size
        parameters = settings.postgresql()
        self._postgresql = ConnectionPool(
            parameters.pop("conninfo"),
            kwargs=parameters,
            min_size=min(size, 2),
            max_size=size,
            max_waiting=size * WAITING_PER_CONNECTION,
            timeout=settings.pool_timeout_s,
            reconnect_timeout=RECONNECT_S,
            reconnect_failed=_connect_again,
            check=_check,
            open=False,
        )
        self.sessions = _client(settings, "sessions")
        self.realtime = _client(settings, "realtime")

    def __enter__(self) -> Self:
        self._postgresql.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; those in use as they are given back."""
        try:
            self._postgresql.close()
        finally:
            try:
                self.sessions.close()
            finally:
                self.realtime.close()

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """A connection in autocommit, for single calls of the repositories, each one round trip.

        Raises Timeout where none was free in time, Unavailable where too many wait already or the server is
        not to be had, and chatdata's errors for psycopg's that the block lets through.
        """
        with postgresql_errors():
            with self._postgresql.connection() as connection:
                try:
                    yield connection
                except psycopg.Error as error:
                    # PgBouncer's word after PostgreSQL's last is one answer too many to COMMIT.
                    if connection.broken and error.sqlstate is None:
                        raise Unavailable(f"PostgreSQL: {error}") from error
                    raise

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """A connection in a transaction: committed at the block's end, rolled back if it raises.

        Raises as `connection`. After Unavailable or Timeout the commit may have happened, so what is tried
        again has to be something that may happen twice (an id made by the caller).
        """
        with self.connection() as connection, connection.transaction():
            yield connection


def _connect_again(pool: ConnectionPool[Any]) -> None:
    """Who waits already would else wait for the next request, which starts the next attempt."""
    if pool.get_stats().get("requests_waiting"):
        pool.check()


def _check(connection: Connection[Any]) -> None:
    """Raise if the server has closed the connection while it lay in the pool.

    Costs a round trip only where the server has said something; it does before it closes. One whose host is
    gone would keep a question waiting just as long as the statement.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)


def _client(settings: Settings, name: str) -> Redis:
    url, password, size = settings.redis(name)
    ca = str(settings.ca_path)
    if settings.redis_sentinels:
        login, options = settings.sentinel_login(), _redis.options("", ca) | _redis.TAKEN_OVER
        asked = options | login | _redis.ASKED | {"ssl": True, "retry": Retry(**_redis.ASKED_ONCE)}
        return Redis.from_pool(
            MasterPool(  # type: ignore[no-untyped-call]
                settings.service(name),
                MasterFinder(settings.sentinels(), sentinel_kwargs=asked),
                connection_class=MasterConnection,
                username=urlsplit(url).username,
                max_connections=size,
                timeout=settings.pool_timeout_s,
                retry=Retry(**_redis.RETRY),
                **(options | {"password": password}),
            )
        )
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=size,
        timeout=settings.pool_timeout_s,
        retry=Retry(**_redis.RETRY),
        **_redis.options(password, ca),
    )
    pool.connection_class = TrustingConnection
    return Redis.from_pool(pool)
