"""When Patroni counts as one that hangs, and when a copy may let go of its primary.

That is only while each write waits for it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/patroni/files/patroni_watch.py"
_spec = importlib.util.spec_from_file_location("patroni_watch", SCRIPT)
patroni_watch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(patroni_watch)

STRICT = {"synchronous_mode": True, "synchronous_mode_strict": True}


def cluster(config: dict[str, Any] | None = None, **changed: Any) -> SimpleNamespace:
    """What etcd holds of a cluster whose primary node1 waits for node2 and node4."""
    return SimpleNamespace(
        **{
            "config": SimpleNamespace(data=STRICT if config is None else config),
            "failover": None,
            "leader": SimpleNamespace(name="node1"),
            "sync": SimpleNamespace(leader="node1", members=["node2", "node4"]),
            **changed,
        }
    )


@pytest.mark.parametrize("member", ["node2", "node4"])
def test_copy_that_is_waited_for_may(member):
    assert patroni_watch.fenced(cluster(), member)


@pytest.mark.parametrize(
    ("seen", "member"),
    [
        (cluster(), "node3"),
        (cluster(), "node1"),
        (cluster(sync=SimpleNamespace(leader="node3", members=["node2"])), "node2"),
        (cluster(sync=SimpleNamespace(leader="node1", members=[])), "node2"),
        (cluster(sync=None), "node2"),
        (cluster(leader=None), "node2"),
        (cluster(leader=SimpleNamespace(name=None)), "node2"),
        (cluster(failover=SimpleNamespace(candidate="node3")), "node2"),
        (cluster(STRICT | {"pause": True}), "node2"),
        (cluster(STRICT | {"synchronous_mode_strict": False}), "node2"),
        (cluster({}), "node2"),
        (SimpleNamespace(**{**vars(cluster()), "config": None}), "node2"),
    ],
)
def test_nobody_else_may(seen, member):
    assert not patroni_watch.fenced(seen, member)


@pytest.mark.parametrize(
    ("told", "silent"),
    [({"TTL": "20", "grantedTTL": "20"}, 0), ({"TTL": "13", "grantedTTL": "20"}, 7), ({"TTL": "-1"}, 1)],
)
def test_age_of_a_lease_is_what_is_gone_of_it(told, silent):
    client = SimpleNamespace(call_rpc=lambda _path, fields: told if fields == {"ID": "7"} else {})
    assert patroni_watch.silent_s(SimpleNamespace(_client=client), "7") == silent


@pytest.mark.parametrize(
    ("began_s", "heard_s", "hangs"),
    [(10, 20, True), (90, 20, False), (60, 20, True), (90, 0, False), (60, 0, True)],
)
def test_process_has_time_to_begin(began_s, heard_s, hangs):
    assert patroni_watch.hangs(began_s, heard_s, now_s=100) == hangs


@pytest.mark.parametrize(
    ("state", "process"), [("active", 7), ("reloading", 7), ("deactivating", 0), ("failed", 0)]
)
def test_process_that_is_to_stop_is_left_alone(monkeypatch, state, process):
    said = f"MainPID=7\nExecMainStartTimestampMonotonic=2500000\nActiveState={state}\n"
    monkeypatch.setattr(patroni_watch.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    assert patroni_watch.main_process() == (process, 2.5)
