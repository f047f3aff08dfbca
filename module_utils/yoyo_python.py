"""Runs migrations that are Python files: yoyo's own steps, on our connection and in our transaction."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from .yoyo_db import Connection
from .yoyo_model import BadFileError, Header, MigrationFile


class Backend:
    """The part of a yoyo backend that its steps use."""

    DatabaseError = psycopg.DatabaseError

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def cursor(self) -> psycopg.Cursor[Any]:
        return self.connection.cursor()

    def transaction(self) -> contextlib.AbstractContextManager[Any]:
        """A savepoint, so that a step with ignore_errors can fail alone."""
        return self.connection.transaction()


class PythonMigration:
    """A Python migration, imported; its steps in order."""

    def __init__(self, file: MigrationFile, header: Header, content: bytes) -> None:
        from yoyo import migrations

        logging.getLogger("yoyo").addHandler(logging.NullHandler())
        with tempfile.TemporaryDirectory(prefix="yoyo_migrate_") as folder, quiet():
            path = Path(folder, f"{file.id}.py")
            path.write_bytes(content)
            for id in header.depends:
                migrations.Migration(id, id, folder)  # yoyo looks dependencies up among those it has seen
            migration = migrations.Migration(file.id, str(path), folder)
            try:
                migration.load()
            except Exception as failure:
                raise BadFileError(file.path, f"cannot be imported: {failure}") from failure
        self.path = file.path
        self.steps: list[Any] = list(migration.steps or [])

    def units(self, direction: str) -> list[tuple[str, Callable[[Connection], None]]]:
        """The steps in the order of `direction`, apply or rollback, each with a name."""
        steps = self.steps if direction == "apply" else self.steps[::-1]
        return [(f"step {number}", self._runner(step, direction)) for number, step in enumerate(steps, 1)]

    def run_all(self, connection: Connection, direction: str) -> None:
        for _name, run in self.units(direction):
            run(connection)

    def _runner(self, step: Any, direction: str) -> Callable[[Connection], None]:
        def run(connection: Connection) -> None:
            try:
                with quiet():
                    getattr(step, direction)(Backend(connection))
            except psycopg.Error:
                raise
            except Exception as failure:
                raise BadFileError(self.path, f"{type(failure).__name__}: {failure}") from failure

        return run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep standard output for the module's result: yoyo prints rows there, and a migration what it likes."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
