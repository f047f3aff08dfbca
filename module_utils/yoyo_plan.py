"""Decides what a run does. Pure: files, history and request in; a plan out; nothing read, nothing written."""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from .yoyo_model import (
    BadFileError,
    Drift,
    Header,
    History,
    MigrationFile,
    Plan,
    Policy,
    Record,
    Request,
    Step,
)

ReadHeader = Callable[[MigrationFile], Header]


def plan(files: Sequence[MigrationFile], history: History, request: Request, read_header: ReadHeader) -> Plan:
    """The steps that bring a database with `history` to what `request` asks for.

    `files` are in the order of their sources and names; `read_header` is called only for files that may run.
    """
    return _Planner(files, history, request, read_header).plan()


def replay(recorded: Iterable[str], steps: Iterable[Step]) -> list[str]:
    """The ids recorded once `steps` have run, in the order in which they were applied."""
    ids = list(recorded)
    for step in steps:
        if step.action in ("apply", "mark"):
            ids.append(step.id)
        elif step.action in ("rollback", "unmark") and step.id in ids:
            ids.remove(step.id)
    return ids


def ordered(files: Sequence[MigrationFile], headers: Mapping[str, Header]) -> list[MigrationFile]:
    """`files` sorted by name and dependency, exactly as yoyo sorts them."""
    from yoyo.topologicalsort import topological_sort

    by_id = {file.id: file for file in files}
    graph = {id: sorted(headers[id].depends & by_id.keys()) for id in by_id}
    return [by_id[id] for id in topological_sort(list(by_id), graph)]


def find_cycle(headers: Mapping[str, Header]) -> list[str]:
    """The ids of one dependency cycle, first one repeated at the end; empty if there is none."""
    graph = {id: sorted(header.depends & headers.keys()) for id, header in sorted(headers.items())}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as failure:
        return [str(id) for id in reversed(failure.args[1])]
    return []


