"""The cluster loses hosts while a client writes: every acknowledged write is there, and the host is back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from ..molecule.runs import PODMAN, PROJECT, Environment

NODES = ("node1", "node2", "node3")
PATIENCE_S = 120  # after which a condition counts as never met


@pytest.fixture(scope="module")
def environment() -> Environment:
    """The scenario `cluster`, whose hosts are converged."""
    return Environment(PROJECT / "molecule/cluster/inventory", "chat-cluster", NODES, NODES)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.5)


def members(environment: Environment) -> dict[str, tuple[str, str]]:
    """Each member's role and state, as the first node that answers says."""
    for node in NODES:
        listing = environment.shell(
            node, "timeout 5 patronictl -c /etc/patroni/config.yml list -f json", check=False
        )
        with suppress(ValueError):
            return {entry["Member"]: (entry["Role"], entry["State"]) for entry in json.loads(listing)}
    return {}


def leader(environment: Environment) -> str:
    return next((name for name, (role, _) in members(environment).items() if role == "Leader"), "")


def streaming(environment: Environment) -> int:
    """How many copies stream, by the primary's own word."""
    primary = leader(environment)
    question = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    return int(environment.psql(primary, question)) if primary else 0


class Writer:
    """Writes number after number by HAProxy; keeps those that were acknowledged, and the longest gap."""

    def __init__(self, environment: Environment) -> None:
        doors = ",".join(f"{environment.address(node)}:5000" for node in NODES)
        password = environment.secrets()["vault_postgresql_chat_app_password"]
        self._dsn = (
            f"postgresql://chat_app:{password}@{doors}/chat?sslmode=verify-full&connect_timeout=2"
            f"&tcp_user_timeout=3000&sslrootcert={environment.inventory / 'ca.pem'}"
        )
        self.acknowledged: list[int] = []
        self.gap_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        self.flows()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        number, last = 0, time.monotonic()
        while not self._over.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as connection:
                while not self._over.is_set():
                    number += 1  # one that failed is not tried again: it may be there
                    connection.execute("INSERT INTO written VALUES (%s)", [number], prepare=False)
                    self.acknowledged.append(number)
                    self.gap_s, last = max(self.gap_s, time.monotonic() - last), time.monotonic()
            self._over.wait(0.1)

    def flows(self) -> None:
        """Wait for a hundred more."""
        before = len(self.acknowledged)
        until(lambda: len(self.acknowledged) >= before + 100)

    def lost(self) -> set[int]:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            found = {number for (number,) in connection.execute("SELECT number FROM written").fetchall()}
        return set(self.acknowledged) - found


@pytest.fixture
def written(environment: Environment) -> None:
    """A table for the numbers, empty."""
    environment.psql(
        leader(environment),
        "DROP TABLE IF EXISTS written; CREATE TABLE written (number int PRIMARY KEY);"
        " GRANT SELECT, INSERT ON written TO chat_app",
    )


def kill_host(environment: Environment, primary: str) -> None:
    subprocess.run([*PODMAN, "kill", "--signal", "KILL", f"{environment.network}-{primary}"], check=True)


def kill_postmaster(environment: Environment, primary: str) -> None:
    environment.shell(primary, "kill -9 $(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)")


def stop_patroni(environment: Environment, primary: str) -> None:
    environment.shell(primary, "kill -STOP $(systemctl show -p MainPID --value patroni)")


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("fault", [kill_postmaster, stop_patroni, kill_host])
def test_no_acknowledged_write_is_lost_and_the_member_comes_back(environment, fault):
    until(lambda: streaming(environment) == 2)
    primary = leader(environment)
    with Writer(environment) as writer:
        fault(environment, primary)
        time.sleep(3)  # the fault is felt before the count begins
        writer.flows()
    print(f"{fault.__name__}: {len(writer.acknowledged)} written, longest gap {writer.gap_s:.1f} s")
    assert not writer.lost()
    if fault is kill_host:
        subprocess.run([*PODMAN, "start", f"{environment.network}-{primary}"], check=True)
    until(lambda: streaming(environment) == 2)


def test_the_run_after_it_changes_nothing(environment):
    environment.psql(leader(environment), "DROP TABLE written")
    run = environment.play()
    assert run.code == 0, run.failures()
    assert set(run.changed.values()) == {0}, {host: run.changed_tasks(host) for host in NODES}
