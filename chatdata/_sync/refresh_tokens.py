"""Refresh tokens in Redis `sessions`: a session for each device, rotation, detection of reuse."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretBytes
from redis.exceptions import NoScriptError

from chatdata._redis import Redis, Script, milliseconds, text
from chatdata.errors import TokenReused, TokenUnknown, Unavailable, redis_errors
from chatdata.tokens import RefreshToken, RefreshTokenKeys, Session

WEEK_S = 7 * 24 * 60 * 60


class RefreshTokens:
    """Issues, rotates and revokes refresh tokens.

    Keys, all of which expire with the tokens, and hold SHA-256 digests alone:
    refresh_token:<user id> -> hex digest of the newest token, of whichever device;
    refresh_token:<user id>:sessions -> sorted set, session id by its end in ms since 1970;
    refresh_token:<user id>:session:<session id> -> hash: digests current and previous, device, created_ms,
    rotated_ms.

    A token is good once, for `ttl_s` after it was made. For `grace_s` after its rotation the same token gets
    the same successor again: a client whose answer got lost asks again, and one that asks 50 times at once
    gets one token. If a token comes later than that, or an older one at all, somebody holds what is not
    theirs: the session is revoked, and its owner signs in anew. What the grace costs: a thief with a token
    that was rotated a moment ago shares the session, until either of the two sends a token that the other has
    rotated.
    How the successor can be told again though only its digest is kept, and what a server key gives away:
    chatdata.tokens.RefreshTokenKeys.

    `keys`: server keys of at least 32 bytes, the one that makes tokens first.
    `replicas`: a token is handed out only when so many replicas have it, within `replicas_timeout_s`:
    Settings.redis_sessions_replicas, or 0, which asks none.
    Every method raises Unavailable or Timeout where Redis cannot be reached; what was under way may have
    happened, and may be repeated: within the grace, `rotate` then gives the same token.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Sequence[SecretBytes],
        *,
        replicas: int,
        replicas_timeout_s: float = 1,
        ttl_s: float = WEEK_S,
        grace_s: float = 10,
    ) -> None:
        self._redis = redis
        self._keys = RefreshTokenKeys(keys)
        self._ttl_ms = milliseconds(ttl_s)
        self._grace_ms = round(grace_s * 1000)
        self._replicas = replicas
        self._replicas_timeout_ms = milliseconds(replicas_timeout_s)
        self._issue, self._rotate, self._revoke = (
            Script.load("issue"),
            Script.load("rotate"),
            Script.load("revoke"),
        )

    def issue(self, user_id: UUID, device: str) -> RefreshToken:
        """The first token of a new session, for a user who has just signed in on `device`; one round trip."""
        token = self._keys.new(user_id, uuid4())
        self._run(
            self._issue,
            self._names(user_id, token.session_id),
            [str(token.session_id), token.digest, device, self._ttl_ms],
        )
        return token

    def rotate(self, value: str) -> RefreshToken:
        """The token that follows the one that a client sent, which is thereby used; one round trip.

        Raises TokenReused if it was used before, and its session is now revoked; TokenUnknown if it is none
        of ours, has expired, or its session was revoked.
        """
        token = self._keys.read(value)
        successors = self._keys.successors(token)
        place = self._run(
            self._rotate,
            self._names(token.user_id, token.session_id),
            [
                *(str(token.session_id), token.digest, self._ttl_ms, self._grace_ms),
                *(successor.digest for successor in successors),
            ],
        )
        if place < 0:
            raise TokenReused(f"refresh token: used before; session {token.session_id} is revoked")
        if place == 0:
            raise TokenUnknown("refresh token: it expired, or its session was revoked")
        return successors[place - 1]

    def revoke(self, user_id: UUID, session_id: UUID) -> bool:
        """Sign one device out; True if it was signed in. One round trip."""
        return bool(self._run(self._revoke, self._names(user_id), [str(session_id)]))

    def revoke_all(self, user_id: UUID) -> int:
        """Sign the user out on every device; how many there were. One round trip."""
        return int(self._run(self._revoke, self._names(user_id), []))

    def sessions(self, user_id: UUID) -> list[Session]:
        """The devices on which the user is signed in, the one that expires first first; two round trips."""
        _, index, prefix = self._names(user_id)
        with redis_errors():
            ids = [text(name) for name in self._redis.zrange(index, 0, -1)]
            with self._redis.pipeline(transaction=False) as pipeline:
                for name in ids:
                    pipeline.hmget(prefix + name, ["device", "created_ms", "rotated_ms"])
                rows = pipeline.execute() if ids else []
        return [
            Session(user_id, UUID(name), text(device), _time(created), _time(rotated))
            for name, (device, created, rotated) in zip(ids, rows, strict=True)
            if device is not None
        ]

    def read(self, value: str) -> RefreshToken:
        """Whose token it is and of which session (to revoke it, say), without asking Redis.

        Raises TokenUnknown if it is none of ours.
        """
        return self._keys.read(value)

    @staticmethod
    def _names(user_id: UUID, session_id: UUID | None = None) -> list[str]:
        newest = f"refresh_token:{user_id}"
        return [newest, f"{newest}:sessions", f"{newest}:session:{session_id or ''}"]

    def _run(self, script: Script, keys: list[str], arguments: list[str | int]) -> int:
        """The script's answer, once enough replicas have what it wrote; one round trip."""
        words: list[Any] = [len(keys), *keys, *arguments]
        with redis_errors():
            if self._replicas:
                return self._replicated(script.source, *words)
            try:
                return int(self._redis.evalsha(script.sha, *words))
            except NoScriptError:  # Redis was restarted: this call brings the script along
                return int(self._redis.eval(script.source, *words))

    def _replicated(self, *words: Any) -> int:
        """What EVAL answers. With EVALSHA, WAIT would wait in vain behind a script that is not known yet."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.eval(*words)
            pipeline.wait(self._replicas, self._replicas_timeout_ms)
            answer, having = pipeline.execute(raise_on_error=False)
        for failure in (answer, having):
            if isinstance(failure, Exception):
                raise failure
        if having < self._replicas:
            raise Unavailable(f"Redis: {having} of {self._replicas} replicas have the token")
        return int(answer)


def _time(milliseconds_since_1970: Any) -> datetime:
    return datetime.fromtimestamp(int(milliseconds_since_1970) / 1000, UTC)