class _Planner:
    def __init__(
        self, files: Sequence[MigrationFile], history: History, request: Request, read_header: ReadHeader
    ) -> None:
        self.request = request
        self.history = history
        self.read_header = read_header
        self.files = [file for file in files if not file.is_hook]
        self.hooks = sorted((file for file in files if file.is_hook), key=lambda hook: hook.id)
        self.by_id = {file.id: file for file in self.files}
        self.records = {record.id: record for record in history.records}
        self.headers: dict[str, Header] = {}
        self.refusals: list[str] = []
        self.warnings: list[str] = []
        self.drift = [drift for record in history.records if (drift := self._drift_of(record))]
        self.missing = [record.id for record in history.records if record.id not in self.by_id]
        self.pending: list[MigrationFile] = []
        self.out_of_order: list[str] = []

    def plan(self) -> Plan:
        self._refuse_duplicates()
        if self.request.count is not None and self.request.count < 1:
            self.refusals.append(f"count is {self.request.count}; it takes 1 or more")
        if self.request.state == "repaired" and self.request.count is not None:
            self.refusals.append("count does not go with state=repaired; name one migration by target")
        self.pending = [file for file in self.by_id.values() if file.id not in self.records]
        if self.request.state in ("applied", "baselined"):
            self._order_pending()
        choose = {
            "applied": self._applied,
            "rolled_back": self._rolled_back,
            "baselined": self._baselined,
            "repaired": self._repaired,
        }[self.request.state]
        steps = choose()
        return Plan(
            steps=() if self.refusals else tuple(steps),
            pending=tuple(file.id for file in self.pending),
            drift=tuple(self.drift),
            missing=tuple(self.missing),
            out_of_order=tuple(self.out_of_order),
            refusals=tuple(self.refusals),
            warnings=tuple(self.warnings),
        )

    def _refuse_duplicates(self) -> None:
        files = [*self.files, *self.hooks]
        for id, count in Counter(file.id for file in files).items():
            if count > 1:
                paths = _listed(file.path for file in files if file.id == id)
                self.refusals.append(f"{count} files claim the id {id}: {paths}")

    def _drift_of(self, record: Record) -> Drift | None:
        file = self.by_id.get(record.id)
        if file is None or record.checksum is None or record.checksum == file.checksum:
            return None
        return Drift(file.id, file.path, record.checksum, file.checksum, record.applied_at)

    def _order_pending(self) -> None:
        """Read the headers of what is not applied, check them as a whole, and put the files in order."""
        if not self.pending:
            return
        for file in self.pending:
            self._read(file)
        for file in self.pending:
            if unknown := sorted(self._header(file).depends - self.by_id.keys() - self.records.keys()):
                self.refusals.append(
                    f"{file.path} depends on {_listed(unknown)}, which no file and no record knows"
                )
        if cycle := find_cycle({file.id: self._header(file) for file in self.pending}):
            self.refusals.append(f"the dependencies form a cycle: {' -> '.join(cycle)}")
        else:
            self.pending = ordered(self.pending, self.headers)

    def _applied(self) -> list[Step]:
        self._refuse_unfinished()
        selected = self._up_to_target(self.pending)
        self.out_of_order = self._late(selected)
        self._judge_findings(self.drift, self.missing)
        if self.out_of_order:
            self._judge(
                self.request.on_out_of_order,
                f"not in order: {_listed(self.out_of_order)}, because a later migration is already applied",
                "give a later name, or set on_out_of_order to warn or ignore",
            )
        steps = [self._step("apply", file) for file in selected]
        steps += [self._step("hook", hook) for hook in self.hooks if selected or self._owed(hook)]
        self._refuse_python(steps)
        return steps

    def _rolled_back(self) -> list[Step]:
        self._refuse_unfinished()
        records = list(self.history.records)
        if self.request.target is not None:
            if self.request.target not in self.records:
                self.refusals.append(f"the target {self.request.target} is not applied")
                return []
            keep = [record.id for record in records].index(self.request.target) + 1
        else:
            keep = max(len(records) - (self.request.count or 0), 0)
        undone = [record.id for record in reversed(records[keep:])]
        self._judge_findings([drift for drift in self.drift if drift.id in undone], [])
        if missing := [id for id in undone if id not in self.by_id]:
            self.refusals.append(f"{_listed(missing)} cannot be rolled back, because the file is missing")
            return []
        undone_files = [self.by_id[id] for id in undone]
        for file in undone_files:
            self._read(file)
        fixed = [file.id for file in undone_files if not self._header(file).reversible]
        if fixed and not self.request.allow_irreversible:
            self.refusals.append(
                f"{_listed(fixed)} cannot be rolled back: there is no .rollback.sql beside the file, or a "
                "step of a .py has no rollback. Write it, or set allow_irreversible to forget the record and "
                "leave the rest as it is"
            )
        steps = [self._step("rollback", file) for file in undone_files]
        self._refuse_python(steps)
        return steps

    def _baselined(self) -> list[Step]:
        steps = [self._step("mark", file) for file in self._up_to_target(self.pending)]
        rollbacks = {item.id: item for item in self.history.unfinished if item.operation == "rollback"}
        if self.request.target in rollbacks:
            item = rollbacks[self.request.target]
            self.refusals.append(f"the rollback of {item.id} did not finish. {item.remedy}")
        return steps

    def _repaired(self) -> list[Step]:
        files = {file.id: file for file in [*self.files, *self.hooks]}
        steps = [
            Step("unmark" if item.operation == "rollback" else "clear", item.id, files.get(item.id))
            for item in self.history.unfinished
        ]
        for record in self.history.records:
            file = self.by_id.get(record.id)
            if file is not None and record.checksum != file.checksum:
                steps.append(Step("adopt", file.id, file))
        target = self.request.target
        known = self.by_id.keys() | self.records.keys() | {item.id for item in self.history.unfinished}
        if target is not None and target not in known:
            self.refusals.append(f"the target {target} is neither a migration in the source nor a record")
        return [step for step in steps if target in (None, step.id)]

    def _up_to_target(self, pending: list[MigrationFile]) -> list[MigrationFile]:
        target = self.request.target
        if target is None:
            return pending[: self.request.count]
        if target in self.records:
            return []
        for at, file in enumerate(pending):
            if file.id == target:
                return pending[: at + 1]
        self.refusals.append(f"the target {target} is not among the migrations; it takes an exact id")
        return []

    def _late(self, selected: Iterable[MigrationFile]) -> list[str]:
        """The ids that sort before an applied migration though nothing they depend on explains it.

        Sources are released each at its own pace, so only a migration of the same source counts.
        """
        position = {id: at for at, id in enumerate(self.by_id)}
        newest: dict[str, int] = {}
        for id in position.keys() & self.records.keys():
            source = _source(self.by_id[id])
            newest[source] = max(newest.get(source, -1), position[id])
        reach: dict[str, int] = {}
        for file in selected:  # dependencies come first, so their reach is known
            depends = self._header(file).depends
            reach[file.id] = max(
                [position[file.id], *(reach.get(id, position.get(id, -1)) for id in depends)]
            )
        return [id for id, at in reach.items() if at < newest.get(_source(self.by_id[id]), -1)]

    def _owed(self, hook: MigrationFile) -> bool:
        """Whether migrations were applied since the hook last succeeded; a failed hook stays owed."""
        ran_at = self.history.hook_ran_at.get(hook.id)
        last_apply_at = self.history.last_apply_at
        return last_apply_at is not None and (ran_at is None or ran_at < last_apply_at)

    def _refuse_unfinished(self) -> None:
        for item in self.history.unfinished:
            done = f"{item.statements_done} of {item.statements_total} statements"
            self.refusals.append(
                f"the non-transactional {'rollback of ' if item.operation == 'rollback' else ''}{item.id}, "
                f"begun {item.started_at:%Y-%m-%d %H:%M:%S} UTC, did not finish ({done} known to have run). "
                f"{item.remedy}"
            )

    def _refuse_python(self, steps: Iterable[Step]) -> None:
        if self.request.allow_python:
            return
        if python := [step.file.path for step in steps if step.file and step.file.is_python]:
            self.refusals.append(
                f"{_listed(python)} would run Python on the host; set allow_python to accept that"
            )

    def _judge_findings(self, drift: Collection[Drift], missing: Sequence[str]) -> None:
        for item in drift:
            self._judge(
                self.request.on_drift,
                f"{item.path} was edited after it was applied on {item.applied_at:%Y-%m-%d %H:%M:%S} UTC: "
                f"SHA-256 {item.recorded} was recorded, the file has {item.found}",
                "restore the file and put the change into a new migration, or accept it with state=repaired",
            )
        if missing:
            self._judge(
                self.request.on_missing,
                f"{_listed(missing)} applied, but no file is there",
                "restore the file, or set on_missing to warn or ignore",
            )

    def _judge(self, policy: Policy, finding: str, remedy: str) -> None:
        if policy == "fail":
            self.refusals.append(f"{finding}; {remedy}")
        elif policy == "warn":
            self.warnings.append(finding)

    def _step(self, action: str, file: MigrationFile) -> Step:
        if action == "hook":
            self._read(file)
        return Step(action, file.id, file, self._header(file).transactional)  # type: ignore[arg-type]

    def _read(self, file: MigrationFile) -> None:
        if file.id in self.headers:
            return
        try:
            self.headers[file.id] = self.read_header(file)
        except BadFileError as bad:
            self.refusals.append(str(bad.error))
            self.headers[file.id] = Header()

    def _header(self, file: MigrationFile) -> Header:
        return self.headers[file.id]


def _source(file: MigrationFile) -> str:
    return file.path.rpartition("/")[0]


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(ids)
