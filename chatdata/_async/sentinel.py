"""A pool of connections to whoever is master, by what the Sentinels say together."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError, TimeoutError
from redis.sentinel import MasterNotFoundError

from chatdata._redis import (
    AsyncBlockingConnectionPool,
    AsyncSentinel,
    AsyncSentinelConnectionPool,
    AsyncSentinelManagedSSLConnection,
    AsyncTrustingConnection,
)


class AsyncMasterFinder(AsyncSentinel):
    """Takes the word of the newest failover, where redis-py takes that of the first Sentinel.

    One that is cut off from the others goes on naming the old master, which may still answer.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call,unused-ignore]
        for known in self.sentinels:
            known.connection_pool.connection_class = AsyncTrustingConnection

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port. Asks until a majority agrees; whoever did not answer is asked last the next time."""
        # Of each answer the failover's number, and the master if it is up.
        answers: list[tuple[int, tuple[str, int] | None]] = []
        silent = []
        for sentinel in list(self.sentinels):
            try:
                masters: Any = await sentinel.sentinel_masters()
            except (ConnectionLost, TimeoutError):
                silent.append(sentinel)
                continue
            if state := masters.get(service_name):
                up = self._usable(state, service_name)
                answers.append((state["config-epoch"], (state["ip"], state["port"]) if up else None))
                if answers.count(answers[-1]) > len(self.sentinels) // 2:
                    break
        if silent:
            self.sentinels = [known for known in self.sentinels if known not in silent] + silent
        newest = max((epoch for epoch, _ in answers), default=0)
        named = [master for epoch, master in answers if epoch == newest]
        master = max(named, key=named.count, default=None)
        if master is None:
            raise MasterNotFoundError(f"the Sentinels name no master of {service_name} that answers")
        return master

    def _usable(self, state: dict[str, Any], service_name: str) -> bool:
        return bool(self.check_master_state(state, service_name))  # type: ignore[no-untyped-call,unused-ignore]


class AsyncMasterConnection(AsyncTrustingConnection, AsyncSentinelManagedSSLConnection):
    """Given up when its server has lost its replicas: another one may have been made master meanwhile."""

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Send it to whoever is master, where redis-py connects once more to the server that it had."""
        await self._connect_retry()  # type: ignore[no-untyped-call,unused-ignore]
        await super().send_packed_command(*arguments, **options)  # type: ignore[no-untyped-call,unused-ignore]

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """A reply. Raises redis-py's ConnectionError for NOREPLICAS, as it does itself for READONLY."""
        # Here redis-py keeps one that timed out, and the late reply would be taken for the next command's.
        options.setdefault("disconnect_on_error", True)
        try:
            return await super().read_response(*arguments, **options)
        except ResponseError as error:
            if str(error).startswith("NOREPLICAS"):
                await self.disconnect()  # type: ignore[no-untyped-call,unused-ignore]
                raise ConnectionLost(str(error)) from error
            raise


class AsyncMasterPool(AsyncSentinelConnectionPool, AsyncBlockingConnectionPool):
    """A pool that waits for a connection, each of them to whoever is master."""
