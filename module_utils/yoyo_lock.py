"""Keeps two migrations of one database apart, ours and the stock command's alike."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from .yoyo_db import Connection, Session, Settings, connect, last_rows, literals
from .yoyo_model import MigrationError

_CLASS_ID = int.from_bytes(b"yoyo", "big")
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds what we wait for."""

    pid: int
    user: str | None = None
    application: str | None = None
    client: str | None = None
    age_s: int | None = None

    def __str__(self) -> str:
        who = ", ".join(
            part for part in (self.application, self.user and f"user {self.user}", self.client) if part
        )
        age = f", for {self.age_s} s" if self.age_s is not None else ""
        return f"pid {self.pid}{f' ({who})' if who else ''}{age}"


class _Wait:
    """A time in which something is polled for."""

    def __init__(self, seconds: int) -> None:
        self._started = time.monotonic()
        self._seconds = seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self._started >= self._seconds

    def poll(self) -> int:
        """Pause until the next look; the milliseconds since the first."""
        time.sleep(_POLL_S)
        return int((time.monotonic() - self._started) * 1000)


class MigrationLock:
    """A session advisory lock, and under it the row in yoyo_lock that makes the stock command wait.

    The lock is polled: a session that blocks inside pg_advisory_lock() holds a snapshot, and in the session
    that holds the lock CREATE INDEX CONCURRENTLY would wait for that snapshot for ever.
    """

    def __init__(self, session: Session) -> None:
        schema = session.settings.bookkeeping_schema
        self._session = session
        self._schema = sql.Identifier(schema)
        self._object_id = zlib.crc32(schema.encode("utf-8"))
        self._has_row = False
        self._wait: _Wait | None = None
        self.waited_ms = 0
        self.holder: Holder | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"waited_ms": self.waited_ms, "holder": asdict(self.holder) if self.holder else None}

    def acquire(self, *, at_least_s: int = 0) -> None:
        """Take the advisory lock, or raise MigrationError that names its holder.

        lock_wait_s, or `at_least_s` if that is longer, is for this lock and the row together.
        """
        self._wait = _Wait(max(self._session.settings.lock_wait_s, at_least_s))
        # Twice, so that is_held can give one back and take it again.
        attempt = sql.SQL("SELECT pg_try_advisory_lock({key}) AND pg_try_advisory_lock({key})").format(
            key=self._key()
        )
        while not self._session.connection.execute(attempt).fetchall()[0][0]:
            self.holder = self.find_holder() or self.holder
            if self._wait.is_over:
                raise MigrationError(
                    f"another migration run holds the lock: {self.holder or 'it ended just now'}",
                    "Nothing was changed; wait for it, or raise lock_wait_s, and run again.",
                    extra={"lock": self.as_dict()},
                )
            self.waited_ms = self._wait.poll()

    def find_holder(self) -> Holder | None:
        rows = self._session.connection.execute(
            sql.SQL(
                "SELECT a.pid, a.usename, a.application_name, a.client_addr::text,"
                " extract(epoch FROM clock_timestamp() - a.backend_start)::int"
                " FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE {}"
            ).format(self._granted())
        ).fetchall()
        return Holder(*rows[0]) if rows else None

    def is_held(self) -> sql.Composed:
        """The query that tells whether this session still holds the lock, and the time of its transaction.

        Before each migration, so not by pg_locks, which takes as long as all the rest.
        """
        return sql.SQL(
            "SELECT pg_catalog.pg_advisory_unlock({key}) AND pg_catalog.pg_try_advisory_lock({key}),"
            " extract(epoch FROM statement_timestamp())::text"
        ).format(key=self._key())

    def take_row(self) -> None:
        """Put our backend pid into yoyo_lock, or raise MigrationError that names the foreign row.

        Under the advisory lock no other run is alive, so a row that _yoyo_migrate_lock knows is a leftover.
        """
        wait = self._wait or _Wait(self._session.settings.lock_wait_s)
        while not self._try_row():
            foreign = self._foreign_row()
            if foreign is None:
                continue
            self.holder = foreign
            if wait.is_over:
                if not self._session.settings.break_stale_lock:
                    raise MigrationError(
                        f"the stock yoyo command holds its lock: client process {foreign}",
                        "Nothing was changed; wait for it, or, if that process is dead, run again with "
                        "stale_lock=break (or run `yoyo break-lock`).",
                        extra={"lock": self.as_dict()},
                    )
                self._break_row(foreign)
                continue
            self.waited_ms = wait.poll()
        self._has_row = True

    def release(self) -> None:
        """Give back the row and the advisory lock; if the connection is gone, the lock is too."""
        connection = self._session.connection
        if connection.closed:
            return
        steps: list[sql.Composable] = [sql.SQL("SELECT pg_advisory_unlock_all()")]
        if self._has_row:
            self._has_row = False
            forget = sql.SQL("DELETE FROM {s}._yoyo_migrate_lock").format(s=self._schema)
            steps = [self._session.setup(), self._delete_own_row(), forget, *steps]
        connection.execute(sql.SQL("; ").join(steps))

    def _try_row(self) -> bool:
        insert = sql.SQL(
            """
            WITH taken AS (
                INSERT INTO {s}.yoyo_lock (locked, ctime, pid)
                VALUES (1, clock_timestamp() AT TIME ZONE 'UTC', pg_backend_pid())
                ON CONFLICT (locked) DO NOTHING RETURNING locked, ctime, pid)
            INSERT INTO {s}._yoyo_migrate_lock SELECT locked, ctime, pid FROM taken
            ON CONFLICT (locked) DO UPDATE SET ctime = excluded.ctime, pid = excluded.pid
            RETURNING pid
            """
        ).format(s=self._schema)
        query = sql.SQL("; ").join([self._delete_own_row(), insert])
        return bool(last_rows(self._session.connection.execute(query)))

    def _delete_own_row(self) -> sql.Composed:
        return sql.SQL(
            "DELETE FROM {s}.yoyo_lock USING {s}._yoyo_migrate_lock own"
            " WHERE yoyo_lock.pid = own.pid AND yoyo_lock.ctime = own.ctime"
        ).format(s=self._schema)

    def _foreign_row(self) -> Holder | None:
        rows = self._session.connection.execute(
            sql.SQL(
                "SELECT pid, extract(epoch FROM clock_timestamp() AT TIME ZONE 'UTC' - ctime)::int"
                " FROM {s}.yoyo_lock"
            ).format(s=self._schema)
        ).fetchall()
        return Holder(pid=rows[0][0], age_s=rows[0][1]) if rows else None

    def _break_row(self, foreign: Holder) -> None:
        query = sql.SQL("DELETE FROM {s}.yoyo_lock WHERE pid = {pid}")
        self._session.connection.execute(query.format(s=self._schema, pid=sql.Literal(foreign.pid)))

    def _key(self) -> sql.Composed:
        return literals([_CLASS_ID, _signed(self._object_id)])

    def _granted(self) -> sql.Composed:
        return sql.SQL(
            "l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = {} AND l.objid = {}"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).format(sql.Literal(_CLASS_ID), sql.Literal(self._object_id))


