"""Redis in three copies, as its clients see it: the master is lost, hands over, and is where Sentinel says.

The scenario is `cluster`, or the inventory that CHAT_CLUSTER names.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from dotenv import dotenv_values
from pydantic import SecretBytes

from chatdata.errors import ChatDataError
from chatdata.pools import Pools
from chatdata.settings import Settings
from chatdata.stores import RefreshTokens
from chatdata.tokens import RefreshToken

from .runs import PODMAN, PROJECT, Environment

INVENTORY = Path(os.environ.get("CHAT_CLUSTER", PROJECT / "molecule/cluster/inventory"))
PATIENCE_S = 60  # after which a condition counts as never met; nothing is measured by it


@pytest.fixture(scope="module")
def cluster() -> Environment:
    """The scenario's three hosts."""
    hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["redis"]["hosts"]
    containers = yaml.safe_load((INVENTORY / "group_vars/containers.yml").read_text())
    return Environment(INVENTORY, containers["containers_network"], tuple(hosts), tuple(hosts))


@pytest.fixture
def settings(cluster: Environment, tmp_path: Path) -> Settings:
    """The contract of the first host, with a PostgreSQL that nobody asks."""
    folder = "/etc/chat-data-tier"
    (tmp_path / "app.env").write_text(cluster.shell(cluster.hosts[0], f"cat {folder}/app.env"))
    (tmp_path / "ca.pem").write_text(cluster.shell(cluster.hosts[0], f"cat {folder}/ca.pem"))
    known = {
        name.lower().removeprefix("chat_"): value
        for name, value in dotenv_values(tmp_path / "app.env").items()
    }
    secrets = cluster.secrets()
    unasked = {
        "postgresql_url": "postgresql://chat_app@192.0.2.1:6432/chat?sslmode=verify-full",
        "postgresql_password": "unasked",
        "postgresql_pool_size": 1,
        "postgresql_prepared_statements": 0,
    }
    passwords = {
        "redis_sessions_password": secrets["vault_redis_chat_app_sessions_password"],
        "redis_realtime_password": secrets["vault_redis_chat_app_realtime_password"],
        "redis_socketio_password": secrets["vault_redis_chat_socketio_password"],
        "redis_sentinel_password": secrets["vault_redis_chat_sentinel_client_password"],
    }
    return Settings(**(unasked | known | passwords | {"ca_path": tmp_path / "ca.pem"}), _env_file=None)


def redis_cli(cluster: Environment, host: str, socket: str, *words: str) -> str:
    """What the host's instance, or its Sentinel, answers the administrator."""
    password = cluster.secrets()["vault_redis_chat_admin_password"]
    return cluster.shell(
        host,
        "read -r REDISCLI_AUTH; export REDISCLI_AUTH;"
        f" redis-cli --user chat_admin -s {socket} {' '.join(words)}",
        stdin=password + "\n",
    )


def podman(*words: str) -> None:
    subprocess.run([*PODMAN, *words], check=True, capture_output=True)


def sentinel(cluster: Environment, host: str, *words: str) -> str:
    return redis_cli(cluster, host, "/run/sentinel/sentinel.sock", "SENTINEL", *words)


def master(cluster: Environment, asked: str, name: str = "sessions") -> str:
    """The host that a host's Sentinel says is master."""
    address = sentinel(cluster, asked, "GET-MASTER-ADDR-BY-NAME", name).split()[0]
    hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["redis"]["hosts"]
    return next(host for host in hosts if hosts[host]["ansible_host"] == address)


def info(cluster: Environment, host: str, name: str = "sessions") -> dict[str, str]:
    """INFO replication of a host's instance."""
    said = redis_cli(cluster, host, f"/run/redis-{name}/redis.sock", "INFO", "replication")
    return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)


def wait(condition: Callable[[], Any], what: str) -> None:
    """Wait until the condition holds; a host that is not back yet raises, which is no."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(AssertionError, IndexError, KeyError, StopIteration):
            if condition():
                return
        time.sleep(0.2)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


def whole(cluster: Environment) -> bool:
    """Whether each instance has one master, two copies that stream, and three Sentinels that say so."""
    for name in ("sessions", "realtime"):
        said = {master(cluster, host, name) for host in cluster.hosts}
        states = [info(cluster, host, name) for host in cluster.hosts]
        if len(said) != 1 or sorted(state["role"] for state in states) != ["master", "slave", "slave"]:
            return False
        if any(state.get("master_link_status", "up") != "up" for state in states):
            return False
        if info(cluster, said.pop(), name)["connected_slaves"] != "2":
            return False
    return True


class Writer:
    """Signs in and rotates tokens without end, and keeps those that it was given."""

    def __init__(self, settings: Settings) -> None:
        self.redis = Pools(settings).sessions
        self.store = RefreshTokens(
            self.redis, [SecretBytes(b"k" * 32)], replicas=settings.redis_sessions_replicas
        )
        self.given: list[RefreshToken] = []
        self.refused: list[str] = []
        self.longest_gap_s = 0.0

    def __str__(self) -> str:
        given, refused = len(self.given), len(self.refused)
        return f"\nlongest gap {self.longest_gap_s:.1f} s; {given} given out, {refused} refused"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write while the block runs."""
        ended = threading.Event()
        thread = threading.Thread(target=self._write, args=(ended,))
        thread.start()
        try:
            self.await_more()
            yield
            self.await_more()
        finally:
            ended.set()
            thread.join()

    def await_more(self) -> None:
        """Wait until something that begins now has succeeded."""
        before = len(self.given)
        wait(lambda: len(self.given) > before + 1, f"a token is given out: {self.refused[-1:]}")

    def lost(self) -> int:
        """How many of the tokens that were given out are unknown now."""
        unknown = 0
        for start in range(0, len(self.given), 1000):
            with self.redis.pipeline(transaction=False) as pipeline:
                for token in self.given[start : start + 1000]:
                    pipeline.exists(f"refresh_token:{token.user_id}")
                unknown += pipeline.execute().count(0)
        return unknown

    def _write(self, ended: threading.Event) -> None:
        last = time.monotonic()
        while not ended.is_set():
            try:
                self.given.append(self.store.issue(uuid4(), "device"))
            except ChatDataError as error:
                self.refused.append(str(error))
            else:
                self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - last)
                last = time.monotonic()


