"""Runs the steps of a plan, each together with its bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import pq, sql

from .yoyo_db import (
    ScriptError,
    Session,
    error_detail,
    is_disconnect,
    last_rows,
    run_script,
    script_error_detail,
)
from .yoyo_files import Migrations
from .yoyo_lock import BlockerWatch, MigrationLock, with_blockers
from .yoyo_model import ErrorDetail, MigrationError, MigrationFile, Step
from .yoyo_python import PythonMigration
from .yoyo_record import Bookkeeping
from .yoyo_sql import Statement, statements, transaction_control

_RETRIED = ("55P03", "40P01")


@dataclass(slots=True)
class Done:
    """What a run has done so far, in the module's return shape."""

    applied: list[dict[str, Any]] = field(default_factory=list)
    rolled_back: list[dict[str, Any]] = field(default_factory=list)
    marked: list[dict[str, Any]] = field(default_factory=list)
    post_apply: list[dict[str, Any]] = field(default_factory=list)
    repaired: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: Step, duration_ms: int = 0) -> None:
        {
            "apply": self.applied,
            "rollback": self.rolled_back,
            "mark": self.marked,
            "hook": self.post_apply,
            "adopt": self.repaired,
            "clear": self.repaired,
        }[step.action].append(
            {
                "id": step.id,
                "checksum": step.checksum,
                "transactional": step.transactional,
                "duration_ms": duration_ms,
            }
        )

    @property
    def anything(self) -> bool:
        return any((self.applied, self.rolled_back, self.marked, self.post_apply, self.repaired))


