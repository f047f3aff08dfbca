"""What the repositories stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection

from chatdata._sql import Row, maker
from chatdata.errors import NotFound, from_postgresql, postgresql_errors

Made = TypeVar("Made")
Parameters = Sequence[Any] | Mapping[str, Any]


class AsyncRepository:
    """Statements on a connection, each of them one round trip; it never commits.

    Use an autocommit connection for single calls, and `connection.transaction()` around those that belong
    together. Without autocommit psycopg opens a transaction, a round trip more, and the caller commits.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def _rows(
        self, make: Callable[[Sequence[Any]], Made], statement: str, parameters: Parameters
    ) -> list[Made]:
        """The rows of a statement, each as what `make` makes of its values."""
        try:
            async with self._connection.cursor(row_factory=lambda _: make, binary=True) as cursor:
                await cursor.execute(statement, parameters)
                return await cursor.fetchall()
        except psycopg.Error as error:
            raise from_postgresql(error) from error

    async def _all(self, model: type[Row], statement: str, parameters: Parameters) -> list[Row]:
        """The rows of a statement, as models."""
        return await self._rows(maker(model), statement, parameters)

    async def _one(self, model: type[Row], statement: str, parameters: Parameters) -> Row:
        """The one row of a statement; NotFound if it has none."""
        rows = await self._all(model, statement, parameters)
        if not rows:
            raise NotFound("there is no such row")
        return rows[0]

    async def _count(self, statement: str, parameters: Parameters) -> int:
        """How many rows a statement changed."""
        with postgresql_errors():
            async with self._connection.cursor() as cursor:
                await cursor.execute(statement, parameters)
                return cursor.rowcount
