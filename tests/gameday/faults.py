"""What may happen to a cluster: how each fault begins, on which host, and how it ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

from ..docs.test_runbooks import follow
from ..molecule.runs import PROJECT, Environment
from .nodes import Cluster, CommandError, Host, until

Act = Callable[[Cluster, Host], None]
UNITS = "patroni etcd haproxy pgbouncer redis-sentinel redis-server@sessions redis-server@realtime"
WAL_VOLUME = "/var/lib/postgresql/wal"
BUSY_S = float(os.environ.get("GAMEDAY_BUSY_S", "60"))
LATER_S = 5  # long enough for Sentinels to replace whoever does not answer
UNDONE_BY_ITSELF_S = 300  # a rule that cuts a host off does not outlive a game day that was killed


def nothing(_cluster: Cluster, _host: Host) -> None:
    """What ends by itself."""


def as_it_is(_cluster: Cluster, _host: Host) -> AbstractContextManager[None]:
    """What needs no preparation."""
    return nullcontext()


def primary(cluster: Cluster) -> Host:
    return cluster.primary()


def sessions_master(cluster: Cluster) -> Host:
    return cluster.redis_master("sessions")


@dataclass(frozen=True)
class Fault:
    """A fault of the host that `target` finds; it lasts until writes flow again, for `lasts_s` at least.

    Somebody else takes over where `moves` is true, and nobody where `stays` is.
    """

    begin: Act
    end: Act = nothing
    target: Callable[[Cluster], Host] = primary
    lasts_s: float = 3
    stays: bool = False
    moves: bool = False
    # What stands while it happens; set up before the clients write, and taken down after them.
    scene: Callable[[Cluster, Host], AbstractContextManager[None]] = as_it_is
    # What is to be seen on the host when all is whole again.
    after: Act = nothing


def kill_host(_cluster: Cluster, host: Host) -> None:
    """Without a word to anybody, its disks as they are."""
    if host.container:
        host.podman("kill", "--signal", "KILL")
    else:
        with suppress(subprocess.SubprocessError):  # it cannot answer any more
            host.run("echo b > /proc/sysrq-trigger", timeout_s=5)


def start_host(_cluster: Cluster, host: Host) -> None:
    if host.container:
        host.podman("start")


def freeze_host(_cluster: Cluster, host: Host) -> None:
    """Its kernel still answers TCP; nothing else does."""
    if host.container:
        host.podman("pause")
    else:
        host.run(
            f"systemd-run --on-active={UNDONE_BY_ITSELF_S} systemctl thaw {UNITS}; systemctl freeze {UNITS}"
        )


def thaw_host(_cluster: Cluster, host: Host) -> None:
    if host.container:
        host.podman("unpause")
    else:
        host.run(f"systemctl thaw {UNITS}")


def _drop(host: Host, *rules: str) -> None:
    """Drop what the rules describe, in both directions, until `join` or for some minutes."""
    lines = "\n".join(rules)
    chains = [
        f"chain {hook} {{\ntype filter hook {hook} priority 0\n{lines}\n}}" for hook in ("input", "output")
    ]
    host.run(
        f"systemd-run --quiet --collect --unit gameday --on-active={UNDONE_BY_ITSELF_S}"
        " nft delete table inet gameday < /dev/null; nft -f -",
        "\n".join(["table inet gameday {", *chains, "}\n"]),
    )


def cut_from_peers(cluster: Cluster, host: Host) -> None:
    """Its clients still reach it; the other hosts of the cluster do not."""
    peers = ", ".join(other.address for other in cluster.hosts if other is not host)
    _drop(host, f"ip saddr {{ {peers} }} drop", f"ip daddr {{ {peers} }} drop")


def cut_from_all(_cluster: Cluster, host: Host) -> None:
    """From its clients too; SSH is left, to mend it."""
    address = host.address
    _drop(
        host,
        "tcp dport 22 accept",
        "tcp sport 22 accept",
        f"ip saddr {address} ip daddr {address} accept",
        "ip daddr != 127.0.0.0/8 drop",
    )


def see_rewound(_cluster: Cluster, host: Host) -> None:
    """It came back by pg_rewind, not by a copy of all there is."""
    said = host.run("journalctl --quiet --output cat --unit patroni --since '-10 minutes'")
    said = said.rpartition("Demoting self")[2]  # since it was primary
    assert "pg_rewind exit code=0" in said, said[-2000:]
    assert "replica has been created using" not in said, said[-2000:]


def cut_from_etcd(_cluster: Cluster, host: Host) -> None:
    """From all members, its own too."""
    _drop(host, "tcp dport { 2379, 2380 } drop", "tcp sport { 2379, 2380 } drop")


def join(_cluster: Cluster, host: Host) -> None:
    host.run("systemctl stop gameday.timer; nft delete table inet gameday")


def kill_postmaster(_cluster: Cluster, host: Host) -> None:
    host.run("kill -9 $(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)")


def stop_patroni(_cluster: Cluster, host: Host) -> None:
    """As if it hung: PostgreSQL goes on."""
    host.run("kill -STOP $(systemctl show --property MainPID --value patroni)")


def kill_patroni(_cluster: Cluster, host: Host) -> None:
    host.run("kill -9 $(systemctl show --property MainPID --value patroni)")


def stop_etcd_of_others(cluster: Cluster, host: Host) -> None:
    """No majority is left; the hosts themselves are all there."""
    for other in cluster.members("etcd"):
        if other is not host:
            other.run("systemctl stop etcd")


def start_etcd_of_others(cluster: Cluster, host: Host) -> None:
    for other in cluster.members("etcd"):
        if other is not host:
            other.run("systemctl start --no-block etcd")


def kill_redis(_cluster: Cluster, host: Host) -> None:
    host.run(
        "kill -9 $(systemctl show --property MainPID --value redis-server@sessions redis-server@realtime)"
    )


def switchover(cluster: Cluster, host: Host) -> None:
    _hand_over(host, cluster.synchronous())


def _hand_over(host: Host, candidate: Host) -> None:
    host.run(
        "patronictl -c /etc/patroni/config.yml switchover chat --force"
        f" --leader {host.name} --candidate {candidate.name} || "
        "patronictl -c /etc/patroni/config.yml switchover chat --force"
        f" --master {host.name} --candidate {candidate.name}"
    )


def reload_haproxy_and_hand_over(cluster: Cluster, host: Host) -> None:
    """The workers that a reload replaces look after no host any more: they end, whoever is connected."""
    for other in cluster.members("haproxy"):
        other.run("systemctl reload haproxy")
    for other in cluster.members("haproxy"):
        until(partial(_replaced_is_gone, other), f"HAProxy's replaced worker on {other} ends")
    switchover(cluster, host)


def _replaced_is_gone(host: Host) -> bool:
    return host.run("pgrep --count --exact haproxy").split() == ["2"]  # the master, and one worker


@contextmanager
def small_wal_volume(cluster: Cluster, host: Host) -> Iterator[None]:
    """The primary's WAL on a volume of its own, with 128 MB to spare."""
    data = "cd /var/lib/postgresql/*/main"
    host.run(
        f"set -e; mkdir {WAL_VOLUME}; systemctl stop patroni; {data}; size=$(du -sm pg_wal | cut -f 1);"
        f" mount -t tmpfs -o size=$((size + 128))m,mode=700,uid=postgres,gid=postgres tmpfs {WAL_VOLUME};"
        f" cp -a pg_wal/. {WAL_VOLUME}; rm -r pg_wal; ln -s {WAL_VOLUME} pg_wal; systemctl start patroni",
        timeout_s=180,
    )
    try:
        cluster.await_whole()
        if (leader := cluster.primary()) is not host:
            until(lambda: cluster.patroni()[host.name] == "Sync Standby", f"{host} is waited for")
            _hand_over(leader, host)
            cluster.await_whole()
        yield
    finally:
        host.run(
            f"set -e; systemctl stop patroni; {data};"
            f" if [ -L pg_wal ]; then rm pg_wal; cp -a {WAL_VOLUME} pg_wal; fi;"
            f" umount {WAL_VOLUME}; rmdir {WAL_VOLUME}; systemctl start patroni",
            timeout_s=180,
        )


