"""What every step of a run needs at hand: session, files, record, lock, and the list of what is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from .yoyo_db import Session, error_detail, last_rows
from .yoyo_files import Migrations
from .yoyo_lock import BlockerWatch, MigrationLock
from .yoyo_model import BadFileError, DatabaseState, ErrorDetail, MigrationError, Step, remedy
from .yoyo_record import Bookkeeping

if TYPE_CHECKING:
    from .yoyo_python import PythonMigration

LOCK_SQLSTATES = ("55P03", "40P01")  # lock_not_available, deadlock_detected
_OLD_SESSION_S = 30  # within which a server notices that a client has gone

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
            "unmark": self.repaired,
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
    role: str  # whom the session acts as when nothing has switched it
    stop_if_asked: Callable[
        [], None
    ]  # raises what a signal raises, if one came at a moment that swallowed it
    done: Done = field(default_factory=Done)
    running: Step | None = None
    _prepared: dict[bool, bytes] = field(default_factory=dict)  # composed once a run
    _began_at: str = ""  # the running transaction's own time, which no other transaction has

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
        try:
            return PythonMigration(step.file, self.migrations.header(step.file), content)
        except BadFileError as bad:
            raise self.failed(
                replace(bad.error, id=step.id), "Nothing of this file ran; correct it."
            ) from None

    def prepare(self, *, begin: bool) -> None:
        """Reset the session, see that the lock is still ours, and begin a transaction: one round trip."""
        if begin not in self._prepared:
            parts: list[sql.Composable] = [self.session.setup(), _CLEAN_SESSION, self.lock.is_held()]
            if begin:
                # A transaction of its own, so that the migration's begins without a snapshot.
                parts = [sql.SQL("BEGIN"), *parts, sql.SQL("COMMIT"), sql.SQL("BEGIN")]
            self._prepared[begin] = sql.SQL("; ").join(parts).as_bytes(self.session.connection)
        self.bookkeeping.begin()
        held, self._began_at = last_rows(self.session.connection.execute(self._prepared[begin]))[0]
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
        if step.action in ("rollback", "unmark"):
            return book.record_rolled_back(step.id)
        if step.action == "hook":
            return book.record_hook(step.id)
        if step.action == "adopt":
            return book.adopt(step.id, step.checksum or "")
        return book.record_applied(step.id, step.checksum or "", "mark" if step.action == "mark" else "apply")

    def write(self, *parts: sql.Composable) -> None:
        """Run bookkeeping statements, whatever role, session user or encoding a migration has switched to."""
        connection = self.session.connection
        if connection.info.encoding != "utf-8":
            connection.execute("SET client_encoding = 'UTF8'")
        own = sql.SQL("SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE {}").format(
            sql.Identifier(self.role)
        )
        for at in last_rows(connection.execute(sql.SQL("; ").join([own, *parts]))):
            self.bookkeeping.saw(at[0])

    def same_transaction(self) -> sql.Composed:
        """The statement that fails, and says so, unless the transaction is the one that `prepare` began."""
        return sql.SQL(
            "SELECT pg_catalog.current_setting('yoyo_migrate.the_migration_ended_its_transaction')"
            " WHERE extract(epoch FROM pg_catalog.transaction_timestamp())::numeric <> {}::numeric"
        ).format(sql.Literal(self._began_at))

    def reattach(self) -> None:
        """Connect again and wait for the lock, which the old session holds until the server has ended it.

        From then on the record is final.
        """
        self.session.reconnect()
        self.session.connection.execute(self.session.setup())
        self.lock.acquire(at_least_s=_OLD_SESSION_S)
        self.lock.take_row()

    def settle(self) -> None:
        """See to it that the connection takes commands, and that no transaction is open."""
        if not self.session.is_settled:
            self.reattach()
        self.session.rollback()

    def was_committed(self, step: Step, failure: psycopg.Error) -> bool:
        """What became of the step whose connection was lost; raises MigrationError if nobody can be asked."""
        try:
            self.reattach()
            return self.bookkeeping.is_logged()
        except (psycopg.Error, MigrationError) as again:
            cause = again.error.message if isinstance(again, MigrationError) else again
            detail = replace(error_detail(failure), id=step.id, file=step.script_path)
            raise self.failed(
                replace(detail, message=f"the connection was lost, and no new one could be made: {cause}"),
                "Whether this migration was applied, the database knows: run again.",
                state="unknown",
            ) from None

    def ended_transaction(self, step: Step) -> MigrationError:
        """The error of a migration that got a COMMIT of its own past us."""
        return self.failed(
            ErrorDetail("the migration ended the transaction it runs in", step.id, step.script_path),
            f"Part of it is committed, and it is not recorded. {remedy(step.id, 'apply')}"
            if step.action != "rollback"
            else "Part of the rollback is committed, and the migration is still recorded as applied. "
            "Put right by hand what is missing.",
            state="partial",
        )

    def with_blockers(self, detail: ErrorDetail) -> ErrorDetail:
        """`detail`, with the sessions that stood in the way if it is about a lock."""
        if detail.sqlstate not in LOCK_SQLSTATES or not self.watch.blockers:
            return detail
        blocked = ", ".join(map(str, self.watch.blockers))
        return replace(detail, message=f"{detail.message}; blocked by {blocked}")

    def failed(
        self,
        detail: ErrorDetail,
        next_step: str | None = None,
        *,
        state: DatabaseState | None = None,
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
        state = state or ("earlier_migrations_kept" if kept else "unchanged")
        return MigrationError(detail, next_step, database_state=state, extra=extra)
