"""What the migration modules talk about: files, the record, the plan, the failure. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["applied", "rolled_back", "baselined", "repaired"]
Policy = Literal["fail", "warn", "ignore"]
Action = Literal["apply", "hook", "rollback", "mark", "adopt", "clear", "unmark"]
DatabaseState = Literal["unchanged", "earlier_migrations_kept", "partial", "unknown"]

HOOK_PREFIX = "post-apply"


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A migration as it lies in a source: its content's SHA-256, not its content."""

    id: str
    path: str
    checksum: str
    rollback_path: str | None = None

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def is_hook(self) -> bool:
        return self.id.startswith(HOOK_PREFIX)


@dataclass(frozen=True, slots=True)
class Header:
    """What a migration says of itself: the ids it needs first, and how it runs."""

    depends: frozenset[str] = frozenset()
    transactional: bool = True
    reversible: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """An applied migration; no checksum when the stock command wrote it."""

    id: str
    applied_at: datetime
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A non-transactional migration or rollback that began and was not seen to end."""

    id: str
    operation: Literal["apply", "rollback"]
    statements_done: int
    statements_total: int
    started_at: datetime

    @property
    def remedy(self) -> str:
        """What an operator does about it."""
        return remedy(self.id, self.operation)


@dataclass(frozen=True, slots=True)
class History:
    """What the database says has happened: records in the order in which they were applied."""

    records: tuple[Record, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    last_apply_at: datetime | None = None
    hook_ran_at: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asks for."""

    state: State = "applied"
    target: str | None = None
    count: int | None = None
    on_drift: Policy = "fail"
    on_missing: Policy = "fail"
    on_out_of_order: Policy = "fail"
    allow_irreversible: bool = False
    allow_python: bool = False


@dataclass(frozen=True, slots=True)
class Drift:
    """An applied migration whose file has changed since."""

    id: str
    path: str
    recorded: str
    found: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, in its own transaction unless the migration says otherwise."""

    action: Action
    id: str
    file: MigrationFile | None = None
    transactional: bool = True

    @property
    def checksum(self) -> str | None:
        return self.file.checksum if self.file else None

    @property
    def script_path(self) -> str | None:
        """The file that the step runs; None if it runs nothing."""
        if self.file is None or self.action not in ("apply", "hook", "rollback"):
            return None
        return self.file.path if self.action != "rollback" or self.file.is_python else self.file.rollback_path


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a run and the findings behind them. With a refusal there are no steps."""

    steps: tuple[Step, ...] = ()
    pending: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    missing: tuple[str, ...] = ()
    out_of_order: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What the server, or the reader of the file, said is wrong, and where."""

    message: str
    id: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    sqlstate: str | None = None
    detail: str | None = None
    hint: str | None = None
    context: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        place = self.file or self.id or ""
        if place and self.line is not None:
            place = f"{place}:{self.line}"
        code = f" (SQLSTATE {self.sqlstate})" if self.sqlstate else ""
        return f"{place}: {self.message}{code}" if place else f"{self.message}{code}"


def remedy(id: str, operation: Literal["apply", "rollback"]) -> str:
    """What an operator does about a non-transactional migration or rollback that stopped in the middle."""
    if operation == "rollback":
        return (
            f"Finish it by hand and run state=repaired target={id}, which then forgets that it was applied."
        )
    if id.startswith(HOOK_PREFIX):
        return f"Put right what it left and run state=repaired target={id}; it then runs again."
    return (
        f"Either finish it by hand and run state=baselined target={id}, or undo it by hand and run "
        f"state=repaired target={id}; it then runs again."
    )


class MigrationError(Exception):
    """A run that stopped: what is wrong, what state the database is in, and what to do next."""

    def __init__(
        self,
        error: ErrorDetail | str,
        next_step: str,
        *,
        database_state: DatabaseState = "unchanged",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.error = ErrorDetail(error) if isinstance(error, str) else error
        self.next_step = next_step
        self.database_state: DatabaseState = database_state
        self.extra = dict(extra or {})
        super().__init__(str(self))

    def __str__(self) -> str:
        problem = str(self.error)
        parts = [_sentence(part) for part in (problem, self.error.hint) if part]
        return " ".join([*parts, self.next_step])


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


class BadFileError(Exception):
    """A migration file that cannot be read as one."""

    def __init__(self, path: str, message: str, line: int | None = None) -> None:
        self.error = ErrorDetail(message, file=path, line=line)
        super().__init__(str(self.error))
