"""Runs a non-transactional migration: statement by statement, between an intent and a record.

It never undoes anything on its own. What fails in the middle stays as it is until someone has looked at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import pq, sql

from .yoyo_db import Connection, ScriptError, error_detail, is_disconnect, run_script, script_error_detail
from .yoyo_execution import Execution
from .yoyo_model import BadFileError, ErrorDetail, MigrationError, Step
from .yoyo_sql import statements, transaction_control


@dataclass(frozen=True, slots=True)
class _Unit:
    """One statement of a file, or one step of a Python migration."""

    text: str
    run: Callable[[Connection], None]
    start: int = 0

    @property
    def is_concurrent(self) -> bool:
        return "CONCURRENTLY" in self.text.upper()


def run_statements(execution: Execution, step: Step) -> None:
    """Run the step to its end and record it, or raise MigrationError that says how far it got."""
    units = _units(execution, step)
    book = execution.bookkeeping
    execution.prepare(begin=False)
    invalid_before = _invalid_indexes(execution.session.connection)
    operation = "rollback" if step.action == "rollback" else "apply"
    execution.write(book.begin_unfinished(step.id, operation, len(units)))
    done = 0
    try:
        for done, unit in enumerate(units):
            _run_unit(execution, unit)
            execution.write(book.advance_unfinished(step.id, done + 1))
        done = len(units)
        execution.write(execution.record(step), book.clear_unfinished(step.id))
    except (ScriptError, psycopg.Error, BadFileError, KeyboardInterrupt) as failure:
        if done == len(units) and _was_committed(execution, step, failure):
            return
        detail = _detail(execution, step, failure, units[done].start if done < len(units) else 0)
        raise _partial(execution, step, detail, units[:done], invalid_before) from None


def _units(execution: Execution, step: Step) -> list[_Unit]:
    if migration := execution.python(step):
        direction = "rollback" if step.action == "rollback" else "apply"
        return [_Unit(name, run) for name, run in migration.units(direction)]
    path, script = execution.script(step)
    if control := transaction_control(script):
        line, keyword = control
        raise execution.failed(
            ErrorDetail(f"{keyword} in a non-transactional migration", step.id, path, line),
            "Nothing of this file ran; remove the statement, because each one is its own transaction here.",
        )
    return [_unit(script, found.start, found.end) for found in statements(script)]


def _unit(script: bytes, start: int, end: int) -> _Unit:
    text = script[start:end]
    return _Unit(text.decode("utf-8"), lambda connection: run_script(connection, text), start)


def _run_unit(execution: Execution, unit: _Unit) -> None:
    connection = execution.session.connection
    if unit.is_concurrent:
        # Its waits block nobody, and giving up would leave an INVALID index behind.
        connection.execute("SET lock_timeout = 0")
    unit.run(connection)
    if unit.is_concurrent:
        lock_timeout = sql.Literal(execution.session.settings.lock_timeout_ms)
        connection.execute(sql.SQL("SET lock_timeout = {}").format(lock_timeout))
    if connection.info.transaction_status != pq.TransactionStatus.IDLE:
        raise psycopg.errors.ActiveSqlTransaction("a non-transactional migration may not open a transaction")


def _was_committed(execution: Execution, step: Step, failure: BaseException) -> bool:
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
    execution: Execution, step: Step, detail: ErrorDetail, finished: Sequence[_Unit], invalid_before: set[str]
) -> MigrationError:
    invalid: list[str] = []
    try:
        if execution.session.connection.closed:
            execution.reattach()
        execution.session.rollback()
        if (
            not finished and detail.column is not None
        ):  # the server points into a statement that it did not understand
            execution.write(execution.bookkeeping.clear_unfinished(step.id))
            return execution.failed(detail, "None of its statements ran; correct the file and run again.")
        invalid = sorted(_invalid_indexes(execution.session.connection) - invalid_before)
    except (psycopg.Error, MigrationError):
        pass  # out of reach: the intent is in the record, and the next run will say so
    remains = f" It left the INVALID index {', '.join(invalid)}, which must be dropped." if invalid else ""
    return execution.failed(
        detail,
        f"{len(finished)} statements of this non-transactional migration had finished and stay.{remains} "
        f"Either finish it by hand and run state=baselined target={step.id}, or undo it by hand and run "
        f"state=repaired target={step.id}.",
        partial=True,
        extra={"finished_statements": [unit.text for unit in finished], "invalid_indexes": invalid},
    )


def _invalid_indexes(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i'"
    ).fetchall()
    return {row[0] for row in rows}
