"""Hosts that are lost, leave and join, by the runbooks' own commands, while clients write."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ..docs.test_runbooks import follow
from ..gameday.nodes import PODMAN, Cluster, Host, until
from ..gameday.writers import Rows
from ..molecule.runs import PROJECT, Environment
from .conftest import BOUNCER_PORT, INVENTORY, described

RUNBOOKS = PROJECT / "docs/runbooks"
UNITS = "etcd patroni redis-server@sessions redis-server@realtime haproxy pgbouncer"

pytestmark = pytest.mark.tier


def members(cluster: Cluster, asked: Host) -> dict[str, str]:
    """The id of each of etcd's members, by its name; a learner's is left out."""
    inventory = str(cluster.inventory.relative_to(PROJECT))
    said = subprocess.run(
        ["bin/etcd", inventory, asked.name, "member", "list"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return {name: number for number, name in re.findall(r"^(\w+), started, (\w+), .*, false$", said, re.M)}


def starts(*hosts: Host) -> list[str]:
    """When each of the hosts' services was started, and its process.

    Without Sentinel: another address is another certificate for all, which it reads as it starts.
    """
    return [
        host.run(f"systemctl show --property=Id,MainPID,ExecMainStartTimestamp {UNITS}") for host in hosts
    ]


def await_sentinels(cluster: Cluster) -> None:
    """Wait until every Sentinel knows the other hosts' Sentinels, and copies, and nobody else."""
    others = len(cluster.hosts) - 1

    def counted(host: Host) -> bool:
        known = cluster.sentinel_master(host, "sessions")
        return (known["num-other-sentinels"], known["num-slaves"]) == (str(others), str(others))

    until(lambda: all(map(counted, cluster.hosts)), "each Sentinel knows the others alone")


def test_host_that_was_lost_with_its_data_is_a_member_of_everything_again(
    whole: tuple[Environment, Cluster], tmp_path: Path
) -> None:
    """The inventory's first one, which is the one that tasks ask that ask only one."""
    environment, cluster = whole
    lost, *others = cluster.hosts
    before, untouched = members(cluster, others[0]), starts(*others)
    with Rows(cluster.settings(tmp_path), [], BOUNCER_PORT) as rows:
        lost.podman("rm", "--force", "--volumes", "--time=0")
        rows.flows()
        made = environment.play(playbook="molecule/shared/create.yml")  # with another SSH host key
        assert made.code == 0, made.failures()
        follow(RUNBOOKS / "node-lost.md", "Check", str(INVENTORY), names=(("node1", others[0].name),))
        plan = environment.play("--check")
        assert plan.code == 0, plan.failures()
        shared = "Keep what all members share, and ask who is primary"
        assert shared not in {name.split(" : ")[-1] for name in plan.changed_tasks(lost.name)}
        known = ((f"{INVENTORY}/known_hosts", f"{INVENTORY}/.state/known_hosts"),)
        follow(RUNBOOKS / "node-lost.md", "Act", str(INVENTORY), (*known, ("203.0.113.11", lost.address)))
        rows.flows()
    cluster.await_whole()
    await_sentinels(cluster)
    follow(RUNBOOKS / "node-lost.md", "Confirm", str(INVENTORY))
    after = members(cluster, others[0])
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {lost.name}
    assert starts(*others) == untouched
    assert rows.lost() == 0
    print(f"\nwithout a row for {rows.gap_s():.1f} s, {len(rows.acknowledged)} acknowledged")


def test_etcd_begins_again_from_the_member_that_is_left(
    whole: tuple[Environment, Cluster], tmp_path: Path
) -> None:
    environment, cluster = whole
    first, *others = cluster.hosts
    with Rows(cluster.settings(tmp_path), [], BOUNCER_PORT) as rows:
        for host in others:
            host.run("systemctl kill --signal KILL etcd; systemctl stop etcd; rm -r /var/lib/etcd/chat")
        rows.flows()
        refused = environment.play()
        assert "begins no second cluster" in refused.failures()
        follow(RUNBOOKS / "etcd-lost-quorum.md", "Check", str(INVENTORY))
        follow(RUNBOOKS / "etcd-lost-quorum.md", "Act", str(INVENTORY))
        rows.flows()
    cluster.await_whole()
    follow(RUNBOOKS / "etcd-lost-quorum.md", "Confirm", str(INVENTORY))
    assert members(cluster, first).keys() == {host.name for host in cluster.hosts}
    assert rows.lost() == 0


