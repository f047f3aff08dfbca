"""Hosts that are lost, go astray, leave and join, by the runbooks' own commands, while clients write."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ..docs.test_runbooks import follow
from ..gameday.nodes import PODMAN, SENTINEL, Cluster, Host, until
from ..gameday.writers import Rows, Tokens
from ..molecule.runs import PROJECT, Environment
from .conftest import BOUNCER_PORT, INVENTORY, described

RUNBOOKS = PROJECT / "docs/runbooks"
NODE_LOST = RUNBOOKS / "node-lost.md"
ETCD_LOST = RUNBOOKS / "etcd-lost-quorum.md"
ADD_OR_REMOVE = RUNBOOKS / "add-or-remove-a-node.md"
SPLIT_BRAIN = RUNBOOKS / "split-brain.md"
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


def at(host: Host) -> tuple[tuple[str, str], ...]:
    """What the page on a lost node has for its address, and where the scenario keeps the hosts' keys."""
    return (
        (f"{INVENTORY}/known_hosts", f"{INVENTORY}/.state/known_hosts"),
        ("203.0.113.11", host.address),
    )


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
        follow(NODE_LOST, "Check", str(INVENTORY), names=(("node1", others[0].name),))
        plan = environment.play("--check")
        assert plan.code == 0, plan.failures()
        shared = "Keep what all members share, and ask who is primary"
        assert shared not in {name.split(" : ")[-1] for name in plan.changed_tasks(lost.name)}
        follow(NODE_LOST, "Act", str(INVENTORY), at(lost))
        rows.flows()
    cluster.await_whole()
    await_sentinels(cluster)
    follow(NODE_LOST, "Confirm", str(INVENTORY))
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
            host.run("systemctl stop etcd")
        follow(ETCD_LOST, "Check", str(INVENTORY))
        assert members(cluster, first).keys() == {host.name for host in cluster.hosts}
        for host in others:
            host.run("systemctl kill --signal KILL etcd; systemctl stop etcd; rm -r /var/lib/etcd/chat")
        rows.flows()
        refused = environment.play()
        assert "begins no second cluster" in refused.failures()
        follow(ETCD_LOST, "Check", str(INVENTORY))
        follow(ETCD_LOST, "Act", str(INVENTORY), step="FORCE_NEW_CLUSTER")
        follow(ETCD_LOST, "Act", str(INVENTORY), step="playbook.yml")
        rows.flows()
    cluster.await_whole()
    follow(ETCD_LOST, "Confirm", str(INVENTORY))
    assert members(cluster, first).keys() == {host.name for host in cluster.hosts}
    assert rows.lost() == 0


def test_one_host_is_left_that_nobody_waited_for(whole: tuple[Environment, Cluster], tmp_path: Path) -> None:
    """No engine may make it the primary, or the master, on its own."""
    environment, cluster = whole
    left = cluster.synchronous()
    lost = [host for host in cluster.hosts if host is not left]
    mine = (("left=node1", f"left={left}"),)
    if cluster.redis_master("sessions") is left:
        cluster.redis_cli(left, SENTINEL, "SENTINEL", "FAILOVER", "sessions")
        until(lambda: cluster.redis_master("sessions") is not left, "another one is master")
        cluster.await_whole()
    settings = cluster.settings(tmp_path)
    with Rows(settings, [], BOUNCER_PORT) as rows, Tokens(settings) as tokens:
        pass
    count = "SELECT count(*) FROM gameday"
    until(lambda: left.psql(count) == cluster.primary().psql(count), "the copy has every row")
    left.run("systemctl stop patroni")
    until(lambda: cluster.patroni()[left.name] != "Sync Standby", "no write waits for it")
    master = cluster.redis_master("sessions")
    size = ("/run/redis-sessions/redis.sock", "DBSIZE")
    until(
        lambda: cluster.redis_cli(left, *size) == cluster.redis_cli(master, *size), "the copy has every token"
    )
    for host in lost:
        host.run("systemctl stop redis-sentinel")  # both are lost at once: no two decide without them
    for host in lost:
        host.podman("rm", "--force", "--volumes", "--time=0")
    made = environment.play(playbook="molecule/shared/create.yml")
    assert made.code == 0, made.failures()
    for host in lost:
        follow(NODE_LOST, "Act", str(INVENTORY), at(host), step="ssh-keyscan")
    follow(ETCD_LOST, "Act", str(INVENTORY), mine, step="FORCE_NEW_CLUSTER")
    left.run("systemctl start patroni")
    until(lambda: cluster.patroni() == {left.name: "Replica"}, "the others' places have run out")
    follow(ETCD_LOST, "Act", str(INVENTORY), mine, step='list"')
    follow(ETCD_LOST, "Act", str(INVENTORY), mine, step="failover")
    until(lambda: left.psql("SELECT pg_is_in_recovery()") == "f", "it is the primary")
    refused = environment.play()
    assert "would be thrown away" in refused.failures()
    follow(ETCD_LOST, "Act", str(INVENTORY), mine, step="REPLICAOF")
    follow(ETCD_LOST, "Act", str(INVENTORY), mine, step="playbook.yml")
    cluster.await_whole()
    await_sentinels(cluster)
    follow(ETCD_LOST, "Confirm", str(INVENTORY))
    assert (rows.lost(), tokens.lost()) == (0, 0)
    cluster.primary().psql("TRUNCATE gameday")
    with Rows(settings, [], BOUNCER_PORT), Tokens(settings):
        pass