def fill_wal_volume(_cluster: Cluster, host: Host) -> None:
    """With somebody's file; then with segment after segment, until PostgreSQL has no room for another."""
    host.run(f"head -c 1T /dev/zero >{WAL_VOLUME}/forgotten.dump 2>/dev/null; df {WAL_VOLUME} | grep 100%")

    def panicked() -> bool:
        try:
            host.psql("INSERT INTO gameday VALUES (-1) ON CONFLICT DO NOTHING; SELECT pg_switch_wal()")
        except CommandError:
            return True
        return False

    until(panicked, "PostgreSQL has no room for its WAL")


def free_wal_volume(cluster: Cluster, _host: Host) -> None:
    """As the runbook says."""
    for part in ("Check", "Act", "Confirm"):
        follow(PROJECT / "docs/runbooks/wal-volume-full.md", part, str(cluster.inventory))


def take_all_cores(cluster: Cluster, _host: Host) -> None:
    """By statements without an end, two for each core: beside Patroni, in the unit whose share is its own."""
    # PostgreSQL does not notice by itself that a busy session's client is gone.
    limit_s = round(BUSY_S + UNDONE_BY_ITSELF_S)
    endless = shlex.quote(f"SET statement_timeout = '{limit_s}s'; DO 'BEGIN LOOP PERFORM 1; END LOOP; END'")
    loops = f"for core in $(seq $((2 * $(nproc)))); do psql -Xqd postgres -c {endless} & done; wait"
    unit = ["--quiet", "--collect", "--unit=gameday", f"--property=RuntimeMaxSec={limit_s}"]
    user = ["--uid=postgres", "--setenv=PGAPPNAME=gameday"]
    for host in cluster.members("postgresql"):
        host.run(shlex.join(["systemd-run", *unit, *user, "sh", "-c", loops]))


