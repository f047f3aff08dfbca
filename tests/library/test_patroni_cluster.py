"""When a member's name is another host's, and when replication may be synchronous."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from library.patroni_cluster import elsewhere, possible  # noqa: E402  it imports from module_utils

REST = {"node1": "https://192.0.2.1:8008/patroni", "node2": "https://[2001:db8::2]:8008/patroni"}


def test_name_belongs_to_one_address() -> None:
    assert elsewhere(REST, {"node1": "192.0.2.1", "node2": "2001:db8::2", "node3": "192.0.2.3"}) == {}
    assert elsewhere(REST, {"node1": "192.0.2.9"}) == {"node1": "192.0.2.1"}


def test_lone_member_waits_for_nobody() -> None:
    wanted = {"ttl": 20, "synchronous_mode": True, "synchronous_mode_strict": True}
    assert possible(wanted, None, copies=False) == {"ttl": 20}
    assert possible(wanted, None, copies=True) == wanted
    assert possible(wanted, {"synchronous_mode": True}, copies=False) == wanted
