"""One run of the module from sources to result."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any, NoReturn

import psycopg

from .yoyo_check import check_syntax
from .yoyo_db import Session, Settings, error_detail
from .yoyo_execution import Done, Execution
from .yoyo_files import Migrations
from .yoyo_lock import BlockerWatch, MigrationLock
from .yoyo_model import BadFileError, ErrorDetail, History, MigrationError, Plan, Request
from .yoyo_plan import plan, replay
from .yoyo_record import Bookkeeping, Facts
from .yoyo_report import as_result, differences
from .yoyo_sources import Source


class Terminated(KeyboardInterrupt):
    """A signal asked us to stop. A KeyboardInterrupt, because psycopg then cancels the running statement."""


class Run:
    """A run, and what has come out of it so far."""

    def __init__(self, settings: Settings, request: Request, sources: Sequence[Source]) -> None:
        self.settings = settings
        self.request = request
        self.sources = sources
        self.plan = Plan()
        self.history = History()
        self.done = Done()
        self.warnings: list[str] = []
        self.notices: list[str] = []
        self.lock: dict[str, Any] = {"waited_ms": 0, "holder": None}
        self.diff: list[dict[str, str]] = []

    def result(self) -> dict[str, Any]:
        """The return values, complete at any moment."""
        after = self._ids_after()
        return {
            "changed": self.done.anything,
            **asdict(self.done),
            "pending": list(self.plan.pending),
            "drift": [as_result(item) for item in self.plan.drift],
            "missing": list(self.plan.missing),
            "out_of_order": list(self.plan.out_of_order),
            "current": after[-1] if after else None,
            "lock": self.lock,
            "notices": self.notices,
        }

    def _ids_after(self) -> list[str]:
        recorded = [record.id for record in self.history.records]
        finished = {(kind, item["id"]) for kind, items in asdict(self.done).items() for item in items}
        kinds = {"apply": "applied", "mark": "marked", "rollback": "rolled_back"}
        return replay(
            recorded, [step for step in self.plan.steps if (kinds.get(step.action), step.id) in finished]
        )

    def execute(self, *, check_mode: bool, show_sql: bool, parse: bool = True) -> None:
        """Do what is asked, or in check mode say what would be done. Raises MigrationError."""
        try:
            with _signals():
                self._execute(check_mode, show_sql, parse)
        except BadFileError as bad:
            raise MigrationError(bad.error, "Nothing was changed.") from None
        except ImportError as missing:
            raise MigrationError(
                f"the host's Python lacks {missing.name}",
                "Nothing was changed; install yoyo-migrations (python3-yoyo).",
            ) from None
        except psycopg.Error as failure:
            kept = self.done.anything
            raise MigrationError(
                error_detail(failure),
                "Those applied before are kept; correct the cause and run again."
                if kept
                else "Nothing was changed.",
                database_state="earlier_migrations_kept" if kept else "unchanged",
            ) from None
        except Terminated as stop:
            raise MigrationError(
                f"stopped by {stop}; the migration that was running is rolled back",
                "Run again to go on.",
                database_state="earlier_migrations_kept" if self.done.anything else "unchanged",
            ) from None

    def _execute(self, check_mode: bool, show_sql: bool, parse: bool) -> None:
        migrations = Migrations(self.sources)
        if not migrations.files:
            self.warnings.append(f"no migration in {', '.join(source.location for source in self.sources)}")
        self.warnings += [f"{path} belongs to no migration" for path in migrations.orphans]
        session = Session(self.settings)
        self.notices = session.notices
        try:
            book = Bookkeeping(session)
            if check_mode:
                session.connection.execute("BEGIN TRANSACTION READ ONLY")
            facts = self._look(book, migrations)
            if check_mode:
                self._predict(session, book, facts, migrations, parse)
            elif self.plan.steps or self.plan.refusals:
                self._migrate(session, book, facts, migrations)
            recorded = [record.id for record in self.history.records]
            self.diff = differences(recorded, self.plan.steps, migrations, show_sql)
        finally:
            session.connection.close()

    def _look(self, book: Bookkeeping, migrations: Migrations) -> Facts:
        """Read the record and make the plan."""
        facts = book.facts()
        self.history = book.history(facts)
        self.plan = plan(migrations.files, self.history, self.request, migrations.header)
        return facts

    def _predict(
        self, session: Session, book: Bookkeeping, facts: Facts, migrations: Migrations, parse: bool
    ) -> None:
        self._refuse(facts, book, will_write=not facts.is_standby)
        if parse:
            check_syntax(session.connection, self.plan.steps, migrations)
        for step in self.plan.steps:
            self.done.add(step)

    def _migrate(self, session: Session, book: Bookkeeping, facts: Facts, migrations: Migrations) -> None:
        """Take the lock, look again, and do what is then to be done."""
        from .yoyo_steps import run_step  # a run that finds nothing to do is spared it

        self._refuse_standby(facts)
        if not self.history.unfinished:
            self._refuse(
                facts, book
            )  # an unfinished migration may be one that runs right now: wait for the lock
        lock, watch = MigrationLock(session), BlockerWatch(self.settings)
        self.lock = lock.as_dict()
        try:
            lock.acquire()
            book.create_lock_tables(facts)
            lock.take_row()
            self.lock = lock.as_dict()
            facts = self._look(book, migrations)
            self._refuse(facts, book)
            if self.plan.steps:
                with session.connection.transaction():
                    book.create_tables(facts)
            execution = Execution(session, migrations, book, lock, watch)
            self.done = execution.done
            for step in self.plan.steps:
                run_step(execution, step)
        finally:
            watch.close()
            self._release(session, lock)

    def _release(self, session: Session, lock: MigrationLock) -> None:
        try:
            session.rollback()
            lock.release()
        except psycopg.Error:
            pass  # the connection is gone, and the lock with it; the next run knows the row as ours

    def _refuse(self, facts: Facts, book: Bookkeeping, *, will_write: bool = True) -> None:
        if self.plan.refusals:
            raise MigrationError("; ".join(self.plan.refusals), "Nothing was changed.")
        if will_write and self.plan.steps and (grant := book.missing_grant(facts)):
            raise MigrationError(
                ErrorDetail(f"the role {facts.user} may not write the bookkeeping", sqlstate="42501"),
                f"Nothing was changed; let the owner run: {grant};",
            )

    def _refuse_standby(self, facts: Facts) -> None:
        if facts.is_standby or facts.is_read_only:
            kind = "a standby" if facts.is_standby else "read-only (default_transaction_read_only is on)"
            raise MigrationError(
                ErrorDetail(f"the server is {kind}", sqlstate="25006"),
                "Nothing was changed; connect to the primary, or give a dsn with all hosts and "
                "target_session_attrs=read-write.",
            )


@contextmanager
def _signals() -> Iterator[None]:
    """Turn the signals that end a process into Terminated, so that transaction and lock end with it."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for other in caught:
            signal.signal(other, signal.SIG_IGN)  # the clean-up that follows is short; let it finish
        raise Terminated(signal.Signals(number).name)

    caught = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