@pytest.fixture
def inventory() -> Path:
    """A copy of the scenario's, for the hosts to be others."""
    copy = PROJECT / ".cache/nodes"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(INVENTORY, copy)
    return copy


def page_in_steps(folder: Path) -> tuple[Path, Path, Path]:
    """The page on nodes that come and go, and what it says under Act: to add some, and to remove node3."""
    page = RUNBOOKS / "add-or-remove-a-node.md"
    act = page.read_text().partition("\n## Act\n")[2].partition("\n## ")[0]
    add, remove = folder / "add.md", folder / "remove.md"
    for step, block in zip((add, remove), re.findall(r"```sh\n.*?```", act, re.DOTALL), strict=True):
        step.write_text(block)
    return page, add, remove


def remove_containers(network: str, *names: str) -> None:
    """The scenario's end removes its network, and knows nobody but its own hosts."""
    hosts = [f"{network}-{name}" for name in names]
    subprocess.run([*PODMAN, "rm", "--force", "--ignore", "--time=0", *hosts], check=True)


def test_two_hosts_more_and_less_again(
    whole: tuple[Environment, Cluster], inventory: Path, tmp_path: Path
) -> None:
    environment, cluster = whole
    three = cluster.hosts
    first, untouched = three[0], starts(*three)
    page, add, remove = page_in_steps(tmp_path)
    hosts = inventory / "hosts.yml"
    groups, network = yaml.safe_load(hosts.read_text()), first.address.rpartition(".")[0]
    for group in groups.values():
        group["hosts"] |= {f"node{number}": {"ansible_host": f"{network}.1{number}"} for number in (4, 5)}
    hosts.write_text(yaml.safe_dump(groups))
    with Rows(cluster.settings(tmp_path), [], BOUNCER_PORT) as rows:
        try:
            environment, five = described(inventory)
            made = environment.play(playbook="molecule/shared/create.yml")
            assert made.code == 0, made.failures()
            follow(add, "", str(inventory))
            five.await_whole()
            await_sentinels(five)
            follow(page, "Confirm", str(inventory))
            assert members(five, first).keys() == {host.name for host in five.hosts}
            text = remove.read_text()
            for name in ("node5", "node4"):
                remove.write_text(text.replace("node3", name))
                follow(remove, "", str(inventory))
                refused = environment.play("--extra-vars=node=node3", playbook="playbooks/remove_node.yml")
                assert "a host that has left out of hosts.yml" in refused.failures(name)
                for group in groups.values():
                    group["hosts"].pop(name, None)  # one mapping for all, where the file has an anchor
                hosts.write_text(yaml.safe_dump(groups))
        finally:
            remove_containers(environment.network, "node4", "node5")
        follow(add, "", str(INVENTORY))
        rows.flows()
    cluster.await_whole()
    await_sentinels(cluster)
    follow(page, "Confirm", str(INVENTORY))
    assert members(cluster, first).keys() == {host.name for host in three}
    assert starts(*three) == untouched
    assert rows.lost() == 0


def test_another_host_takes_the_place_of_one_that_leaves(
    whole: tuple[Environment, Cluster], inventory: Path, tmp_path: Path
) -> None:
    environment, cluster = whole
    first, second, third = cluster.hosts
    untouched = starts(first, second)
    page, add, remove = page_in_steps(tmp_path)
    address = third.address.rpartition(".")[0] + ".14"
    with Rows(cluster.settings(tmp_path), [], BOUNCER_PORT) as rows:
        follow(page, "Check", str(inventory))
        follow(remove, "", str(inventory))
        assert members(cluster, first).keys() == {first.name, second.name}
        assert cluster.patroni().keys() == {first.name, second.name}
        slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'node3'"
        until(lambda: cluster.primary().psql(slots) == "0", "the slot is gone")
        hosts = inventory / "hosts.yml"
        hosts.write_text(hosts.read_text().replace("node3", "node4").replace(third.address, address))
        environment, cluster = described(inventory)
        try:
            made = environment.play(playbook="molecule/shared/create.yml")
            assert made.code == 0, made.failures()
            follow(add, "", str(inventory))
            rows.flows()
            cluster.await_whole()
            await_sentinels(cluster)
            follow(page, "Confirm", str(inventory))
            assert members(cluster, first).keys() == {first.name, second.name, "node4"}
            assert starts(first, second) == untouched
        finally:
            remove_containers(environment.network, "node4")
    assert rows.lost() == 0
