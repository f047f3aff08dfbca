"""Has the server parse a file without running any of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .yoyo_db import Connection, ScriptError, error_detail, run_script
from .yoyo_files import Migrations
from .yoyo_model import ErrorDetail, MigrationError, Step
from .yoyo_sql import locate, refusal

# The server parses a whole simple query before it runs the first statement of it, which this one makes fail.
_SENTINEL = "YM001"
_PREFIX = (
    b"DO $yoyo_migrate$ BEGIN RAISE EXCEPTION USING ERRCODE = '" + _SENTINEL.encode() + b"',"
    b" MESSAGE = 'yoyo_migrate has checked the syntax of a migration without running it';"
    b" END $yoyo_migrate$;\n"
)


def check_files(
    connection: Connection, steps: Iterable[Step], migrations: Migrations, *, parse: bool
) -> None:
    """Raise MigrationError for the first file of `steps` that a run would refuse, with its line.

    With `parse` the server has a look at each: then also for one that is not SQL, with line and column.
    Expects an open transaction, which it keeps usable.
    """
    for step in steps:
        path = step.script_path
        if path is None or path.endswith(".py"):
            continue
        script = migrations.content(path)
        detail = _refusal(script, step) or (_syntax_error(connection, script) if parse else None)
        if detail:
            raise MigrationError(
                replace(detail, id=step.id, file=path), "Nothing was changed; correct the file."
            )


def _refusal(script: bytes, step: Step) -> ErrorDetail | None:
    if found := refusal(script, transactional=step.transactional):
        line, message = found
        return ErrorDetail(message, line=line)
    return None


def _syntax_error(connection: Connection, script: bytes) -> ErrorDetail | None:
    connection.execute("SAVEPOINT yoyo_migrate_syntax")
    try:
        run_script(connection, _PREFIX + script)
    except ScriptError as failure:
        if connection.closed:
            raise failure.error from None
        connection.execute("ROLLBACK TO SAVEPOINT yoyo_migrate_syntax")
        position = failure.error.diag.statement_position
        if failure.error.sqlstate == _SENTINEL or position is None:
            return None
        line, column = locate(script, int(position) - len(_PREFIX))
        return replace(error_detail(failure.error), line=line, column=column)
    return None