class BlockerWatch:
    """Finds out who is in the way of a migration that waits for a lock; the error of a timeout does not say.

    One thread for a run. It opens a connection of its own, but only once a migration has run for half of
    lock_timeout.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._delay_s = settings.lock_timeout_ms / 2000
        self._watched: tuple[int, float] | None = None  # the session's pid, and when its migration began
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.blockers: list[Holder] = []

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        """Watch for as long as the block lasts."""
        self.blockers = []
        self._watched = (connection.info.backend_pid, time.monotonic())
        if self._thread is None and self._delay_s > 0:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self._watched = None

    def close(self) -> None:
        self._closing.set()
        if self._thread and self._thread.is_alive():
            self._thread.join(timeout=self._settings.connect_timeout_s)

    def _run(self) -> None:
        while not self._closing.wait(min(max(self._delay_s / 4, 0.02), 1.0)):
            watched = self._watched
            if watched and time.monotonic() - watched[1] >= self._delay_s:
                self._observe(watched)

    def _observe(self, watched: tuple[int, float]) -> None:
        try:
            with connect(self._settings) as observer:
                while self._watched == watched and not self._closing.wait(0.02):
                    rows = observer.execute(_BLOCKERS, [watched[0]]).fetchall()
                    if rows and self._watched == watched:
                        self.blockers = [Holder(*row) for row in rows]
                    self._closing.wait(self._delay_s / 4)
        except (psycopg.Error, MigrationError):
            return  # the migration's own error is the one that counts


_BLOCKERS = (
    "SELECT pid, usename, application_name, client_addr::text,"
    " extract(epoch FROM clock_timestamp() - coalesce(xact_start, backend_start))::int"
    " FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%s))"
)


def _signed(value: int) -> int:
    """An unsigned 32-bit value as PostgreSQL's int."""
    return value - (1 << 32) if value >= 1 << 31 else value
