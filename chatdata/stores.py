"""The stores on Redis, for asyncio (Async...) and for threads."""

from chatdata._async.presence import AsyncPresence
from chatdata._async.refresh_tokens import AsyncRefreshTokens
from chatdata._async.typing_status import AsyncTypingStatus
from chatdata._redis import Change
from chatdata._sync.presence import Presence
from chatdata._sync.refresh_tokens import RefreshTokens
from chatdata._sync.typing_status import TypingStatus
from chatdata.tokens import RefreshToken, Session

__all__ = [
    "AsyncPresence",
    "AsyncRefreshTokens",
    "AsyncTypingStatus",
    "Change",
    "Presence",
    "RefreshToken",
    "RefreshTokens",
    "Session",
    "TypingStatus",
]