class Executor:
    """Executes steps over a session that holds the migration lock."""

    def __init__(
        self,
        session: Session,
        migrations: Migrations,
        bookkeeping: Bookkeeping,
        lock: MigrationLock,
    ) -> None:
        self._session = session
        self._migrations = migrations
        self._bookkeeping = bookkeeping
        self._lock = lock
        self.done = Done()

    def run(self, step: Step) -> None:
        """Run one step to its end, or raise MigrationError and leave no transaction open."""
        started = time.monotonic()
        if step.action in ("mark", "adopt", "clear"):
            self._write(self._record_of(step))
        elif step.transactional:
            self._run_transactional(step)
        else:
            self._run_statements(step)
        self.done.add(step, int((time.monotonic() - started) * 1000))

    def _record_of(self, step: Step) -> sql.Composed:
        book = self._bookkeeping
        if step.action == "clear":
            return book.clear_unfinished(step.id)
        if step.action == "rollback":
            return book.record_rolled_back(step.id)
        if step.action == "hook":
            return book.record_hook(step.id)
        if step.action == "adopt":
            return book.adopt(step.id, step.checksum or "")
        return book.record_applied(step.id, step.checksum or "", "mark" if step.action == "mark" else "apply")

    def _write(self, record: sql.Composed) -> None:
        """Bookkeeping alone: one statement, hence one transaction."""
        cursor = self._session.connection.execute(record)
        if cursor.description:
            self._bookkeeping.saw(cursor.fetchall()[0][0])

    # Transactional migrations

    def _run_transactional(self, step: Step) -> None:
        execute = self._executable(step)
        attempt = 0
        while True:
            with BlockerWatch(self._session.connection, self._session.settings) as watch:
                failure = self._attempt(step, execute)
            if failure is None:
                return
            attempt += 1
            if failure.sqlstate not in _RETRIED or attempt > self._session.settings.lock_retries:
                tried = f" (tried {attempt} times)" if attempt > 1 else ""
                message = with_blockers(failure, watch.blockers) + tried
                raise self._failed(replace(failure, message=message))
            # Stay out of the queue for as long as we stood in it, so that those behind us get through.
            time.sleep(self._session.settings.lock_timeout_ms / 1000)

    def _attempt(self, step: Step, execute: Callable[[], None]) -> ErrorDetail | None:
        """Run the migration and its record as one transaction; the error if it was rolled back."""
        connection = self._session.connection
        path = step.file.path if step.file else None
        committing = False
        try:
            begin = [self._session.setup(), _CLEAN_SESSION, sql.SQL("BEGIN"), self._lock.is_held()]
            if not last_rows(connection.execute(sql.SQL("; ").join(begin)))[0][0]:
                raise self._lock_lost()
            execute()
            if connection.info.transaction_status != pq.TransactionStatus.INTRANS:
                raise MigrationError(
                    ErrorDetail("the migration ended its own transaction, so part of it is committed", step.id, path),
                    f"Look what it did, finish it by hand, and run state=baselined target={step.id}.",
                    database_state="partial",
                )
            committing = True
            self._commit(step)
        except ScriptError as failure:
            if is_disconnect(connection, failure.error):
                return self._resolve(step, failure.error)
            self._session.rollback()
            return script_error_detail(failure, step.id, *self._script(step))
        except psycopg.Error as failure:
            if is_disconnect(connection, failure):
                return self._resolve(step, failure)
            self._session.rollback()
            return replace(error_detail(failure), id=step.id, file=path)
        except KeyboardInterrupt:
            # A signal. psycopg has cancelled the statement; whether a COMMIT got through is for the record to say.
            self._session.rollback()
            if committing and self._bookkeeping.is_recorded(step.id) == (step.action == "apply"):
                self.done.add(step)
            raise
        return None

    def _commit(self, step: Step) -> None:
        """The record and the COMMIT in one round trip, as the role that owns the bookkeeping."""
        settings = self._session.settings
        role = sql.SQL("SET ROLE {}").format(sql.Identifier(settings.session_role or "none"))
        cursor = self._session.connection.execute(
            sql.SQL("; ").join(
                [sql.SQL("SET SESSION AUTHORIZATION DEFAULT"), role, self._record_of(step), sql.SQL("COMMIT")]
            )
        )
        while cursor.nextset():
            if cursor.description:
                self._bookkeeping.saw(cursor.fetchall()[0][0])

    def _resolve(self, step: Step, failure: psycopg.Error) -> ErrorDetail | None:
        """The connection is gone: wait until the server has ended the old session, and read what it did.

        The old session holds the advisory lock until it is over, so once we hold the lock the record is final.
        """
        detail = replace(error_detail(failure), id=step.id, file=step.file.path if step.file else None)
        try:
            self._session.reconnect()
            self._session.connection.execute(self._session.setup())
            self._lock.acquire()
            self._lock.take_row()
            recorded = self._bookkeeping.is_recorded(step.id)
        except (psycopg.Error, MigrationError) as again:
            raise self._failed(
                replace(detail, message=f"the connection was lost, and no new one could be made: {again}"),
                "Whether this migration was applied is not known here, but the database knows: run again.",
            ) from None
        if recorded == (step.action != "rollback") and step.action != "hook":
            return None
        return replace(detail, message=f"the connection was lost and the migration rolled back: {detail.message}")

    def _lock_lost(self) -> MigrationError:
        return MigrationError(
            "the migration lock was released in the middle of the run, by a migration or by the server",
            "Look for pg_advisory_unlock_all or DISCARD ALL in the last migration, and run again.",
            database_state="earlier_migrations_kept" if self.done.anything else "unchanged",
        )

    def _executable(self, step: Step) -> Callable[[], None]:
        """What runs the migration inside a transaction that is already open."""
        if step.file and step.file.is_python:
            migration = self._python(step, step.file)
            direction = "rollback" if step.action == "rollback" else "apply"
            return lambda: [None for _done in migration.run(self._session.connection, direction)].clear()
        path, script = self._script(step)
        if control := transaction_control(script):
            line, keyword = control
            raise self._failed(
                ErrorDetail(f"{keyword} at the top level: the transaction is the module's", step.id, path, line),
                "Remove it, or give the file the header `-- transactional: false`.",
            )
        return lambda: run_script(self._session.connection, script)

    # Non-transactional migrations

    def _run_statements(self, step: Step) -> None:
        """Run statement by statement, each its own transaction, between an intent and a record."""
        connection = self._session.connection
        book = self._bookkeeping
        path, script = self._script(step)
        if control := transaction_control(script):
            raise self._failed(
                ErrorDetail(f"{control[1]} in a non-transactional migration", step.id, path, control[0]),
                "Remove it: each statement of this file is its own transaction.",
            )
        found = list(statements(script))
        setup = [self._session.setup(), _CLEAN_SESSION, self._lock.is_held()]
        if not last_rows(connection.execute(sql.SQL("; ").join(setup)))[0][0]:
            raise self._lock_lost()
        invalid_before = self._invalid_indexes()
        operation = "rollback" if step.action == "rollback" else "apply"
        connection.execute(book.begin_unfinished(step.id, operation, len(found)))
        done = 0
        try:
            for done, statement in enumerate(found):
                self._run_statement(script, statement)
                connection.execute(book.advance_unfinished(step.id, done + 1))
            record = [sql.SQL("BEGIN"), self._record_of(step), book.clear_unfinished(step.id), sql.SQL("COMMIT")]
            connection.execute(sql.SQL("; ").join(record))
        except ScriptError as failure:
            statement = found[done]
            detail = script_error_detail(failure, step.id, path, script, statement.start)
            raise self._partial(step, detail, script, found[:done], invalid_before) from None

    def _run_statement(self, script: bytes, statement: Statement) -> None:
        text = script[statement.start : statement.end]
        if b"CONCURRENTLY" in text.upper():
            # Its waits block nobody, and giving up leaves an INVALID index.
            self._session.connection.execute("SET lock_timeout = 0")
        run_script(self._session.connection, text)

    def _partial(
        self, step: Step, detail: ErrorDetail, script: bytes, finished: list[Statement], invalid_before: set[str]
    ) -> MigrationError:
        texts = [script[item.start : item.end].decode("utf-8", "replace") for item in finished]
        invalid: list[str] = []
        if not self._session.connection.closed:
            self._session.rollback()
            if not finished and detail.column is not None:  # the server points into a statement it did not understand
                self._write(self._bookkeeping.clear_unfinished(step.id))
                return self._failed(detail, "None of its statements ran; correct it and run again.")
            invalid = sorted(self._invalid_indexes() - invalid_before)
        remains = f" It left the INVALID index {', '.join(invalid)}, which must be dropped." if invalid else ""
        return self._failed(
            detail,
            f"{len(finished)} statements of this non-transactional migration had finished and stay.{remains} Either "
            f"finish it by hand and run state=baselined target={step.id}, or undo it by hand and run "
            f"state=repaired target={step.id}.",
            partial=True,
            extra={"finished_statements": texts, "invalid_indexes": invalid},
        )

    def _invalid_indexes(self) -> set[str]:
        rows = self._session.connection.execute(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i'"
        ).fetchall()
        return {row[0] for row in rows}

    # Shared

    def _script(self, step: Step) -> tuple[str, bytes]:
        """The file that the step runs and its content; nothing for an irreversible rollback that is allowed."""
        path = step.script_path
        return (path, self._migrations.content(path)) if path else (step.id, b"")

    def _python(self, step: Step, file: MigrationFile) -> PythonMigration:
        return PythonMigration(file, self._migrations.header(file), self._migrations.content(file.path))

    def _failed(
        self,
        detail: ErrorDetail,
        next_step: str | None = None,
        *,
        partial: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> MigrationError:
        kept = self.done.anything
        if next_step is None:
            next_step = "This migration was rolled back; " + (
                "those before it are kept. Correct the cause and run again." if kept else "nothing was changed."
            )
        return MigrationError(
            detail,
            next_step,
            database_state="partial" if partial else "earlier_migrations_kept" if kept else "unchanged",
            extra=extra,
        )


# What DISCARD ALL does, but for the advisory locks, which must stay.
_CLEAN_SESSION = sql.SQL("CLOSE ALL; UNLISTEN *; DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP; DEALLOCATE ALL")
