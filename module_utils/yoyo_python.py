"""Runs migrations that are Python files: yoyo's own steps, on our connection and in our transaction."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator
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
        from yoyo.migrations import StepCollector

        logging.getLogger("yoyo").addHandler(logging.NullHandler())
        # What yoyo does to load a file. Its own way is through a file on disk, whose name and content it
        # reads in the locale's encoding.
        collector = StepCollector(migration=None)
        module = types.ModuleType(file.id)
        module.__dict__.update(
            __file__=file.path,
            __yoyo_collector__=collector,
            step=collector.add_step,
            group=collector.add_step_group,
            transaction=collector.add_step_group,
        )
        self.path = file.path
        try:
            with quiet():
                exec(compile(content, file.path, "exec"), module.__dict__)  # noqa: S102 - allow_python
                self.steps: list[Any] = collector.create_steps(header.transactional)
        except (Exception, SystemExit) as failure:
            raise self._bad_file("cannot be imported: ", failure) from failure

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
            except (Exception, SystemExit) as failure:
                raise self._bad_file("", failure) from failure

        return run

    def _bad_file(self, prefix: str, failure: BaseException) -> BadFileError:
        """The failure of the migration's code, with the last line of the file that it passed through."""
        lines = [
            at
            for frame, at in traceback.walk_tb(failure.__traceback__)
            if frame.f_code.co_filename == self.path
        ]
        message = f"{prefix}{type(failure).__name__}: {failure}"
        return BadFileError(self.path, message, line=lines[-1] if lines else None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep standard output for the module's result: yoyo prints rows there, and a migration what it likes.

    Also the descriptor, which the programs that a migration starts inherit.
    """
    original = sys.__stdout__
    if original:
        original.flush()
    saved = os.dup(1)
    try:
        with open(os.devnull, "wb") as sink:  # noqa: PTH123 - a device
            os.dup2(sink.fileno(), 1)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if original:
            original.flush()
        os.dup2(saved, 1)
        os.close(saved)
