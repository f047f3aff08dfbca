"""What every step of a run needs at hand: session, files, record, lock, and the list of what is done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from .yoyo_db import Session, error_detail, last_rows
from .yoyo_files import Migrations
from .yoyo_lock import BlockerWatch, MigrationLock
from .yoyo_model import DatabaseState, ErrorDetail, MigrationError, Step
from .yoyo_record import Bookkeeping

if TYPE_CHECKING:
    from .yoyo_python import PythonMigration

# What DISCARD ALL does, but for the advisory locks, which must stay.
_CLEAN_SESSION = sql.SQL(
    "CLOSE ALL; UNLISTEN *; DISCARD PLANS; DISCARD SEQUENCES; DISCARD TEMP; DEALLOCATE ALL"
)


@dataclass(slots=True)
class Done:
    """What a run has done so far, in the module's return shape."""

    applied: list[dict[str, Any]] = field(default_factory=list)
    rolled_back: list[dict[str, Any]] = field(default_factory=list)
    marked: list[dict[str, Any]] = field(default_factory=list)
    post_apply: list[dict[str, Any]] = field(default_factory=list)
    repaired: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: Step, duration_ms: int = 0) -> None:
        by_action = {
            "apply": self.applied,
            "rollback": self.rolled_back,
            "mark": self.marked,
            "hook": self.post_apply,
            "adopt": self.repaired,
            "clear": self.repaired,
        }
        by_action[step.action].append(
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


@dataclass(slots=True)
class Execution:
    """A run that holds the migration lock."""

    session: Session
    migrations: Migrations
    bookkeeping: Bookkeeping
    lock: MigrationLock
    watch: BlockerWatch
    done: Done = field(default_factory=Done)
    _prepared: dict[bool, bytes] = field(default_factory=dict)  # composed once a run

    def script(self, step: Step) -> tuple[str, bytes]:
        """The file that the step runs, and its content; empty for an irreversible rollback."""
        path = step.script_path
        return (path, self.migrations.content(path)) if path else (step.id, b"")

    def python(self, step: Step) -> PythonMigration | None:
        """The step's Python migration, imported; None if the step runs SQL."""
        if step.file is None or not step.file.is_python:
            return None
        from .yoyo_python import PythonMigration

        content = self.migrations.content(step.file.path)
        return PythonMigration(step.file, self.migrations.header(step.file), content)

    def prepare(self, *, begin: bool) -> None:
        """Reset the session, begin a transaction, and see that the lock is still ours: one round trip."""
        if begin not in self._prepared:
            transaction = [sql.SQL("BEGIN")] if begin else []
            parts = [self.session.setup(), _CLEAN_SESSION, *transaction, self.lock.is_held()]
            self._prepared[begin] = sql.SQL("; ").join(parts).as_bytes(self.session.connection)
        held = last_rows(self.session.connection.execute(self._prepared[begin]))[0][0]
        if not held:
            raise self.failed(
                ErrorDetail("the migration lock was released in the middle of the run"),
                "Look for pg_advisory_unlock_all or DISCARD ALL in the last migration, and run again.",
            )

    def record(self, step: Step) -> sql.Composed:
        """The statement that records the step."""
        book = self.bookkeeping
        if step.action == "clear":
            return book.clear_unfinished(step.id)
        if step.action == "rollback":
            return book.record_rolled_back(step.id)
        if step.action == "hook":
            return book.record_hook(step.id)
        if step.action == "adopt":
            return book.adopt(step.id, step.checksum or "")
        return book.record_applied(step.id, step.checksum or "", "mark" if step.action == "mark" else "apply")

    def write(self, *parts: sql.Composable) -> None:
        """Run bookkeeping statements, whatever role or session user a migration has switched to."""
        role = sql.Identifier(self.session.settings.session_role or "none")
        own = sql.SQL("SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE {}").format(role)
        cursor = self.session.connection.execute(sql.SQL("; ").join([own, *parts]))
        while cursor.nextset():
            if cursor.description:
                self.bookkeeping.saw(cursor.fetchall()[0][0])

    def reattach(self) -> None:
        """Connect again and wait for the lock, which the old session holds until the server has ended it.

        From then on the record is final.
        """
        self.session.reconnect()
        self.session.connection.execute(self.session.setup())
        self.lock.acquire()
        self.lock.take_row()

    def was_committed(self, step: Step, failure: psycopg.Error) -> bool:
        """What became of the step whose connection was lost; raises MigrationError if nobody can be asked."""
        try:
            self.reattach()
            recorded = self.bookkeeping.is_recorded(step.id)
        except (psycopg.Error, MigrationError) as again:
            detail = replace(error_detail(failure), id=step.id, file=step.script_path)
            raise self.failed(
                replace(detail, message=f"the connection was lost, and no new one could be made: {again}"),
                "Whether this migration was applied, the database knows: run again.",
            ) from None
        if step.action == "hook":
            return False  # not recorded by id; to run it once more is what a hook is made for
        return recorded == (step.action != "rollback")

    def failed(
        self,
        detail: ErrorDetail,
        next_step: str | None = None,
        *,
        partial: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> MigrationError:
        """The error that stops the run, with the state that the database is in."""
        kept = self.done.anything
        if next_step is None:
            next_step = "This migration was rolled back; " + (
                "those before it are kept. Correct the cause and run again."
                if kept
                else "nothing was changed."
            )
        state: DatabaseState = "partial" if partial else "earlier_migrations_kept" if kept else "unchanged"
        return MigrationError(detail, next_step, database_state=state, extra=extra)
