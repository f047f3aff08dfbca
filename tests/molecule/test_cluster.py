"""A cluster that was just provisioned: who is let in, what was changed by hand is undone, no secret shown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ..gameday.nodes import until
from .runs import PROJECT, Environment, Run
from .test_security import LOGS

HOSTS = ("node1", "node2", "node3")
SENTINEL = "/run/sentinel/sentinel.sock"
# The beginning of a script that shows the host's certificate if it is given an argument.
CONTEXT = (
    "import ssl, sys, urllib.error, urllib.request\n"
    "context = ssl.create_default_context(cafile='/etc/ssl/certs/chat-ca.pem')\n"
    "certificate = ('/etc/ssl/certs/chat.pem', '/etc/ssl/private/chat.key')\n"
    "if len(sys.argv) > 1: context.load_cert_chain(*certificate)\n"
)
SHARED = "patronictl -c /etc/patroni/config.yml show-config"


@pytest.fixture(scope="module")
def cluster() -> Environment:
    """The scenario `cluster`, converged."""
    return Environment(PROJECT / "molecule/cluster/inventory", "chat-cluster", HOSTS, HOSTS)


def redis_cli(cluster: Environment, host: str, socket: str, words: str) -> str:
    """What the host's instance, or its Sentinel, answers the administrator."""
    return cluster.shell(
        host,
        f"read -r REDISCLI_AUTH; export REDISCLI_AUTH; redis-cli --user chat_admin -s {socket} {words}",
        stdin=cluster.secrets()["vault_redis_chat_admin_password"] + "\n",
    )


def changed(run: Run) -> dict[str, set[str]]:
    """Which tasks of a run changed something, by host; without the role's name."""
    assert run.code == 0, run.failures()
    found = {host: {name.split(" : ")[-1] for name in run.changed_tasks(host)} for host in HOSTS}
    return {host: tasks for host, tasks in found.items() if tasks}


def locked(cluster: Environment, host: str) -> bool:
    """Whether a run has the host."""
    return cluster.shell(host, "cat /run/chat-run.lock") != ""


def test_stock_sentinel_never_ran(cluster: Environment) -> None:
    for host in HOSTS:
        listening = cluster.shell(host, "ss -Hlnt 'sport = :26379' | awk '{print $4}'").split()
        assert len(listening) == 2
        assert not {"0.0.0.0:26379", "[::]:26379", "*:26379"} & set(listening)
        # The stock configuration watches mymaster.
        assert "mymaster" not in cluster.shell(host, "journalctl -u redis-sentinel --no-pager -o cat")
        stock = cluster.shell(host, f"redis-cli -s {SENTINEL} SENTINEL MASTERS")
        assert stock.startswith("NOAUTH")


def test_etcd_and_patroni_let_nobody_in_without_a_certificate_and_a_password(cluster: Environment) -> None:
    secure = (
        "--cacert /etc/ssl/certs/chat-ca.pem --cert /etc/ssl/certs/chat.pem --key /etc/ssl/private/chat.key"
    )
    address = cluster.address("node1")
    etcd = f"etcdctl --endpoints https://{address}:2379 --command-timeout 20s"
    nobody = cluster.shell("node1", f"{etcd} {secure} get / 2>&1 || true")
    assert "permission denied" in nobody or "user name is empty" in nobody
    bare = cluster.shell("node1", f"{etcd} --cacert /etc/ssl/certs/chat-ca.pem get / 2>&1 || true")
    assert "Unavailable" in bare or "deadline exceeded" in bare
    peers = (
        f"{CONTEXT}"
        f"try: print(urllib.request.urlopen('https://{address}:2380/members', context=context).status)\n"
        "except OSError as error: print(error)\n"
    )
    assert "certificate" in cluster.shell("node1", "python3 -", stdin=peers)
    assert cluster.shell("node1", "python3 - certificate", stdin=peers) == "200"
    change = (
        f"{CONTEXT}"
        f"request = urllib.request.Request('https://{address}:8008/restart', b'{{}}', method='POST')\n"
        "try: print(urllib.request.urlopen(request, context=context).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    assert cluster.shell("node1", "python3 -", stdin=change) == "403"
    assert cluster.shell("node1", "python3 - certificate", stdin=change) == "401"


def test_what_was_changed_by_hand_is_foretold_and_undone_by_one_run_at_a_time(cluster: Environment) -> None:
    first, second, third = HOSTS
    shared = cluster.shell(second, SHARED)
    redis_cli(cluster, first, SENTINEL, "SENTINEL SET sessions quorum 1 down-after-milliseconds 60000")
    redis_cli(cluster, second, SENTINEL, "SENTINEL SET sessions auth-pass another")
    redis_cli(cluster, second, SENTINEL, "SENTINEL MONITOR stranger 192.0.2.1 6379 2")
    redis_cli(cluster, third, SENTINEL, "ACL SETUSER default on nopass")
    redis_cli(cluster, third, "/run/redis-sessions/redis.sock", "CONFIG SET masterauth another")
    cluster.shell(second, "echo '# by hand' >>/etc/patroni/config.yml")
    cluster.shell(
        first,
        "patronictl -c /etc/patroni/config.yml edit-config --force -s ttl=45 -s maximum_lag_on_failover=7"
        " -s primary_stop_timeout=7 -p deadlock_timeout=7s",
    )
    watch, bring = "Watch the masters", "Bring the running instances to what their files say"
    keep = "Keep what all members share, and ask who is primary"
    reread = {"Write Patroni's configuration", "Run Patroni", "Watch over it"}
    wanted = {first: {watch, keep}, second: {watch, *reread}, third: {watch, bring}}
    plan = cluster.play("--check", "--diff")
    assert changed(plan) == wanted
    with ThreadPoolExecutor() as pool:
        undoing = pool.submit(cluster.play)
        until(lambda: all(locked(cluster, host) for host in HOSTS), "the run has the hosts")
        refused = cluster.play()
        assert not undoing.done()
        assert refused.code != 0
        for host in HOSTS:
            assert " runs here since 20" in refused.failures(host)
        assert changed(undoing.result()) == wanted
    said = redis_cli(cluster, first, SENTINEL, "SENTINEL MASTER sessions").split()
    assert said[said.index("quorum") + 1] == "2"
    assert said[said.index("down-after-milliseconds") + 1] == "1000"
    assert "ttl: 20" in shared
    assert cluster.shell(second, SHARED) == shared

    logs = {host: cluster.shell(host, LOGS) for host in HOSTS}
    plans = {host: plan.diff(host) for host in HOSTS}
    assert all("patroni" in log for log in logs.values())
    assert "# by hand" in plans[second]
    shown = [*logs.items(), *plans.items()]
    words = {line for secret in cluster.secrets().values() for line in secret.splitlines() if "-" not in line}
    assert len(words) > 10
    assert [(where, word[:4]) for where, text in shown for word in words if word in text] == []
