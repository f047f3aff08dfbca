"""How often a call sends something and waits for the answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from psycopg.pq.abc import PGconn


def round_trips(connection: PGconn, call: Callable[[], Any]) -> int:
    """The round trips to PostgreSQL that a call makes, as libpq's trace has them."""
    with tempfile.TemporaryFile("w+") as trace:
        connection.trace(trace.fileno())
        try:
            call()
        finally:
            connection.untrace()
        trace.seek(0)
        # Time, F(rontend) or B(ackend), length, message, ...
        senders = [line.split("\t")[1] for line in trace if line.count("\t") > 1]
    return sum(pair == ("F", "B") for pair in pairwise(senders))


def counted(client: Any) -> list[bytes]:
    """What each round trip of this redis-py client sends from now on; of either kind, not yet connected."""
    sent: list[bytes] = []
    pool = client.connection_pool
    kind: Any = pool.connection_class

    class Counted(kind):  # type: ignore[misc]  # whichever the pool has
        def send_packed_command(self, command: Any, *arguments: Any, **options: Any) -> Any:
            sent.append(command if isinstance(command, bytes) else b"".join(command))
            return super().send_packed_command(command, *arguments, **options)

    pool.connection_class = Counted
    return sent
