"""The planning core, by property: any history and any folder."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils.yoyo_model import (
    BadFileError,
    Header,
    History,
    MigrationFile,
    Plan,
    Policy,
    Record,
    Request,
    State,
    Unfinished,
)
from module_utils.yoyo_plan import find_cycle, plan, replay

START = datetime(2024, 1, 1)
IDS = [f"{number:03}" for number in range(8)]

Graph = dict[str, set[str]]


def file(id: str, checksum: str = "sum") -> MigrationFile:
    return MigrationFile(id, f"{id}.sql", checksum, f"{id}.rollback.sql")


def history(ids: list[str], checksum: str | None = "sum") -> History:
    return History(tuple(Record(id, START + timedelta(seconds=at), checksum) for at, id in enumerate(ids)))


def make(graph: Graph, recorded: list[str], *, hooks: tuple[str, ...] = (), **options: object) -> Plan:
    """The plan for a folder that is `graph` and a record that is `recorded`."""
    files = [file(id) for id in sorted(graph)] + [file(id) for id in hooks]
    lenient: dict[str, object] = {"on_missing": "ignore", "on_out_of_order": "ignore", **options}
    request = Request(**lenient)  # type: ignore[arg-type]
    return plan(files, history(recorded), request, lambda file: Header(frozenset(graph.get(file.id, ()))))


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    """A folder whose dependencies have no cycle, though they may run against the order of names."""
    ids = draw(st.permutations(draw(st.lists(st.sampled_from(IDS), unique=True))))
    return {id: draw(st.sets(st.sampled_from(ids[:at]))) if at else set() for at, id in enumerate(ids)}


any_graph = st.dictionaries(st.sampled_from(IDS), st.sets(st.sampled_from(IDS), max_size=3))
any_history = st.lists(st.sampled_from(IDS), unique=True)
any_request = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["applied", "rolled_back", "baselined", "repaired"]),
        "target": st.none() | st.sampled_from(IDS),
        "count": st.none() | st.integers(1, 9),
        "on_drift": st.sampled_from(["fail", "warn", "ignore"]),
        "on_missing": st.sampled_from(["fail", "warn", "ignore"]),
        "on_out_of_order": st.sampled_from(["fail", "warn", "ignore"]),
    }
)


@given(acyclic(), any_history)
def test_applying_leaves_every_file_recorded_once_after_what_it_depends_on(
    graph: Graph, recorded: list[str]
) -> None:
    steps = make(graph, recorded).steps
    after = replay(recorded, steps)
    assert sorted(after) == sorted(graph.keys() | set(recorded))
    for step in steps:
        assert graph[step.id] <= set(after[: after.index(step.id)])
    assert make(graph, after).steps == ()


@given(acyclic(), any_history, st.integers(0, 8))
def test_a_run_killed_after_any_step_is_completed_by_the_next(
    graph: Graph, recorded: list[str], done: int
) -> None:
    killed = replay(recorded, make(graph, recorded).steps[:done])
    after = replay(killed, make(graph, killed).steps)
    assert sorted(after) == sorted(graph.keys() | set(recorded))


@given(acyclic(), any_history, st.integers(1, 9))
def test_count_and_target_give_a_prefix_of_the_whole_plan(
    graph: Graph, recorded: list[str], count: int
) -> None:
    steps = make(graph, recorded).steps
    assert make(graph, recorded, count=count).steps == steps[:count]
    for at, step in enumerate(steps):
        assert make(graph, recorded, target=step.id).steps == steps[: at + 1]


@given(acyclic(), st.data())
def test_rolling_back_undoes_exactly_the_later_records_newest_first(
    graph: Graph, data: st.DataObject
) -> None:
    recorded = data.draw(st.permutations(sorted(graph)))
    for at, target in enumerate(recorded):
        steps = make(graph, recorded, state="rolled_back", target=target).steps
        assert [step.id for step in steps] == recorded[:at:-1]
        assert replay(recorded, steps) == recorded[: at + 1]
    assert replay(recorded, make(graph, recorded, state="rolled_back", count=len(recorded) + 1).steps) == []


@given(any_graph, any_history, any_request)
def test_whatever_is_asked_a_plan_is_consistent_or_refused(
    graph: Graph, recorded: list[str], request: dict[str, object]
) -> None:
    made = make(graph, recorded, **request)
    assert not (made.refusals and made.steps)
    after = replay(recorded, made.steps)  # would raise on a rollback of what is not recorded
    assert len(after) == len(set(after))
    assert set(made.pending) == graph.keys() - set(recorded)
    assert set(made.missing) == set(recorded) - graph.keys()


@given(any_graph)
def test_a_cycle_is_named_by_ids_each_of_which_depends_on_the_next(graph: Graph) -> None:
    cycle = find_cycle({id: Header(frozenset(depends)) for id, depends in graph.items()})
    for id, needed in itertools.pairwise(cycle):
        assert needed in graph[id]
    if cycle:
        assert cycle[0] == cycle[-1]
        assert any("cycle" in refusal for refusal in make(graph, []).refusals)


@pytest.mark.parametrize(("policy", "refused", "warned"), [("fail", 1, 0), ("warn", 0, 1), ("ignore", 0, 0)])
@pytest.mark.parametrize("finding", ["on_drift", "on_missing", "on_out_of_order"])
def test_each_finding_refuses_warns_or_passes(
    finding: str, policy: Policy, refused: int, warned: int
) -> None:
    folder = {
        "on_drift": [file("001", "edited")],
        "on_missing": [],
        "on_out_of_order": [file("000"), file("001")],
    }[finding]
    made = plan(folder, history(["001"]), Request(**{finding: policy}), lambda _file: Header())  # type: ignore[arg-type]
    assert (len(made.refusals), len(made.warnings)) == (refused, warned)
    assert len(made.drift) + len(made.missing) + len(made.out_of_order) == 1


def test_headers_are_read_for_what_may_run_and_for_nothing_else() -> None:
    read: list[str] = []

    def read_header(file: MigrationFile) -> Header:
        read.append(file.id)
        return Header()

    plan([file("001"), file("002"), file("003")], history(["001", "002"]), Request(), read_header)
    assert read == ["003"]


def test_every_bad_file_is_named() -> None:
    def read_header(file: MigrationFile) -> Header:
        raise BadFileError(file.path, "is bad")

    made = plan([file("001"), file("002")], History(), Request(), read_header)
    assert made.refusals == ("001.sql: is bad", "002.sql: is bad")


def test_an_unfinished_migration_stops_everything_but_its_repair() -> None:
    past = History(unfinished=(Unfinished("001", "apply", 1, 2, START),))
    folder = [file("001")]
    refused = plan(folder, past, Request(), lambda _file: Header(transactional=False))
    assert refused.steps == ()
    assert "state=repaired target=001" in refused.refusals[0]
    repaired = plan(folder, past, Request(state="repaired"), lambda _file: Header())
    assert [(step.action, step.id) for step in repaired.steps] == [("clear", "001")]
    finished = plan(folder, past, Request(state="baselined", target="001"), lambda _file: Header())
    assert [(step.action, step.id) for step in finished.steps] == [("mark", "001")]


def test_an_unfinished_hook_or_one_whose_file_was_renamed_can_be_repaired() -> None:
    past = History(unfinished=tuple(Unfinished(id, "apply", 1, 2, START) for id in ("old", "post-apply")))
    for id in ("old", "post-apply"):
        asked = plan([file("new")], past, Request(state="repaired", target=id), lambda _file: Header())
        assert [(step.action, step.id) for step in asked.steps] == [("clear", id)]


def test_an_unfinished_rollback_is_finished_by_hand_and_then_forgotten() -> None:
    past = History(records=(Record("001", START),), unfinished=(Unfinished("001", "rollback", 1, 2, START),))
    folder = [file("001")]
    refused = plan(folder, past, Request(), lambda _file: Header())
    assert "Finish it by hand and run state=repaired target=001" in refused.refusals[0]
    repaired = plan(folder, past, Request(state="repaired", target="001"), lambda _file: Header())
    assert ("unmark", "001") in [(step.action, step.id) for step in repaired.steps]
    assert replay(["001"], repaired.steps) == []
    marked = plan(folder, past, Request(state="baselined", target="001"), lambda _file: Header())
    assert "did not finish" in marked.refusals[0]


def test_a_new_file_of_one_source_is_not_late_for_another_source() -> None:
    def in_folder(folder: str, id: str) -> MigrationFile:
        return MigrationFile(id, f"{folder}/{id}.sql", "sum")

    past = History(records=(Record("001", START), Record("002", START)))
    folder = [in_folder("a", "001"), in_folder("a", "003"), in_folder("b", "000"), in_folder("b", "002")]
    asked = plan(folder, past, Request(on_out_of_order="warn"), lambda _file: Header())
    assert asked.out_of_order == ("000",)


@pytest.mark.parametrize("state", ["rolled_back", "repaired"])
def test_a_pending_file_that_cannot_be_read_does_not_hold_up_what_leaves_it_alone(state: State) -> None:
    def unreadable(path: MigrationFile) -> Header:
        if path.id == "002":
            raise BadFileError(path.path, "not UTF-8")
        return Header()

    past = History(records=(Record("001", START),))
    count = 1 if state == "rolled_back" else None
    asked = plan([file("001"), file("002")], past, Request(state=state, count=count), unreadable)
    assert asked.refusals == ()
    assert asked.pending == ("002",)


def test_a_count_does_not_go_with_repaired() -> None:
    asked = plan([file("001")], History(), Request(state="repaired", count=1), lambda _file: Header())
    assert "count" in asked.refusals[0]


def test_hooks_run_after_the_migrations_and_again_only_while_owed() -> None:
    folder, hook = [file("001"), file("post-apply")], START + timedelta(seconds=9)

    def steps(past: History) -> list[str]:
        return [step.id for step in plan(folder, past, Request(), lambda _file: Header()).steps]

    records = history(["001"]).records
    assert steps(History()) == ["001", "post-apply"]
    assert steps(History(records, last_apply_at=START)) == ["post-apply"]
    assert steps(History(records, last_apply_at=START, hook_ran_at={"post-apply": hook})) == []
    assert steps(History(records)) == []  # baselined: nothing was applied, so nothing is owed
