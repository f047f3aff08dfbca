"""When a member's name is another host's, when replication may be synchronous, and who may be restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ansible.module_utils
import pytest

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ansible.module_utils.patroni_members import PatroniError  # noqa: E402  the line above is where it is

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
