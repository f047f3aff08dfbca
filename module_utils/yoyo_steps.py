"""Runs the steps of a plan; a transactional one and its record are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors, pq, sql

from .yoyo_db import ScriptError, error_detail, is_disconnect, run_script, script_error_detail
from .yoyo_execution import LOCK_SQLSTATES, Execution
from .yoyo_model import BadFileError, ErrorDetail, Step
from .yoyo_sql import refusal
from .yoyo_statements import run_statements

if TYPE_CHECKING:
    from .yoyo_python import PythonMigration

_STANDS_ALONE = "Put it into a file of its own that begins with the line: -- transactional: false"


def run_step(execution: Execution, step: Step) -> None:
    """Run one step to its end, or raise MigrationError and leave no transaction open."""
    execution.stop_if_asked()
    started = time.monotonic()
    execution.running = step
    if step.action in ("mark", "unmark"):
        execution.write(execution.record(step), execution.bookkeeping.clear_unfinished(step.id))
    elif step.action in ("adopt", "clear"):
        execution.write(execution.record(step))
    elif step.transactional:
        _run_transactional(execution, step)
    else:
        run_statements(execution, step)
    execution.running = None
    execution.done.add(step, int((time.monotonic() - started) * 1000))


def _run_transactional(execution: Execution, step: Step) -> None:
    run_migration = _migration(execution, step)
    settings = execution.session.settings
    attempt = 0
    while True:
        with execution.watch.watching(execution.session.connection):
            failure = _attempt(execution, step, run_migration)
        if failure is None:
            return
        attempt += 1
        if failure.sqlstate not in LOCK_SQLSTATES or attempt > settings.lock_retries:
            tried = f" (tried {attempt} times)" if attempt > 1 else ""
            failure = execution.with_blockers(failure)
            raise execution.failed(replace(failure, message=f"{failure.message}{tried}"))
        execution.stop_if_asked()
        # Stay out of the queue for as long as we stood in it, so that those behind us get through.
        time.sleep(settings.lock_timeout_ms / 1000)


def _migration(execution: Execution, step: Step) -> Callable[[], bool]:
    """What runs the migration inside a transaction that is already open; it tells whether it ended that."""
    if migration := execution.python(step):
        direction = "rollback" if step.action == "rollback" else "apply"
        return lambda: _run_python(execution, migration, direction)
    path, script = execution.script(step)
    if refused := refusal(script, transactional=True):
        line, message = refused
        detail = ErrorDetail(message, step.id, path, line)
        raise execution.failed(detail, "Nothing of this file ran; correct it and run again.")
    return lambda: run_script(execution.session.connection, script)


def _run_python(execution: Execution, migration: PythonMigration, direction: str) -> bool:
    connection = execution.session.connection
    try:
        migration.run_all(connection, direction)
    except (psycopg.Error, BadFileError) as failure:
        savepoint_gone = isinstance(failure, errors.InvalidSavepointSpecification)
        if savepoint_gone or connection.info.transaction_status == pq.TransactionStatus.IDLE:
            return True  # it failed for that: yoyo has a savepoint around each step
        raise
    return connection.info.transaction_status != pq.TransactionStatus.INTRANS


def _attempt(execution: Execution, step: Step, run_migration: Callable[[], bool]) -> ErrorDetail | None:
    """Run the migration and its record as one transaction; the error if that was rolled back."""
    session = execution.session
    committing = False
    try:
        execution.prepare(begin=True)
        if run_migration():
            session.rollback()
            raise execution.ended_transaction(step)
        committing = True
        execution.write(execution.same_transaction(), execution.record(step), sql.SQL("COMMIT"))
    except ScriptError as failure:
        if failure.committed:
            session.rollback()
            raise execution.ended_transaction(step) from None
        if not is_disconnect(session.connection, failure.error):
            session.rollback()
            detail = script_error_detail(failure, step.id, *execution.script(step))
            # active_sql_transaction: VACUUM, CREATE INDEX CONCURRENTLY and the like
            stands_alone = _STANDS_ALONE if detail.sqlstate == "25001" else None
            return replace(detail, hint=detail.hint or stands_alone)
        return _outcome(execution, step, failure.error)
    except psycopg.Error as failure:
        if committing and isinstance(failure, errors.UndefinedObject):
            session.rollback()
            if step.file and step.file.is_python:
                raise execution.ended_transaction(step) from None
            # No COMMIT was seen, so it was a ROLLBACK.
            return ErrorDetail(
                "the migration rolled back the transaction it runs in", step.id, step.script_path
            )
        if not is_disconnect(session.connection, failure):
            session.rollback()
            return replace(error_detail(failure), id=step.id, file=step.script_path)
        return _outcome(execution, step, failure)
    except BadFileError as bad:
        session.rollback()
        return replace(bad.error, id=step.id)
    except KeyboardInterrupt:
        # A signal. psycopg has cancelled the statement; whether a COMMIT got through, the record says.
        execution.settle()
        if committing and execution.bookkeeping.is_logged():
            execution.done.add(step)
            execution.running = None
        raise
    return None


def _outcome(execution: Execution, step: Step, failure: psycopg.Error) -> ErrorDetail | None:
    """The true outcome of a transaction whose connection was lost."""
    if execution.was_committed(step, failure):
        return None
    detail = replace(error_detail(failure), id=step.id, file=step.script_path)
    return replace(detail, message=f"the connection was lost and the migration rolled back: {detail.message}")
