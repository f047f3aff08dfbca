"""The bookkeeping: yoyo's own tables, unchanged, and three of ours that the stock command ignores.

_yoyo_migrate_checksum    the content's SHA-256; counts only while applied_at_utc agrees with yoyo's row
_yoyo_migrate_unfinished  the intent of a non-transactional migration, gone once it has ended
_yoyo_migrate_lock        which row of yoyo_lock is ours, to tell a stale one from the stock command's
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import sql

from .yoyo_db import Connection, Session, last_rows, literals
from .yoyo_model import HOOK_PREFIX, History, MigrationError, Record, Unfinished

YOYO_SCHEMA_VERSION = 2
LOCK_TABLES = ("yoyo_lock", "_yoyo_migrate_lock")
TABLES = (
    "_yoyo_migration",
    "_yoyo_log",
    "_yoyo_version",
    "_yoyo_migrate_checksum",
    "_yoyo_migrate_unfinished",
)

LogOperation = Literal["apply", "rollback", "mark"]

_LOCK_DDL = """
CREATE TABLE IF NOT EXISTS {s}.yoyo_lock (
    locked int DEFAULT 1, ctime timestamp, pid int NOT NULL, PRIMARY KEY (locked));
CREATE TABLE IF NOT EXISTS {s}._yoyo_migrate_lock (
    locked int PRIMARY KEY, ctime timestamp NOT NULL, pid int NOT NULL)
"""
_YOYO_DDL = """
CREATE TABLE {s}._yoyo_migration (
    migration_hash varchar(64), migration_id varchar(255), applied_at_utc timestamp,
    PRIMARY KEY (migration_hash));
CREATE TABLE {s}._yoyo_log (
    id varchar(36), migration_hash varchar(64), migration_id varchar(255), operation varchar(10),
    username varchar(255), hostname varchar(255), comment varchar(255), created_at_utc timestamp,
    PRIMARY KEY (id));
