"""One run of the module from sources to result."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict
from types import FrameType
from typing import Any

import psycopg

from .yoyo_check import check_files
from .yoyo_db import Session, Settings, error_detail
from .yoyo_execution import Done, Execution
from .yoyo_files import Migrations, readable_files
from .yoyo_lock import BlockerWatch, MigrationLock
from .yoyo_model import ErrorDetail, History, MigrationError, Plan, Request
from .yoyo_plan import plan, replay
from .yoyo_record import Bookkeeping, Facts
from .yoyo_report import as_result, differences
from .yoyo_sources import Source


class Terminated(KeyboardInterrupt):
    """A signal asked us to stop. A KeyboardInterrupt, because psycopg then cancels the running statement."""


class Signals:
    """Turns the signals that end a process into Terminated, so that transaction and lock end with it."""

    _CAUGHT = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def __init__(self) -> None:
        self._received: str | None = None
        self._deaf = False

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._stop) for number in self._CAUGHT}

    def __exit__(self, *_failure: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._received = signal.Signals(number).name
        if not self._deaf:
            raise Terminated(self._received)

    def stop_if_asked(self) -> None:
        """Raise Terminated if a signal came while a callback from C swallowed what it raised."""
        if self._received and not self._deaf:
            raise Terminated(self._received)

    def ignore(self) -> None:
        """From here on, clean up: that is short, and should end."""
        self._deaf = True


class Run:
    """A run, and what has come out of it so far."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.signals = Signals()
        self.execution: Execution | None = None
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
        kinds = {"apply": "applied", "mark": "marked", "rollback": "rolled_back", "unmark": "repaired"}
        return replay(
            recorded, [step for step in self.plan.steps if (kinds.get(step.action), step.id) in finished]
        )

    def execute(
        self,
        settings: Settings,
        sources: Sequence[Source],
        *,
        check_mode: bool,
        show_sql: bool,
        parse: bool = True,
    ) -> None:
        """Do what is asked, or in check mode say what would be done. Raises MigrationError."""
        try:
            with self.signals, readable_files():
                self._execute(settings, sources, check_mode, show_sql, parse)
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
            running = self.execution and self.execution.running
            undone = f"; {running.id}, which was running, is rolled back" if running else ""
            raise MigrationError(
                f"stopped by {stop}{undone}",
                "Run again to go on.",
                database_state="earlier_migrations_kept" if self.done.anything else "unchanged",
            ) from None

    def _execute(
        self, settings: Settings, sources: Sequence[Source], check_mode: bool, show_sql: bool, parse: bool
    ) -> None:
        migrations = Migrations(sources)
        if not migrations.files:
            self.warnings.append(f"no migration in {', '.join(source.location for source in sources)}")
        self.warnings += [f"{path} belongs to no migration" for path in migrations.orphans]
        session = Session(settings)
        self.notices = session.notices
        try:
            book = Bookkeeping(session)
            if check_mode:
                session.begin_read_only()
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
        try:
            self.history = book.history(facts)
        except psycopg.errors.InsufficientPrivilege:
            raise _may_not(facts, book.missing_grant(facts)) from None
        self.plan = plan(migrations.files, self.history, self.request, migrations.header)
        return facts

    def _predict(
        self, session: Session, book: Bookkeeping, facts: Facts, migrations: Migrations, parse: bool
    ) -> None:
        if self.plan.steps and not facts.is_standby:
            self._refuse_standby(facts)
        self._refuse(facts, book, will_write=not facts.is_standby)
        check_files(session.connection, self.plan.steps, migrations, parse=parse)
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
        lock, watch = MigrationLock(session), BlockerWatch(session.settings)
        execution = Execution(
            session, migrations, book, lock, watch, facts.user, self.signals.stop_if_asked, self.done
        )
        self.execution = execution
        try:
            lock.acquire()
            book.create_lock_tables(book.facts())  # anew: whoever held the lock may have made them
            lock.take_row()
            facts = self._look(book, migrations)
            self._refuse(facts, book)
            if self.plan.steps:
                with session.connection.transaction():
                    book.create_tables(facts)
            for step in self.plan.steps:
                run_step(execution, step)
            self.signals.stop_if_asked()
        finally:
            self.signals.ignore()
            self.lock = lock.as_dict()
            try:
                watch.close()
            finally:
                self._release(execution)

    def _release(self, execution: Execution) -> None:
        try:
            execution.settle()
            execution.lock.release()
        except (psycopg.Error, MigrationError):
            pass  # the connection is gone, and the lock with it; the next run knows the row as ours

    def _refuse(self, facts: Facts, book: Bookkeeping, *, will_write: bool = True) -> None:
        if self.plan.refusals:
            raise MigrationError("; ".join(self.plan.refusals), "Nothing was changed.")
        if will_write and self.plan.steps and (grant := book.missing_grant(facts)):
            raise _may_not(facts, grant)

    def _refuse_standby(self, facts: Facts) -> None:
        if facts.is_standby or facts.is_read_only:
            kind = "a standby" if facts.is_standby else "read-only (default_transaction_read_only is on)"
            raise MigrationError(
                ErrorDetail(f"the server is {kind}", sqlstate="25006"),
                "Nothing was changed; connect to the primary, or give a dsn with all hosts and "
                "target_session_attrs=read-write.",
            )


def _may_not(facts: Facts, grant: str | None) -> MigrationError:
    remedy = (
        f"let the owner run: {grant};" if grant else "grant it the right to use the bookkeeping's schema."
    )
    return MigrationError(
        ErrorDetail(f"the role {facts.user} may not use the bookkeeping", sqlstate="42501"),
        f"Nothing was changed; {remedy}",
    )
