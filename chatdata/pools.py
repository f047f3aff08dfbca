"""An application process's connections, for asyncio (AsyncPools) and for threads."""

from chatdata._async.pools import AsyncPools
from chatdata._sync.pools import Pools

__all__ = ["AsyncPools", "Pools"]