CREATE TABLE {s}._yoyo_version (version int NOT NULL PRIMARY KEY, installed_at_utc timestamp);
INSERT INTO {s}._yoyo_version VALUES (2, pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')
"""
_OWN_DDL = """
CREATE TABLE IF NOT EXISTS {s}._yoyo_migrate_checksum (
    migration_hash varchar(64) PRIMARY KEY, checksum varchar(64) NOT NULL, applied_at_utc timestamp NOT NULL);
CREATE TABLE IF NOT EXISTS {s}._yoyo_migrate_unfinished (
    migration_hash varchar(64) PRIMARY KEY, migration_id varchar(255) NOT NULL,
    operation varchar(10) NOT NULL, statements_done int NOT NULL DEFAULT 0, statements_total int NOT NULL,
    started_at_utc timestamp NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What must be known of the server before anything is planned."""

    is_standby: bool
    is_read_only: bool
    database: str
    user: str
    schema_exists: bool
    may_create_schema: bool
    may_create_tables: bool
    tables: Sequence[str]
    unwritable: Sequence[str]

    def has(self, *tables: str) -> bool:
        return set(tables).issubset(self.tables)


class Bookkeeping:
    """Reads the record, and composes the statements that write it; the transactions are the caller's."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._settings = session.settings
        self._schema = sql.Identifier(session.settings.bookkeeping_schema)
        self._last_at: datetime | None = None
        self._log_id = ""

    @property
    def _connection(self) -> Connection:
        return self._session.connection

    def _sql(self, text: str, **parts: Any) -> sql.Composed:
        return sql.SQL(text).format(s=self._schema, **parts)

    def facts(self) -> Facts:
        """Set the session up, and look around, in one round trip."""
        query = self._sql(
            """
            SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool,
                current_database(), current_user,
                n.oid IS NOT NULL, has_database_privilege(current_database(), 'CREATE'),
                coalesce(has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'),
                         false),
                ARRAY(SELECT relname::text FROM pg_class
                      WHERE relnamespace = n.oid AND relkind IN ('r', 'p') AND relname IN ({tables})),
                ARRAY(SELECT relname::text FROM pg_class
                      WHERE relnamespace = n.oid AND relkind IN ('r', 'p') AND relname IN ({tables})
                      AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                               AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
                      ORDER BY 1)
            FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = {schema}
            """,
            tables=literals(LOCK_TABLES + TABLES),
            schema=sql.Literal(self._settings.bookkeeping_schema),
        )
        rows = last_rows(self._connection.execute(sql.SQL("; ").join([self._session.setup(), query])))
        return Facts(*rows[0])

    def history(self, facts: Facts) -> History:
        """What the record says, in the order in which it happened."""
        if not facts.has("_yoyo_migration"):
            return History()
        self._check_version(facts)
        unfinished: list[tuple[Any, ...]] = []
        checksum, join = sql.SQL("NULL"), sql.Composed([])
        if facts.has("_yoyo_migrate_checksum"):
            checksum = sql.SQL("c.checksum")
            join = self._sql("LEFT JOIN {s}._yoyo_migrate_checksum c USING (migration_hash, applied_at_utc)")
        records = self._connection.execute(
            self._sql(
                "SELECT migration_id, applied_at_utc, {checksum} FROM {s}._yoyo_migration {join}"
                " ORDER BY applied_at_utc, migration_id",
                checksum=checksum,
                join=join,
            )
        ).fetchall()
        if facts.has("_yoyo_migrate_unfinished"):
            unfinished = self._connection.execute(
                self._sql(
                    "SELECT migration_id, operation, statements_done, statements_total, started_at_utc"
                    " FROM {s}._yoyo_migrate_unfinished ORDER BY started_at_utc"
                )
            ).fetchall()
        last_apply_at, hook_ran_at, last_log_at = self._log_times()
        self._last_at = max((at for at in (last_log_at, *(row[1] for row in records)) if at), default=None)
        return History(
            records=tuple(Record(*row) for row in records),
            unfinished=tuple(Unfinished(*row) for row in unfinished),
            last_apply_at=last_apply_at,
            hook_ran_at=hook_ran_at,
        )

    def _check_version(self, facts: Facts) -> None:
        version = 1
        if facts.has("_yoyo_version"):
            rows = self._connection.execute(
                self._sql("SELECT max(version) FROM {s}._yoyo_version")
            ).fetchall()
            version = rows[0][0] or 1
        if version != YOYO_SCHEMA_VERSION:
            raise MigrationError(
                f"the bookkeeping has yoyo's format {version}, this module writes {YOYO_SCHEMA_VERSION}",
                "Nothing was changed; run `yoyo list` of yoyo 6 or later once, which upgrades an older one.",
            )

    def _log_times(self) -> tuple[datetime | None, dict[str, datetime], datetime | None]:
        """When a migration was last applied, when each hook last ran, and the newest time in the log."""
        rows = self._connection.execute(
            self._sql(
                "SELECT CASE WHEN operation = 'apply' AND migration_id LIKE {hook} THEN migration_id END,"
                " max(created_at_utc), max(created_at_utc) FILTER (WHERE operation = 'apply')"
                " FROM {s}._yoyo_log GROUP BY 1",
                hook=sql.Literal(HOOK_PREFIX + "%"),
            )
        ).fetchall()
        hooks = {id: at for id, at, _apply in rows if id is not None}
        last_apply_at = next((apply for id, _at, apply in rows if id is None), None)
        return last_apply_at, hooks, max((at for _id, at, _apply in rows), default=None)

    def missing_grant(self, facts: Facts) -> str | None:
        """The GRANT without which the bookkeeping cannot be written."""
        user, schema = _quoted(facts.user), _quoted(self._settings.bookkeeping_schema)
        if not facts.schema_exists:
            if not facts.may_create_schema:
                return f"GRANT CREATE ON DATABASE {_quoted(facts.database)} TO {user}"
        elif not facts.has(*LOCK_TABLES, *TABLES) and not facts.may_create_tables:
            return f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"
        if facts.unwritable:
            tables = ", ".join(f"{schema}.{_quoted(table)}" for table in facts.unwritable)
            return f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {user}"
        return None

    def create_lock_tables(self, facts: Facts) -> None:
        if not facts.schema_exists:
            self._connection.execute(self._sql("CREATE SCHEMA {s}"))
        if not facts.has(*LOCK_TABLES):
            # IF NOT EXISTS, here alone: the stock command may be creating its lock table at this moment.
            self._connection.execute(self._sql(_LOCK_DDL))

    def create_tables(self, facts: Facts) -> None:
        """Create what is not there, under the lock, in one transaction."""
        if not facts.has("_yoyo_migration"):
            self._connection.execute(self._sql(_YOYO_DDL))
        if not facts.has(*TABLES):
            self._connection.execute(self._sql(_OWN_DDL))

    def record_applied(self, id: str, checksum: str, operation: LogOperation) -> sql.Composed:
        """The statement that logs and marks a migration as applied."""
        return self._sql(
            """
            WITH stamp AS (SELECT {now} AS at),
            log AS ({log} RETURNING migration_hash, migration_id, created_at_utc),
            mark AS (INSERT INTO {s}._yoyo_migration (migration_hash, migration_id, applied_at_utc)
                     SELECT migration_hash, migration_id, created_at_utc FROM log)
            INSERT INTO {s}._yoyo_migrate_checksum (migration_hash, checksum, applied_at_utc)
            SELECT migration_hash, {checksum}, created_at_utc FROM log
            ON CONFLICT (migration_hash)
            DO UPDATE SET checksum = excluded.checksum, applied_at_utc = excluded.applied_at_utc
            RETURNING applied_at_utc
            """,
            now=self._now(),
            log=self._log(id, operation),
            checksum=sql.Literal(checksum),
        )

    def record_hook(self, id: str) -> sql.Composed:
        """The statement that logs a post-apply hook, which is never marked as applied."""
        return self._sql(
            "WITH stamp AS (SELECT {now} AS at) {log} RETURNING created_at_utc",
            now=self._now(),
            log=self._log(id, "apply"),
        )

    def record_rolled_back(self, id: str) -> sql.Composed:
        return self._sql(
            """
            WITH stamp AS (SELECT {now} AS at),
            log AS ({log}),
            unmark AS (DELETE FROM {s}._yoyo_migration WHERE migration_hash = {hash}),
            forget AS (DELETE FROM {s}._yoyo_migrate_checksum WHERE migration_hash = {hash})
            SELECT at FROM stamp
            """,
            now=self._now(),
            log=self._log(id, "rollback"),
            hash=sql.Literal(migration_hash(id)),
        )

    def adopt(self, id: str, checksum: str) -> sql.Composed:
        """The statement that records the content of a file that is applied already."""
        return self._sql(
            """
            INSERT INTO {s}._yoyo_migrate_checksum (migration_hash, checksum, applied_at_utc)
            SELECT migration_hash, {checksum}, applied_at_utc FROM {s}._yoyo_migration
            WHERE migration_hash = {hash}
            ON CONFLICT (migration_hash)
            DO UPDATE SET checksum = excluded.checksum, applied_at_utc = excluded.applied_at_utc
            """,
            hash=sql.Literal(migration_hash(id)),
            checksum=sql.Literal(checksum),
        )

    def begin_unfinished(self, id: str, operation: str, total: int) -> sql.Composed:
        return self._sql(
            "INSERT INTO {s}._yoyo_migrate_unfinished"
            " (migration_hash, migration_id, operation, statements_total, started_at_utc)"
            " VALUES ({values}, pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')",
            values=literals([migration_hash(id), id, operation, total]),
        )

    def advance_unfinished(self, id: str, done: int) -> sql.Composed:
        return self._sql(
            "UPDATE {s}._yoyo_migrate_unfinished SET statements_done = {done} WHERE migration_hash = {hash}",
            done=sql.Literal(done),
            hash=sql.Literal(migration_hash(id)),
        )

    def clear_unfinished(self, id: str) -> sql.Composed:
        return self._sql(
            "DELETE FROM {s}._yoyo_migrate_unfinished WHERE migration_hash = {hash}",
            hash=sql.Literal(migration_hash(id)),
        )

    def begin(self) -> None:
        """Begin a step, of which nothing is logged yet."""
        self._log_id = ""

    def is_logged(self) -> bool:
        """Whether the step's log row is there, and with it all of its transaction."""
        query = self._sql("SELECT 1 FROM {s}._yoyo_log WHERE id = {id}", id=sql.Literal(self._log_id))
        return bool(self._connection.execute(query).fetchall())

    def saw(self, at: datetime) -> None:
        """Remember the newest recorded time, so that the next one is later even if a clock was set back."""
        self._last_at = at

    def _now(self) -> sql.Composed:
        # greatest() passes over a NULL.
        return sql.SQL(
            "greatest(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC',"
            " {}::timestamp + interval '1 microsecond')"
        ).format(sql.Literal(self._last_at))

    def _log(self, id: str, operation: LogOperation) -> sql.Composed:
        self._log_id = str(uuid.uuid4())
        row: Sequence[Any] = (
            self._log_id,
            migration_hash(id),
            id,
            operation,
            socket.gethostname()[:255],
        )
        return self._sql(
            "INSERT INTO {s}._yoyo_log"
            " (id, migration_hash, migration_id, operation, hostname, comment, username, created_at_utc)"
            " SELECT {row}, 'yoyo_migrate', session_user, at FROM stamp",
            row=literals(row),
        )


def migration_hash(id: str) -> str:
    """yoyo's key of a migration: the SHA-256 of its id."""
    return hashlib.sha256(id.encode("utf-8")).hexdigest()


def _quoted(name: str) -> str:
    return name if name.isidentifier() and name.islower() else '"' + name.replace('"', '""') + '"'
