"""Runs a non-transactional migration: statement by statement, between an intent and a record.

It never undoes anything on its own. What fails in the middle stays as it is until someone has looked at it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import psycopg
from psycopg import pq, sql

from .yoyo_db import Connection, ScriptError, error_detail, is_disconnect, run_script, script_error_detail
from .yoyo_execution import Execution
from .yoyo_model import BadFileError, ErrorDetail, MigrationError, Step, remedy
from .yoyo_sql import refusal, statements

# Statements that may commit in between, and steps of a Python migration.
_MANY_TRANSACTIONS = re.compile(
    r"CALL\b|DO\b|VACUUM\b|CLUSTER\b|REINDEX\b|(CREATE|ALTER|DROP)\s+(DATABASE|TABLESPACE)\b|step \d",
    re.IGNORECASE,
)
_HEAD_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class _Unit:
    """One statement of a file, or one step of a Python migration."""

    text: str
    run: Callable[[Connection], None]
    start: int = 0

    @property
    def is_concurrent(self) -> bool:
        return "CONCURRENTLY" in self.text.upper()

    @property
    def is_atomic(self) -> bool:
        """Whether the server leaves nothing behind when the statement fails."""
        return not self.is_concurrent and _MANY_TRANSACTIONS.match(self.text) is None

    @property
    def head(self) -> str:
        """Its beginning, up to the first literal, which may be a password."""
        return " ".join(self.text.partition("'")[0].split())[:_HEAD_CHARACTERS]


def run_statements(execution: Execution, step: Step) -> None:
    """Run the step to its end and record it, or raise MigrationError that says how far it got."""
    units = _units(execution, step)
    book = execution.bookkeeping
    execution.prepare(begin=False)
    invalid_before = _invalid_indexes(execution.session.connection)
    operation = "rollback" if step.action == "rollback" else "apply"
    execution.write(book.begin_unfinished(step.id, operation, len(units)))
    done = 0
    recording = False
    try:
        for unit in units:
            execution.stop_if_asked()
            with execution.watch.watching(execution.session.connection):
                _run_unit(execution, unit)
            done += 1
            execution.write(book.advance_unfinished(step.id, done))
        recording = True
        execution.write(execution.record(step), book.clear_unfinished(step.id))
    except (ScriptError, psycopg.Error, BadFileError, KeyboardInterrupt) as failure:
        if recording and _was_committed(execution, step, failure):
            if isinstance(failure, KeyboardInterrupt):
                execution.done.add(step)
                execution.running = None
                raise
            return
        detail = _detail(execution, step, failure, units[done].start if done < len(units) else 0)
        failed = units[done] if done < len(units) else None
        raise _partial(execution, step, detail, units[:done], failed, invalid_before) from None


def _units(execution: Execution, step: Step) -> list[_Unit]:
    if migration := execution.python(step):
        direction = "rollback" if step.action == "rollback" else "apply"
        return [_Unit(name, run) for name, run in migration.units(direction)]
    path, script = execution.script(step)
    if refused := refusal(script, transactional=False):
        line, message = refused
        detail = ErrorDetail(message, step.id, path, line)
        raise execution.failed(detail, "Nothing of this file ran; correct it and run again.")
    return [_unit(script, found.start, found.end) for found in statements(script)]


def _unit(script: bytes, start: int, end: int) -> _Unit:
    text = script[start:end]

    def run(connection: Connection) -> None:
        run_script(connection, text)

    return _Unit(text.decode("utf-8"), run, start)


def _run_unit(execution: Execution, unit: _Unit) -> None:
    connection = execution.session.connection
    if unit.is_concurrent:
        # Its waits block nobody, and giving up would leave an INVALID index behind.
        before = connection.execute("SHOW lock_timeout").fetchall()[0][0]
        connection.execute("SET lock_timeout = 0")
    unit.run(connection)
    if unit.is_concurrent:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(before)))
    if connection.info.transaction_status != pq.TransactionStatus.IDLE:
        raise psycopg.errors.ActiveSqlTransaction("a non-transactional migration may not open a transaction")


def _was_committed(execution: Execution, step: Step, failure: BaseException) -> bool:
    if isinstance(failure, KeyboardInterrupt):
        execution.settle()
        return execution.bookkeeping.is_logged()
    if not isinstance(failure, psycopg.Error) or not is_disconnect(execution.session.connection, failure):
        return False
    return execution.was_committed(step, failure)


def _detail(execution: Execution, step: Step, failure: BaseException, start: int) -> ErrorDetail:
    path, script = execution.script(step)
    if isinstance(failure, ScriptError):
        return script_error_detail(failure, step.id, path, script, start)
    if isinstance(failure, BadFileError):
        return replace(failure.error, id=step.id)
    if isinstance(failure, psycopg.Error):
        return replace(error_detail(failure), id=step.id, file=path)
    return ErrorDetail(f"stopped by {failure or 'an interrupt'}", id=step.id, file=path)


def _partial(
    execution: Execution,
    step: Step,
    detail: ErrorDetail,
    finished: Sequence[_Unit],
    failed: _Unit | None,
    invalid_before: set[str],
) -> MigrationError:
    detail = execution.with_blockers(detail)
    invalid: list[str] = []
    try:
        if execution.session.connection.closed:
            execution.reattach()
        execution.settle()
        if failed and not finished and failed.is_atomic:
            execution.write(execution.bookkeeping.clear_unfinished(step.id))
            return execution.failed(detail, "Nothing of it ran; correct the cause and run again.")
        invalid = sorted(_invalid_indexes(execution.session.connection) - invalid_before)
    except (psycopg.Error, MigrationError):
        pass  # out of reach: the intent is in the record, and the next run will say so
    remains = f" It left the INVALID index {', '.join(invalid)}, which must be dropped." if invalid else ""
    operation: Literal["apply", "rollback"] = "rollback" if step.action == "rollback" else "apply"
    return execution.failed(
        detail,
        f"Statements that had finished, and stay: {len(finished)}.{remains} {remedy(step.id, operation)}",
        state="partial",
        extra={"finished_statements": [unit.head for unit in finished], "invalid_indexes": invalid},
    )


def _invalid_indexes(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i'"
    ).fetchall()
    return {row[0] for row in rows}
