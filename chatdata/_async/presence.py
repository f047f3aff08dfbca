"""Who is online, in Redis `realtime`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any
from uuid import UUID

from chatdata._redis import AsyncRedis, Change, ServerClock, milliseconds, text
from chatdata.errors import Timeout, Unavailable, redis_errors

EXPIRIES = "presence:expiries"
CHANGES = "presence:changes"
EXPIRED = "__keyevent@0__:expired"

log = logging.getLogger(__name__)


class AsyncPresence:
    """Tells who is online: who has a socket that was heard of in the last `ttl_s`.

    Keys: presence:expiries -> sorted set, user id by the end in ms since 1970 of Redis's clock: the
    authority, which does not expire and is not evicted;
    presence:<user id>:sockets -> sorted set, the user's sockets by their ends;
    presence:<user id> -> "online", expiring, for readers that know no more, and for the news that it expired.
    Channel: presence:changes, a user's id as they come or go.

    A process calls `touch` for each of its sockets every third of `ttl_s`. A restart of Redis empties it:
    everybody is offline until their sockets are touched again.
    Every method but `changes` raises Unavailable or Timeout where Redis cannot be reached.
    """

    def __init__(self, redis: AsyncRedis, *, ttl_s: float = 30) -> None:
        self._redis: Any = redis  # redis-py's types for pubsub and transaction are incomplete
        self._ttl_ms = milliseconds(ttl_s)
        self._clock = ServerClock()

    async def connect(self, user_id: UUID, socket: str) -> bool:
        """Add a socket of the user's; True if they were offline. `touch` does the same."""
        return await self.touch(user_id, socket)

    async def touch(self, user_id: UUID, socket: str) -> bool:
        """Keep the user online by this socket for `ttl_s` from now; True if they were offline.

        One round trip, and another to announce who was offline.
        """
        user, sockets = f"presence:{user_id}", f"presence:{user_id}:sockets"
        with redis_errors():
            now_ms = self._clock.now_ms() or self._clock.learn(await self._redis.time())
            end_ms = now_ms + self._ttl_ms
            async with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.zscore(EXPIRIES, str(user_id))
                pipeline.zadd(EXPIRIES, {str(user_id): end_ms}, gt=True)
                pipeline.zremrangebyscore(EXPIRIES, "-inf", now_ms)
                pipeline.zremrangebyscore(sockets, "-inf", now_ms)
                pipeline.zadd(sockets, {socket: end_ms})
                pipeline.pexpireat(sockets, end_ms, nx=True)
                pipeline.pexpireat(sockets, end_ms, gt=True)
                pipeline.set(user, "online", pxat=end_ms)  # not sooner than EXPIRIES says
                answer, before_ms, *_ = await pipeline.execute()
            was_offline = before_ms is None or float(before_ms) <= self._clock.learn(answer)
            if was_offline:
                await self._redis.publish(CHANGES, str(user_id))
        return was_offline

    async def disconnect(self, user_id: UUID, socket: str) -> bool:
        """Take a socket of the user's away; True if it was the last, and they are offline now.

        Four round trips, more where another socket of theirs comes at that moment, and one to announce it.
        """
        user, sockets = f"presence:{user_id}", f"presence:{user_id}:sockets"

        async def remove(pipeline: Any) -> bool:
            now_ms = self._clock.learn(await pipeline.time())
            ends = await pipeline.zrange(sockets, 0, -1, withscores=True)
            others = [float(end) for name, end in ends if text(name) != socket and float(end) > now_ms]
            was_online = any(float(end) > now_ms for _, end in ends)
            pipeline.multi()
            pipeline.zrem(sockets, socket)
            if others:
                pipeline.zadd(EXPIRIES, {str(user_id): max(others)})
                pipeline.pexpireat(user, int(max(others)))
            else:
                pipeline.zrem(EXPIRIES, str(user_id))
                pipeline.delete(user)
            return was_online and not others

        with redis_errors():
            went = bool(await self._redis.transaction(remove, sockets, value_from_callable=True))
            if went:
                await self._redis.publish(CHANGES, str(user_id))
        return went

    async def is_online(self, user_id: UUID) -> bool:
        """Whether the user is online. One round trip."""
        return await self.online([user_id]) == {user_id}

    async def online(self, user_ids: Iterable[UUID]) -> set[UUID]:
        """Those of the users who are online. One round trip."""
        wanted = list(user_ids)
        if not wanted:
            return set()
        with redis_errors():
            async with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.zmscore(EXPIRIES, [str(user_id) for user_id in wanted])
                answer, ends = await pipeline.execute()
        now_ms = self._clock.learn(answer)
        return {
            user_id
            for user_id, end_ms in zip(wanted, ends, strict=True)
            if end_ms is not None and float(end_ms) > now_ms
        }

    async def everybody(self) -> set[UUID]:
        """All users who are online. One round trip, as large as they are many."""
        with redis_errors():
            async with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.zrange(EXPIRIES, 0, -1, withscores=True)
                answer, ends = await pipeline.execute()
        now_ms = self._clock.learn(answer)
        return {UUID(text(user_id)) for user_id, end_ms in ends if float(end_ms) > now_ms}

    async def changes(self, *, reconcile_s: float = 10) -> AsyncIterator[Change]:
        """Everybody who is online, and from then on each user who comes or goes, without end.

        What Redis announces is only a reason to look at one user. An announcement that was lost (Redis drops
        them while a connection is down) is made good by comparing all users every `reconcile_s`, and after
        each new connection. While Redis cannot be reached, nothing is yielded, and a new attempt made every
        second at most. Takes a connection of the pool for itself.
        """
        known: set[UUID] = set()
        while True:
            try:
                async with self._redis.pubsub() as listener:
                    with redis_errors():
                        await listener.subscribe(CHANGES, EXPIRED)
                    due = time.monotonic() + reconcile_s
                    while True:
                        with redis_errors():
                            message = await listener.get_message(timeout=max(0, due - time.monotonic()))
                        # Subscribed, for the first time or anew after redis-py has mended the connection.
                        subscribed = message is not None and message["type"] == "subscribe"
                        if subscribed or time.monotonic() >= due:
                            due = time.monotonic() + reconcile_s
                            before, known = known, await self.everybody()
                        elif (user_id := _announced(message)) is not None:
                            before, known = known, known - {user_id} | await self.online([user_id])
                        else:
                            continue
                        for user_id in before - known:
                            yield Change(user_id, online=False)
                        for user_id in known - before:
                            yield Change(user_id, online=True)
            except (Unavailable, Timeout) as error:
                log.warning("presence: %s", error)
                await asyncio.sleep(1)


def _announced(message: Mapping[str, Any] | None) -> UUID | None:
    """The user of whom a message tells."""
    if message is None or message["type"] != "message":
        return None
    try:
        return UUID(text(message["data"]).removeprefix("presence:"))
    except ValueError:  # a key of another kind has expired
        return None