def give_cores_back(cluster: Cluster, _host: Host) -> None:
    for host in cluster.members("postgresql"):
        host.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gameday'")


def rolling_restart(cluster: Cluster, former: Host) -> None:
    """As if the units had changed. The copies go first, and the former primary last."""
    units = ["etcd", "patroni", "pgbouncer", "haproxy", "redis-server@", "redis-sentinel"]
    for host in cluster.hosts:
        host.run("touch -c " + " ".join(f"/etc/systemd/system/{unit}.service.d/chat.conf" for unit in units))
    environment = Environment(cluster.inventory, "", ())
    run = environment.play(playbook="playbooks/restart.yml")
    assert run.code == 0, run.failures()
    run = environment.play("--check", playbook="playbooks/restart.yml")
    for host in cluster.hosts:
        assert "Nothing waits for a restart." in run.notice(host.name)
    began = "stat --format %Y /proc/$(systemctl show --property MainPID --value patroni)"
    assert max(cluster.members("postgresql"), key=lambda member: int(member.run(began))) is former


def reboot_all(cluster: Cluster, master: Host) -> None:
    """All in order, as after a loss of power that was announced.

    Of containers Redis's master, which alone has the newest tokens, goes last and is back last.
    """
    hosts = sorted(cluster.hosts, key=lambda host: host is master)
    for host in hosts:
        if host.container:
            host.podman("stop", "--time", "60", "--ignore")
        else:
            with suppress(subprocess.SubprocessError):
                host.run("systemctl reboot")
    for host in hosts:
        if host is master:
            time.sleep(LATER_S)
        start_host(cluster, host)


def see_master(cluster: Cluster, former: Host) -> None:
    """No Sentinel has made another one the master, which may not have had all tokens."""
    if former.container:  # others may be back only when Sentinel has waited long enough
        assert sessions_master(cluster) is former


FAULTS = {
    "kill_host": Fault(kill_host, start_host, moves=True),
    "kill_postmaster": Fault(kill_postmaster),
    "freeze_host": Fault(freeze_host, thaw_host, moves=True),
    "stop_patroni": Fault(stop_patroni, lasts_s=25),
    "kill_patroni": Fault(kill_patroni, lasts_s=10),
    "cut_from_etcd": Fault(cut_from_etcd, join, lasts_s=40, stays=True),
    "cut_from_peers": Fault(cut_from_peers, join, lasts_s=30, moves=True, after=see_rewound),
    # It is back before its lease would have run out, and after another one was promoted.
    "cut_from_peers_briefly": Fault(cut_from_peers, join, lasts_s=12, moves=True),
    "cut_from_all": Fault(cut_from_all, join, lasts_s=30, moves=True),
    "lose_etcd_quorum": Fault(stop_etcd_of_others, start_etcd_of_others, lasts_s=40, stays=True),
    "kill_standby": Fault(kill_host, start_host, target=Cluster.synchronous),
    "wal_volume_full": Fault(fill_wal_volume, free_wal_volume, scene=small_wal_volume, moves=True),
    "all_cores_taken": Fault(take_all_cores, give_cores_back, lasts_s=BUSY_S, stays=True),
    "switchover": Fault(switchover, moves=True),
    "haproxy_reloaded": Fault(reload_haproxy_and_hand_over, moves=True),
    "rolling_restart": Fault(rolling_restart, moves=True),
    "reboot_all": Fault(reboot_all, target=sessions_master, after=see_master),
    "kill_redis_host": Fault(kill_host, start_host, target=sessions_master, moves=True),
    "kill_redis": Fault(kill_redis, target=sessions_master, moves=True),
    "freeze_redis_host": Fault(freeze_host, thaw_host, target=sessions_master, moves=True),
    "cut_redis_host": Fault(cut_from_peers, join, target=sessions_master, lasts_s=15, moves=True),
}
