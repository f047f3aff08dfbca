"""When a member's name is another host's, when replication may be synchronous, and who may be restarted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ansible.module_utils
import pytest
from ansible.module_utils import basic

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.patroni_members import PatroniError  # noqa: E402  the line above is where it is

from library import patroni_cluster, patroni_restart  # noqa: E402  it imports from module_utils
from library.patroni_cluster import elsewhere, possible  # noqa: E402  it imports from module_utils
from library.patroni_restart import see_the_others  # noqa: E402  it imports from module_utils

REST = {"node1": "https://192.0.2.1:8008/patroni", "node2": "https://[2001:db8::2]:8008/patroni"}


def test_name_belongs_to_one_address() -> None:
    assert elsewhere(REST, {"node1": "192.0.2.1", "node2": "2001:db8::2", "node3": "192.0.2.3"}) == {}
    assert elsewhere(REST, {"node1": "192.0.2.9"}) == {"node1": "192.0.2.1"}


def test_lone_member_waits_for_nobody() -> None:
    wanted = {"ttl": 20, "synchronous_mode": True, "synchronous_mode_strict": True}
    assert possible(wanted, None, copies=False) == {"ttl": 20}
    assert possible(wanted, None, copies=True) == wanted
    assert possible(wanted, {"synchronous_mode": True}, copies=False) == wanted


class Streaming:
    """A cluster's members of which these copies stream."""

    def __init__(self, *copies: str) -> None:
        self._copies = set(copies)

    def look(self) -> SimpleNamespace:
        return SimpleNamespace(
            leader="node1", synchronous=["node2"], rest=dict.fromkeys(["node1", "node2", "node3"])
        )

    def streaming(self) -> set[str]:
        return self._copies

    def await_(self, what: Callable[[], bool], _timeout_s: float) -> bool:
        return what()


@pytest.mark.parametrize("member", ["node2", "node1"])
def test_nobody_is_restarted_after_one_that_did_not_come_back(member: str) -> None:
    three = ["node1", "node2", "node3"]
    see_the_others(Streaming("node3", "node2"), three, member, "node1")
    with pytest.raises(PatroniError, match=f"{member} was left alone: node3 does not stream from node1"):
        see_the_others(Streaming("node2"), three, member, "node1")


def test_only_copy_of_two_may_be_restarted() -> None:
    see_the_others(Streaming(), ["node1", "node2"], "node2", "node1")


@pytest.fixture
def plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """What a module says in check mode; by hand, as Debian 12's ansible-core has no patch_module_args."""

    def run(module: ModuleType, **options: object) -> dict[str, Any]:
        given = {"ANSIBLE_MODULE_ARGS": options | {"_ansible_check_mode": True}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(given).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(module, "HAS_PATRONI", True)
        with pytest.raises(SystemExit):
            module.main()
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        return said

    return run


def test_copy_is_never_restarted_as_the_primary_may_be(
    monkeypatch: pytest.MonkeyPatch, plan: Callable[..., dict[str, Any]]
) -> None:
    """A copy that is to take smaller limits still waits for the others."""
    monkeypatch.setattr(patroni_restart, "Members", lambda _file: Streaming())
    said = {
        member: plan(
            patroni_restart,
            file="/x",
            member=member,
            members=["node1", "node2", "node3"],
            restart_for=["max_connections"],
            in_place=True,
            allow_restart=True,
        )
        for member in ("node1", "node2")
    }
    assert said["node1"]["actions"] == ["restart"]
    assert "node2 was left alone" in said["node2"]["msg"]


@pytest.mark.parametrize(("answers", "refused"), [({}, False), ({"state": "running"}, True)])
def test_second_host_of_a_members_name_is_refused_while_the_first_one_answers(
    monkeypatch: pytest.MonkeyPatch,
    plan: Callable[..., dict[str, Any]],
    answers: dict[str, str],
    refused: bool,
) -> None:
    class Taken(Streaming):
        def look(self) -> SimpleNamespace:
            return SimpleNamespace(
                leader="node1", initialized=True, rest=REST, config={"ttl": 20}, retained=[]
            )

        def status(self, name: str) -> dict[str, str]:
            assert name == "node1"
            return answers

    monkeypatch.setattr(patroni_cluster, "Members", lambda _file: Taken())
    said = plan(
        patroni_cluster,
        file=__file__,
        config={"ttl": 20},
        addresses={"node1": "192.0.2.9", "node2": "2001:db8::2"},
    )
    assert ("two hosts of one name" in said.get("msg", "")) == refused


def test_paused_cluster_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, plan: Callable[..., dict[str, Any]]
) -> None:
    class Paused(Streaming):
        def look(self) -> SimpleNamespace:
            config = {"ttl": 20, "pause": self.paused}
            return SimpleNamespace(leader="node1", initialized=True, rest={}, config=config, retained=[])

        paused = True

    monkeypatch.setattr(patroni_cluster, "Members", lambda _file: Paused())
    said = []
    for Paused.paused in (True, False):
        said += [
            plan(patroni_cluster, file=__file__),
            plan(patroni_cluster, file=__file__, config={"ttl": 20}),
        ]
    assert ["Patroni is paused" in answer.get("msg", "") for answer in said] == [True, True, False, False]
    assert [answer["changed"] for answer in said[2:]] == [False, True]
