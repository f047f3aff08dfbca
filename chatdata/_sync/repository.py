"""What the repositories stand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from chatdata._sql import Row, maker
from chatdata.errors import NotFound, from_postgresql, postgresql_errors

Made = TypeVar("Made")
Parameters = Sequence[Any] | Mapping[str, Any]


class Repository:
    """Statements on a connection, each of them one round trip; it never commits.

    Use an autocommit connection for single calls, and `connection.transaction()` around those that belong
    together. Without autocommit psycopg opens a transaction, a round trip more, and the caller commits.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def _rows(
        self, make: Callable[[Sequence[Any]], Made], statement: str, parameters: Parameters
    ) -> list[Made]:
        """The rows of a statement, each as what `make` makes of its values."""
        try:
            with self._connection.cursor(row_factory=lambda _: make, binary=True) as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall()
        except psycopg.Error as error:
            raise from_postgresql(error) from error

    def _all(self, model: type[Row], statement: str, parameters: Parameters) -> list[Row]:
        """The rows of a statement, as models."""
        return self._rows(maker(model), statement, parameters)

    def _one(self, model: type[Row], statement: str, parameters: Parameters) -> Row:
        """The one row of a statement; NotFound if it has none."""
        rows = self._all(model, statement, parameters)
        if not rows:
            raise NotFound("there is no such row")
        return rows[0]

    def _count(self, statement: str, parameters: Parameters) -> int:
        """How many rows a statement changed."""
        with postgresql_errors():
            with self._connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.rowcount
