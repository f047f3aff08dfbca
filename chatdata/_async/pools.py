"""An application process's connections, by the contract: a pool to PostgreSQL, one for each Redis user."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from chatdata import _redis
from chatdata._async.sentinel import AsyncMasterConnection, AsyncMasterFinder, AsyncMasterPool
from chatdata._redis import (
    AsyncBlockingConnectionPool,
    AsyncRedis,
    AsyncRetry,
    AsyncTrustingConnection,
)
from chatdata.errors import Unavailable, postgresql_errors
from chatdata.settings import Settings

# Requests for a connection that may wait, for each that there is; the next is refused at once.
WAITING_PER_CONNECTION = 20
# The pool's own attempts to connect would pause ever longer; after so many seconds it begins anew.
RECONNECT_S = 0.5


class AsyncPools:
    """One process's connections to PostgreSQL and clients of Redis, open in a `with` block.

    `sessions` and `realtime` are what the stores take (AsyncRefreshTokens; AsyncPresence, AsyncTypingStatus);
    for Socket.IO's see Settings.socketio. Opening waits for no server: what is down is reported by whoever
    uses it, and used again as soon as it is back. Each waits `settings.pool_timeout_s` for a connection at
    most.
    """

    def __init__(self, settings: Settings) -> None:
        size = settings.postgresql_pool_size
        parameters = settings.postgresql()
        self._postgresql = AsyncConnectionPool(
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

    async def __aenter__(self) -> Self:
        await self._postgresql.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; those in use as they are given back."""
        try:
            await self._postgresql.close()
        finally:
            try:
                await self.sessions.aclose()
            finally:
                await self.realtime.aclose()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in autocommit, for single calls of the repositories, each one round trip.

        Raises Timeout where none was free in time, Unavailable where too many wait already or the server is
        not to be had, and chatdata's errors for psycopg's that the block lets through.
        """
        with postgresql_errors():
            async with self._postgresql.connection() as connection:
                try:
                    yield connection
                except psycopg.Error as error:
                    # PgBouncer's word after PostgreSQL's last is one answer too many to COMMIT.
                    if connection.broken and error.sqlstate is None:
                        raise Unavailable(f"PostgreSQL: {error}") from error
                    raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in a transaction: committed at the block's end, rolled back if it raises.

        Raises as `connection`. After Unavailable or Timeout the commit may have happened, so what is tried
        again has to be something that may happen twice (an id made by the caller).
        """
        async with self.connection() as connection, connection.transaction():
            yield connection


async def _connect_again(pool: AsyncConnectionPool[Any]) -> None:
    """Who waits already would else wait for the next request, which starts the next attempt."""
    if pool.get_stats().get("requests_waiting"):
        await pool.check()


async def _check(connection: AsyncConnection[Any]) -> None:
    """Raise if the server has closed the connection while it lay in the pool.

    Costs a round trip only where the server has said something; it does before it closes. One whose host is
    gone would keep a question waiting just as long as the statement.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


def _client(settings: Settings, name: str) -> AsyncRedis:
    url, password, size = settings.redis(name)
    ca = str(settings.ca_path)
    if settings.redis_sentinels:
        login, options = settings.sentinel_login(), _redis.options("", ca) | _redis.TAKEN_OVER
        asked = options | login | _redis.ASKED | {"ssl": True, "retry": AsyncRetry(**_redis.ASKED_ONCE)}
        return AsyncRedis.from_pool(
            AsyncMasterPool(  # type: ignore[no-untyped-call]
                settings.service(name),
                AsyncMasterFinder(settings.sentinels(), sentinel_kwargs=asked),
                connection_class=AsyncMasterConnection,
                username=urlsplit(url).username,
                max_connections=size,
                timeout=settings.pool_timeout_s,
                retry=AsyncRetry(**_redis.RETRY),
                **(options | {"password": password}),
            )
        )
    pool = AsyncBlockingConnectionPool.from_url(
        url,
        max_connections=size,
        timeout=settings.pool_timeout_s,
        retry=AsyncRetry(**_redis.RETRY),
        **_redis.options(password, ca),
    )
    pool.connection_class = AsyncTrustingConnection
    return AsyncRedis.from_pool(pool)
