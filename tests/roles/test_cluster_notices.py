"""What a run says last of a cluster, by the role common's own expressions."""

from __future__ import annotations

from typing import Any

from .test_cluster_refusals import THREE, said

NOTHING = {
    name: {}
    for name in (
        "__etcd_restart", "__patroni_smaller", "__patroni_restart", "__patroni_primary_restart",
        "__postgresql_restart", "__pgbouncer_service", "__haproxy_service", "__redis_sentinel_restart",
        "__redis_restart", "__chat_database_roles", "__patroni_handover",
    )
}  # fmt: skip
RUN: dict[str, Any] = NOTHING | {
    "ansible_check_mode": False,
    "inventory_dir": "production",
    "inventory_hostname": "node1",
    "groups": {"etcd": THREE, "postgresql": THREE},
    "group_names": ["etcd", "postgresql"],
    "__etcd": {"members": THREE},
    "__preflight_host": {"watchdog": True},
    "__patroni": {"idle": []},
}


def test_member_of_etcd_that_no_host_is_gets_named_once() -> None:
    lost = RUN | {"__etcd": {"members": [*THREE, "node9"]}}
    (notice,) = said("common", "common_notices", **lost)
    assert "no host of the group etcd is: node9" in notice
    assert "playbooks/remove_node.yml -i production -e node=node9" in notice
    assert said("common", "common_notices", **(lost | {"inventory_hostname": "node2"})) == []
    assert said("common", "common_notices", **RUN) == []


def test_host_without_a_watchdog_is_told_each_time() -> None:
    (notice,) = said("common", "common_notices_lasting", **(RUN | {"__preflight_host": {"watchdog": False}}))
    assert "No watchdog" in notice
    assert said("common", "common_notices_lasting", **RUN) == []
    alone = RUN | {"groups": {"postgresql": ["node1"]}, "__preflight_host": {"watchdog": False}}
    assert said("common", "common_notices_lasting", **alone) == []


def test_copy_that_does_not_stream_is_named_where_it_is() -> None:
    idle = RUN | {"__patroni": {"idle": ["node1"]}}
    (notice,) = said("common", "common_notices_lasting", **idle)
    assert "docs/runbooks/replication-lags.md" in notice
    assert said("common", "common_notices_lasting", **(idle | {"inventory_hostname": "node2"})) == []