def test_primary_that_was_started_by_hand_gives_way_and_its_rows_are_kept(
    whole: tuple[Environment, Cluster],
) -> None:
    _environment, cluster = whole
    astray = cluster.primary()
    astray.run("systemctl stop patroni-watch patroni")
    until(lambda: cluster.primary() is not astray, "another one is the primary")
    astray.run(
        "cd /; data=$(echo /var/lib/postgresql/[0-9]*/main);"
        " sudo -u postgres /usr/lib/postgresql/*/bin/pg_ctl"
        ' start -D $data -l /dev/null -o "-c config_file=$data/patroni.conf"'
    )
    astray.psql("SET synchronous_commit = off; CREATE TABLE kept AS SELECT 'nowhere-' || 'else' AS row")
    name = (("astray=node2", f"astray={astray}"),)
    follow(SPLIT_BRAIN, "Check", str(INVENTORY))
    follow(SPLIT_BRAIN, "Act", str(INVENTORY), name)
    cluster.await_whole()
    follow(SPLIT_BRAIN, "Confirm", str(INVENTORY))
    assert astray.psql("SELECT to_regclass('kept')") == ""
    astray.run(
        "grep -rq nowhere-else /var/lib/postgresql/*/main.kept/base; rm -r /var/lib/postgresql/*/main.kept"
    )


@pytest.fixture
def inventory() -> Path:
    """A copy of the scenario's, for the hosts to be others."""
    copy = PROJECT / ".cache/nodes"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(INVENTORY, copy)
    return copy


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
            follow(ADD_OR_REMOVE, "Act", str(inventory), step="playbook.yml")
            five.await_whole()
            await_sentinels(five)
            follow(ADD_OR_REMOVE, "Confirm", str(inventory))
            assert members(five, first).keys() == {host.name for host in five.hosts}
            for name in ("node5", "node4"):
                follow(ADD_OR_REMOVE, "Act", str(inventory), (("node3", name),), step="remove_node.yml")
                refused = environment.play("--extra-vars=node=node3", playbook="playbooks/remove_node.yml")
                assert "a host that has left out of hosts.yml" in refused.failures(name)
                for group in groups.values():
                    group["hosts"].pop(name, None)  # one mapping for all, where the file has an anchor
                hosts.write_text(yaml.safe_dump(groups))
        finally:
            remove_containers(environment.network, "node4", "node5")
        follow(ADD_OR_REMOVE, "Act", str(INVENTORY), step="playbook.yml")
        rows.flows()
    cluster.await_whole()
    await_sentinels(cluster)
    follow(ADD_OR_REMOVE, "Confirm", str(INVENTORY))
    assert members(cluster, first).keys() == {host.name for host in three}
    assert starts(*three) == untouched
    assert rows.lost() == 0


def test_another_host_takes_the_place_of_one_that_leaves(
    whole: tuple[Environment, Cluster], inventory: Path, tmp_path: Path
) -> None:
    environment, cluster = whole
    first, second, third = cluster.hosts
    untouched = starts(first, second)
    address = third.address.rpartition(".")[0] + ".14"
    with Rows(cluster.settings(tmp_path), [], BOUNCER_PORT) as rows:
        follow(ADD_OR_REMOVE, "Check", str(inventory))
        follow(ADD_OR_REMOVE, "Act", str(inventory), step="remove_node.yml")
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
            follow(ADD_OR_REMOVE, "Act", str(inventory), step="playbook.yml")
            rows.flows()
            cluster.await_whole()
            await_sentinels(cluster)
            follow(ADD_OR_REMOVE, "Confirm", str(inventory))
            assert members(cluster, first).keys() == {first.name, second.name, "node4"}
            assert starts(first, second) == untouched
        finally:
            remove_containers(environment.network, "node4")
    assert rows.lost() == 0
