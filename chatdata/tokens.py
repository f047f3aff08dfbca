"""Access tokens (JWT), and what a refresh token is made of.

Pure functions over keys: nothing here talks to a server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
from pydantic import SecretBytes

from chatdata.errors import TokenInvalid, TokenUnknown

LEAST_KEY_BYTES = 32
ALGORITHM = "HS256"


def _checked(name: str, key: SecretBytes) -> bytes:
    value = key.get_secret_value()
    if len(value) < LEAST_KEY_BYTES:
        raise ValueError(f"{name} has {len(value)} bytes; at least {LEAST_KEY_BYTES} are needed")
    return value


@dataclass(frozen=True)
class AccessToken:
    """What a checked access token says: whose it is, its own id, and its times."""

    user_id: UUID
    id: UUID
    issued_at: datetime
    expires_at: datetime


class AccessTokens:
    """Signs and checks access tokens: JWT, HS256 alone, the key named by `kid`.

    `keys`: kid -> key of at least 32 bytes; all of them are accepted, `signing` is the kid that signs. To
    change the key, add the new one everywhere, then sign with it, then drop the old one `ttl_s` later.
    `leeway_s`: by how much the clocks of two hosts may differ.
    """

    def __init__(
        self, keys: Mapping[str, SecretBytes], signing: str, *, ttl_s: int = 900, leeway_s: int = 10
    ) -> None:
        self._keys = {kid: _checked(f"the key {kid!r}", key) for kid, key in keys.items()}
        if signing not in self._keys:
            raise ValueError(f"no key {signing!r} to sign with; there are {sorted(self._keys)}")
        self._signing = signing
        self._ttl = timedelta(seconds=ttl_s)
        self._leeway = timedelta(seconds=leeway_s)

    def sign(self, user_id: UUID) -> str:
        """A token for the user, good for `ttl_s` seconds."""
        now = datetime.now(UTC)
        claims = {"sub": str(user_id), "jti": str(uuid4()), "iat": now, "exp": now + self._ttl}
        return jwt.encode(claims, self._keys[self._signing], ALGORITHM, headers={"kid": self._signing})

    def check(self, token: str) -> AccessToken:
        """What the token says, once its signature, its times and its claims hold.

        Raises TokenInvalid, which says what is wrong.
        """
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            if kid not in self._keys:
                raise TokenInvalid("access token: no key of ours has its kid")
            claims = jwt.decode(
                token,
                self._keys[kid],
                algorithms=[ALGORITHM],
                leeway=self._leeway,
                options={"require": ["exp", "iat", "sub", "jti"]},
            )
            return AccessToken(
                UUID(claims["sub"]),
                UUID(claims["jti"]),
                datetime.fromtimestamp(claims["iat"], UTC),
                datetime.fromtimestamp(claims["exp"], UTC),
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenInvalid(f"access token: {error}") from error


@dataclass(frozen=True)
class RefreshToken:
    """A refresh token, its user and its session; `value` is what the client keeps."""

    user_id: UUID
    session_id: UUID
    value: str = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 in hex: all of the token that Redis ever sees."""
        return hashlib.sha256(self.value.encode()).hexdigest()


@dataclass(frozen=True)
class Session:
    """A device that is signed in: since when, and when its token was last rotated."""

    user_id: UUID
    id: UUID
    device: str
    created_at: datetime
    rotated_at: datetime


class RefreshTokenKeys:
    """Makes and reads refresh tokens, with server keys of at least 32 bytes each.

    A token is user id, session id, 32 bytes, and 16 bytes of an HMAC over these, in 107 characters of
    base64url. By the last, one that we never issued is refused before anything is looked up, so nobody can
    end a stranger's session by a guess that looks like an old token.

    The first token's 32 bytes are random, a successor's are HMAC-SHA256(server key, the token before it). So
    a client that lost the answer to a refresh can be given the same successor again, although only digests
    are kept. What that costs: who has a server key and one token of a session can compute all that follow it.
    Who has the key alone can compute none, but can end sessions whose ids they know; Redis's contents alone
    give nothing away. Keep the key out of Redis and of its backups.

    The first of `keys` makes tokens, all of them are accepted. To change it, add the new key last everywhere,
    then put it first, then drop the old one when its last token has expired (7 days). A key dropped at once
    signs out everybody whose token it made.
    """

    def __init__(self, keys: Sequence[SecretBytes]) -> None:
        if not keys:
            raise ValueError("refresh tokens need a server key")
        self._keys = [_checked(f"server key {place}", key) for place, key in enumerate(keys, 1)]

    def new(self, user_id: UUID, session_id: UUID) -> RefreshToken:
        """The first token of a session."""
        return self._made(self._keys[0], user_id, session_id, secrets.token_bytes(32))

    def successors(self, token: RefreshToken) -> list[RefreshToken]:
        """The token that follows, as each key makes it; the preferred one first."""
        return [
            self._made(
                key,
                token.user_id,
                token.session_id,
                hmac.digest(key, b"successor:" + token.value.encode(), "sha256"),
            )
            for key in self._keys
        ]

    def read(self, value: str) -> RefreshToken:
        """The token in what a client sent.

        Raises TokenUnknown for one that no key of ours made.
        """
        try:
            raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        body, mac = raw[:-16], raw[-16:]
        if (
            len(raw) != 80
            or _text(raw) != value  # several spellings of the last character decode alike
            or not any(hmac.compare_digest(_mac(key, body), mac) for key in self._keys)
        ):
            raise TokenUnknown("refresh token: not one of ours")
        return RefreshToken(UUID(bytes=body[:16]), UUID(bytes=body[16:32]), value)

    @staticmethod
    def _made(key: bytes, user_id: UUID, session_id: UUID, rest: bytes) -> RefreshToken:
        body = user_id.bytes + session_id.bytes + rest
        return RefreshToken(user_id, session_id, _text(body + _mac(key, body)))


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"token:" + body, "sha256")[:16]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
