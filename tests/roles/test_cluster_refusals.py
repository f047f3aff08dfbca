"""What is refused of a cluster before any host changes, by the roles' own expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLES = Path(__file__).parents[2] / "roles"
THREE = ["node1", "node2", "node3"]


def said(role: str, name: str, **variables: Any) -> Any:
    """The value of a variable of the role's vars/main.yml, among others."""
    loader = DataLoader()
    own = loader.load_from_file(str(ROLES / role / "vars/main.yml"), trusted_as_template=True)
    return Templar(loader, variables={**own, **variables}).template(own[name])


SENTINEL = {
    "groups": {"redis_sentinel": THREE, "redis": THREE},
    "common_redis_flavour": "redis",
    "redis_sentinel_quorum": 2,
}
PARTLY = {"postgresql": THREE, "pgbouncer": THREE[:1]}
PGBOUNCER = {
    "groups": {"postgresql": THREE, "pgbouncer": THREE},
    "group_names": ["pgbouncer", "postgresql"],
    "common_clustered": True,
    "pgbouncer_open_files_needed": 1000,
    "pgbouncer_open_files": 65536,
    "pgbouncer_query_timeout_s": 60,
    "chat_database_statement_timeout_s": 30,
}
HAPROXY = {
    "groups": {"pgbouncer": THREE},
    "inventory_hostname": "node1",
    "common_clustered": True,
    "haproxy_primary_port": 5000,
    "haproxy_copies_port": 5001,
}


@pytest.mark.parametrize(
    ("role", "variables", "problem"),
    [
        ("etcd", {"groups": {"etcd": THREE}}, ""),
        ("etcd", {"groups": {"etcd": THREE[:2]}}, "etcd has 2 hosts (node1, node2); allowed: 3, 5 or 7"),
        ("haproxy", HAPROXY, ""),
        ("haproxy", HAPROXY | {"common_clustered": False}, "node1 is in the group haproxy"),
        ("haproxy", HAPROXY | {"groups": {}}, "The group pgbouncer is empty"),
        ("haproxy", HAPROXY | {"haproxy_copies_port": 5000}, "are both 5000; allowed: two different ones"),
        ("pgbouncer", PGBOUNCER, ""),
        ("pgbouncer", PGBOUNCER | {"groups": PARTLY}, "lacks node2, node3, which can become the primary"),
        ("pgbouncer", PGBOUNCER | {"groups": PARTLY, "common_clustered": False}, ""),
        ("redis_sentinel", SENTINEL, ""),
        (
            "redis_sentinel",
            SENTINEL | {"groups": {"redis_sentinel": THREE[:2], "redis": THREE}},
            "redis_sentinel has 2 hosts (node1, node2); allowed: 3 or 5",
        ),
        (
            "redis_sentinel",
            SENTINEL | {"groups": {"redis_sentinel": THREE, "redis": THREE[:1]}},
            "redis has 1 hosts, of which none can take over",
        ),
        ("redis_sentinel", SENTINEL | {"common_redis_flavour": "valkey"}, "allowed with Sentinel: redis"),
        ("redis_sentinel", SENTINEL | {"redis_sentinel_quorum": 4}, "is 4; allowed: 1 to 3"),
    ],
)
def test_groups_that_make_no_cluster_are_refused(role: str, variables: dict[str, Any], problem: str) -> None:
    problems = said(role, f"{role}_problems", **variables)
    assert problem in "; ".join(problems)
    assert bool(problems) == bool(problem)


def test_releases_and_databases_are_compared_where_hosts_copy() -> None:
    hosts = {
        name: {
            "inventory_hostname": name,
            "ansible_facts": {"distribution_major_version": release},
            "__preflight_host": {"postgresql_system": system},
        }
        for name, release, system in (("node1", "12", "7"), ("node2", "13", ""), ("node3", "13", "9"))
    }
    hosts["node4"] = {"inventory_hostname": "node4"}  # left out by --limit
    variables = {
        "groups": {"postgresql": [*hosts], "redis": [*hosts]},
        "hostvars": hosts,
        "common_clustered": True,
        "common_redis_replicated": False,
    }
    releases = {"node1": "12", "node2": "13", "node3": "13"}
    assert said("preflight", "preflight_releases", **variables) == releases
    assert said("preflight", "preflight_systems", **variables) == {"node1": "7", "node3": "9"}
    variables["common_clustered"] = False
    assert said("preflight", "preflight_releases", **variables) == {}
    variables["common_redis_replicated"] = True
    assert said("preflight", "preflight_releases", **variables) == releases
