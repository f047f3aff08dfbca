"""Runs the steps of a plan; a transactional one and its record are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import psycopg
from psycopg import pq, sql

from .yoyo_db import ScriptError, error_detail, is_disconnect, run_script, script_error_detail
from .yoyo_execution import Execution
from .yoyo_model import BadFileError, ErrorDetail, Step
from .yoyo_sql import transaction_control
from .yoyo_statements import run_statements

_RETRIED = ("55P03", "40P01")  # lock_not_available, deadlock_detected


def run_step(execution: Execution, step: Step) -> None:
    """Run one step to its end, or raise MigrationError and leave no transaction open."""
    started = time.monotonic()
    if step.action in ("mark", "adopt", "clear"):
        execution.write(execution.record(step))
    elif step.transactional:
        _run_transactional(execution, step)
    else:
        run_statements(execution, step)
    execution.done.add(step, int((time.monotonic() - started) * 1000))


def _run_transactional(execution: Execution, step: Step) -> None:
    run_migration = _migration(execution, step)
    settings, watch = execution.session.settings, execution.watch
    attempt = 0
    while True:
        with watch.watching(execution.session.connection):
            failure = _attempt(execution, step, run_migration)
        if failure is None:
            return
        attempt += 1
        if failure.sqlstate not in _RETRIED or attempt > settings.lock_retries:
            blocked = f"; blocked by {', '.join(map(str, watch.blockers))}" if watch.blockers else ""
            tried = f" (tried {attempt} times)" if attempt > 1 else ""
            raise execution.failed(replace(failure, message=f"{failure.message}{blocked}{tried}"))
        # Stay out of the queue for as long as we stood in it, so that those behind us get through.
        time.sleep(settings.lock_timeout_ms / 1000)


def _migration(execution: Execution, step: Step) -> Callable[[], None]:
    """What runs the migration inside a transaction that is already open."""
    if migration := execution.python(step):
        direction = "rollback" if step.action == "rollback" else "apply"
        return lambda: migration.run_all(execution.session.connection, direction)
    path, script = execution.script(step)
    if control := transaction_control(script):
        line, keyword = control
        raise execution.failed(
            ErrorDetail(f"{keyword} at the top level: the transaction is the module's", step.id, path, line),
            "Nothing of this file ran; remove the statement.",
        )
    return lambda: run_script(execution.session.connection, script)


def _attempt(execution: Execution, step: Step, run_migration: Callable[[], None]) -> ErrorDetail | None:
    """Run the migration and its record as one transaction; the error if that was rolled back."""
    session = execution.session
    committing = False
    try:
        execution.prepare(begin=True)
        run_migration()
        if session.connection.info.transaction_status != pq.TransactionStatus.INTRANS:
            raise execution.failed(
                ErrorDetail("the migration ended the transaction it runs in", step.id, step.script_path),
                f"Part of it is committed: finish it by hand, and run state=baselined target={step.id}.",
                partial=True,
            )
        committing = True
        execution.write(execution.record(step), sql.SQL("COMMIT"))
    except ScriptError as failure:
        if not is_disconnect(session.connection, failure.error):
            session.rollback()
            return script_error_detail(failure, step.id, *execution.script(step))
        return _outcome(execution, step, failure.error)
    except psycopg.Error as failure:
        if not is_disconnect(session.connection, failure):
            session.rollback()
            return replace(error_detail(failure), id=step.id, file=step.script_path)
        return _outcome(execution, step, failure)
    except BadFileError as bad:
        session.rollback()
        return replace(bad.error, id=step.id)
    except KeyboardInterrupt:
        # A signal. psycopg has cancelled the statement; whether a COMMIT got through, the record says.
        session.rollback()
        wanted = step.action != "rollback"
        if committing and step.action != "hook" and execution.bookkeeping.is_recorded(step.id) == wanted:
            execution.done.add(step)
        raise
    return None


def _outcome(execution: Execution, step: Step, failure: psycopg.Error) -> ErrorDetail | None:
    """The true outcome of a transaction whose connection was lost."""
    if execution.was_committed(step, failure):
        return None
    detail = replace(error_detail(failure), id=step.id, file=step.script_path)
    return replace(detail, message=f"the connection was lost and the migration rolled back: {detail.message}")
