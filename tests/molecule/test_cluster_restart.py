"""A cluster whose members cannot start any more: one is lost to it, and no other."""

from __future__ import annotations

import pytest

from ..gameday.nodes import until
from .runs import PROJECT, Environment
from .test_cluster import HOSTS

CLUSTER = Environment(PROJECT / "molecule/cluster/inventory", "chat-cluster", HOSTS, HOSTS)


def starts(unit: str) -> dict[str, str]:
    """When each host's unit began to run; empty where it does not."""
    show = f"systemctl show --property=ActiveEnterTimestampMonotonic --value {unit}"
    return {host: CLUSTER.shell(host, f"! systemctl is-active --quiet {unit} || {show}") for host in HOSTS}


@pytest.mark.parametrize(
    ("unit", "playbook", "arguments"),
    [
        ("etcd", "playbook.yml", ["--tags", "etcd", "-e", "etcd_allow_restart=true"]),
        ("patroni", "playbooks/restart.yml", []),
    ],
)
def test_nobody_is_restarted_after_one_that_does_not_come_back(
    unit: str, playbook: str, arguments: list[str]
) -> None:
    folder = f"/etc/systemd/system/{unit}.service.d"
    before = starts(unit)
    for host in HOSTS:
        CLUSTER.shell(
            host,
            f"cd {folder}; printf '[Service]\\nExecStartPre=/bin/false\\n' >broken.conf; touch chat.conf;"
            " systemctl daemon-reload",
        )
    try:
        broken = CLUSTER.play(*arguments, playbook=playbook)
        after = starts(unit)
    finally:
        for host in HOSTS:
            CLUSTER.shell(host, f"rm {folder}/broken.conf; systemctl daemon-reload")
    assert broken.code != 0
    assert [after[host] for host in HOSTS if after[host] != before[host]] == [""]
    until(lambda: "" not in starts(unit).values(), f"{unit} starts by itself where it can again")
    mended = CLUSTER.play(*arguments, playbook=playbook)
    assert mended.code == 0, mended.failures()
    assert set(starts(unit).values()).isdisjoint({"", *before.values()})