def changed(cluster: Environment, *arguments: str) -> dict[str, set[str]]:
    """Which tasks of a run changed something, by host."""
    run = cluster.play(*arguments)
    assert run.code == 0, run.failures()
    return {host: found for host in cluster.hosts if (found := run.changed_tasks(host))}


def test_second_run_changes_nothing_and_stock_sentinel_never_ran(cluster: Environment) -> None:
    assert changed(cluster) == {}
    for host in cluster.hosts:
        listening = cluster.shell(host, "ss -Hlnt 'sport = :26379' | awk '{print $4}'").split()
        assert len(listening) == 2
        assert not {"0.0.0.0:26379", "[::]:26379", "*:26379"} & set(listening)
        # The stock configuration watches mymaster.
        assert "mymaster" not in cluster.shell(host, "journalctl -u redis-sentinel --no-pager -o cat")
        stock = cluster.shell(host, "redis-cli -s /run/sentinel/sentinel.sock SENTINEL MASTERS")
        assert stock.startswith("NOAUTH")


def test_clients_go_on_when_the_masters_host_is_lost(cluster: Environment, settings: Settings) -> None:
    wait(lambda: whole(cluster), "all copies stream")
    lost = master(cluster, cluster.hosts[0])
    writer = Writer(settings)
    with writer.writing():
        podman("kill", f"{cluster.network}-{lost}")
        try:
            writer.await_more()
        finally:
            podman("start", f"{cluster.network}-{lost}")
    wait(lambda: whole(cluster), "the old master follows the new one")
    print(writer)
    assert master(cluster, cluster.hosts[0]) != lost
    assert writer.lost() == 0
    assert changed(cluster) == {}


def test_what_sentinel_was_told_by_hand_is_undone(cluster: Environment) -> None:
    wait(lambda: whole(cluster), "all copies stream")
    first, second, third = cluster.hosts
    sentinel(cluster, first, "SET", "sessions", "quorum", "1", "down-after-milliseconds", "60000")
    sentinel(cluster, second, "SET", "sessions", "auth-pass", "another")
    sentinel(cluster, second, "MONITOR", "stranger", "192.0.2.1", "6379", "2")
    redis_cli(cluster, third, "/run/sentinel/sentinel.sock", "ACL", "SETUSER", "default", "on", "nopass")
    redis_cli(cluster, third, "/run/redis-sessions/redis.sock", "CONFIG", "SET", "masterauth", "another")
    watch, bring = "Watch the masters", "Bring the running instances to what their files say"
    wanted = {first: {watch}, second: {watch}, third: {watch, bring}}
    assert {
        host: {name.split(" : ")[-1] for name in tasks} for host, tasks in changed(cluster, "--check").items()
    } == wanted
    assert {
        host: {name.split(" : ")[-1] for name in tasks} for host, tasks in changed(cluster).items()
    } == wanted
    assert changed(cluster) == {}
    said = sentinel(cluster, first, "MASTER", "sessions").split()
    assert said[said.index("quorum") + 1] == "2"
    assert said[said.index("down-after-milliseconds") + 1] == "1000"


def test_restarts_go_one_after_the_other_and_the_master_hands_over(
    cluster: Environment, settings: Settings
) -> None:
    wait(lambda: whole(cluster), "all copies stream")
    before = {host: cluster.redis_runs(host) for host in cluster.hosts}
    old = master(cluster, cluster.hosts[0])
    for host in cluster.hosts:
        cluster.shell(host, "touch /etc/systemd/system/redis-server@.service.d/chat.conf")
    assert changed(cluster, "--check", "-e", "common_allow_restart=false") == {}
    writer = Writer(settings)
    with writer.writing():
        assert changed(cluster, "-e", "common_allow_restart=true")
    print(writer)
    after = {host: cluster.redis_runs(host) for host in cluster.hosts}
    assert all(before[host][socket] != after[host][socket] for host in before for socket in before[host])
    assert writer.lost() == 0
    wait(lambda: whole(cluster), "all copies stream")
    assert master(cluster, cluster.hosts[0]) != old
    assert changed(cluster) == {}
