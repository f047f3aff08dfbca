"""Rows of a plan, put into the database by COPY."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg import Connection

from chatdata.errors import NotFound, postgresql_errors
from chatdata.plan import Counts, Plan, Row, Rows

NO_PASSWORD = "!"  # noqa: S105  no hash: no password fits it
BATCH = 10_000  # rows a transaction: less than a second, far from every time limit of the contract

Columns = dict[str, str]  # name -> PostgreSQL's type, which binary COPY needs
_TIMES = {"created_at": "timestamptz", "updated_at": "timestamptz"}
USERS: Columns = {
    "id": "uuid", "email": "varchar", "username": "varchar", "avatar_url": "varchar", **_TIMES,
    "password_hash": "varchar",
}  # fmt: skip
ROOMS: Columns = {
    "id": "uuid", "name": "varchar", "description": "varchar", "is_private": "bool", "created_by": "uuid",
    **_TIMES,
}  # fmt: skip
MESSAGES: Columns = {
    "id": "uuid", "room_id": "uuid", "user_id": "uuid", "content": "text", "created_at": "timestamptz",
    "edited_at": "timestamptz", "deleted_at": "timestamptz", "seq": "int8",
}  # fmt: skip
MEMBERSHIPS: Columns = {
    "room_id": "uuid", "user_id": "uuid", "role": "varchar", "last_read_seq": "int8",
    "joined_at": "timestamptz",
}  # fmt: skip


def seed(
    connection: Connection[Any],
    plan: Plan,
    *,
    password_hash: str = NO_PASSWORD,
    progress: Callable[[int], object] = lambda _: None,
) -> Counts:
    """What was added of the plan's rows: all that were not there, and nothing else is touched.

    It commits BATCH rows at a time, so `connection` must not be in a transaction. Whatever interrupts it, the
    rows so far are sound, no member sees a room that is not complete, and the same plan again adds the rest.
    A user who is there already keeps their password. `progress` is called with numbers of rows, whose sum is
    sum(Rows(plan).counts). Raises the errors of chatdata.errors.
    """
    rows = Rows(plan)
    with postgresql_errors():
        loader = _Loader(connection, rows.key, progress)
        return Counts(
            users=sum(loader.users(batch, password_hash) for batch in _batches(rows.users())),
            rooms=sum(loader.rooms(batch) for batch in _batches(rows.rooms())),
            # Before the members: they see a room when it is complete.
            messages=sum(loader.messages(batch) for batch in _batches(rows.messages())),
            memberships=sum(loader.memberships(batch) for batch in _batches(rows.memberships())),
        )


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield batch


class _Loader:
    """Each method adds those of a batch that are not there, in one transaction, and returns how many."""

    def __init__(self, connection: Connection[Any], key: str, progress: Callable[[int], object]) -> None:
        self._connection = connection
        self._lock = int(key[:15], 16)
        self._progress = progress
        self._posted: Counter[UUID] = Counter()  # by this loader, in each room

    def users(self, batch: list[Row], password_hash: str) -> int:
        return self._add("users", USERS, [(*row, password_hash) for row in batch])

    def rooms(self, batch: list[Row]) -> int:
        return self._add("rooms", ROOMS, batch)

    def _add(self, table: str, columns: Columns, batch: list[Row]) -> int:
        with self._connection.transaction():
            self._take_turns()
            there = self._there(table, [row[0] for row in batch])
            new = [row for row in batch if row[0] not in there]
            self._copy(table, columns, new)
        self._progress(len(batch))
        return len(new)

    def messages(self, batch: list[Row]) -> int:
        with self._connection.transaction():
            self._take_turns()
            ids = sorted({row[1] for row in batch})
            locked = self._connection.execute(
                "SELECT id, last_seq FROM rooms WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids]
            )
            last: dict[UUID, int] = dict(locked.fetchall())
            if len(last) < len(ids):
                raise NotFound("a room was deleted while it was being filled: seed again")
            # A room whose numbers are all from this loader holds nothing of this batch, and is not searched.
            unsure = {id for id in ids if last[id] != self._posted[id]}
            there = self._there("messages", [row[0] for row in batch if row[1] in unsure])
            new = [row for row in batch if row[0] not in there]
            counts = Counter(row[1] for row in new)
            self._connection.execute(
                "UPDATE rooms SET last_seq = last_seq + taken.count"
                " FROM unnest(%s::uuid[], %s::bigint[]) AS taken (id, count) WHERE rooms.id = taken.id",
                [list(counts), list(counts.values())],
            )

            def numbered() -> Iterator[Row]:
                for row in new:
                    last[row[1]] += 1
                    yield *row, last[row[1]]

            self._copy("messages", MESSAGES, numbered())
        self._posted += counts
        self._progress(len(batch))
        return len(new)

    def memberships(self, batch: list[Row]) -> int:
        with self._connection.transaction():
            self._take_turns()
            rooms, users = [row[0] for row in batch], [row[1] for row in batch]
            found = self._connection.execute(
                "SELECT room_id, user_id FROM room_users"
                " JOIN unnest(%s::uuid[], %s::uuid[]) AS wanted (room_id, user_id) USING (room_id, user_id)",
                [rooms, users],
            )
            there = set(found.fetchall())
            new = [row for row in batch if row[:2] not in there]
            self._copy("room_users", MEMBERSHIPS, new)
        self._progress(len(batch))
        return len(new)

    def _take_turns(self) -> None:
        """Of two loaders of one plan, one waits for the other's batch, then finds its rows."""
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", [self._lock])

    def _there(self, table: str, ids: list[UUID]) -> set[UUID]:
        if not ids:
            return set()
        found = self._connection.execute(f"SELECT id FROM {table} WHERE id = ANY(%s)", [ids])
        return {id for (id,) in found}

    def _copy(self, table: str, columns: Columns, rows: Iterable[Row]) -> None:
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(list(columns.values()))
            for row in rows:
                copy.write_row(row)
