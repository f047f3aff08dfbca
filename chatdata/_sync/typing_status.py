"""Who types in a room, in Redis `realtime`."""

from __future__ import annotations

from uuid import UUID

from chatdata._redis import Redis, ServerClock, milliseconds, text
from chatdata.errors import redis_errors


class TypingStatus:
    """Tells who is typing in a room, for `ttl_s` after each sign of it.

    Keys: typing:<room id>:<user id> -> "true", expiring, for readers that know the user;
    typing:<room id> -> sorted set, user id by the end in ms since 1970 of Redis's clock.
    Every method raises Unavailable or Timeout where Redis cannot be reached.
    """

    def __init__(self, redis: Redis, *, ttl_s: float = 5) -> None:
        self._redis = redis
        self._ttl_ms = milliseconds(ttl_s)
        self._clock = ServerClock()

    def start(self, room_id: UUID, user_id: UUID) -> bool:
        """Say that the user types; True if they did not before. One round trip."""
        room = f"typing:{room_id}"
        with redis_errors():
            now_ms = self._clock.now_ms() or self._clock.learn(self._redis.time())
            end_ms = now_ms + self._ttl_ms
            with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.zremrangebyscore(room, "-inf", now_ms)
                pipeline.zadd(room, {str(user_id): end_ms})
                pipeline.pexpireat(room, end_ms, nx=True)
                pipeline.pexpireat(room, end_ms, gt=True)
                pipeline.set(f"{room}:{user_id}", "true", pxat=end_ms)
                answer, _, added, *_ = pipeline.execute()
        self._clock.learn(answer)
        return bool(added)

    def stop(self, room_id: UUID, user_id: UUID) -> bool:
        """Say that the user types no more; True if they did. One round trip."""
        room = f"typing:{room_id}"
        with redis_errors():
            with self._redis.pipeline() as pipeline:
                pipeline.zrem(room, str(user_id))
                pipeline.delete(f"{room}:{user_id}")
                removed, _ = pipeline.execute()
        return bool(removed)

    def who(self, room_id: UUID) -> set[UUID]:
        """The users who type in the room. One round trip."""
        with redis_errors():
            with self._redis.pipeline() as pipeline:
                pipeline.time()
                pipeline.zrange(f"typing:{room_id}", 0, -1, withscores=True)
                answer, ends = pipeline.execute()
        now_ms = self._clock.learn(answer)
        return {UUID(text(user_id)) for user_id, end_ms in ends if float(end_ms) > now_ms}
