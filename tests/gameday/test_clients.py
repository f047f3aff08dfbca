"""Redis's masters fail over under clients that are not chatdata's: each finds the next one by itself."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from chatdata.settings import Settings

from .clients import Clients, exchange
from .faults import kill_host, start_host
from .nodes import Cluster, Host

USERS = {"chat_app_sessions", "chat_socketio", "chat_sentinel_client"}
SOCKETS = {
    "redis": ["/run/redis-sessions/redis.sock", "/run/redis-realtime/redis.sock"],
    "redis_sentinel": ["/run/sentinel/sentinel.sock"],
}

# What only the adapter does, to see whether this environment's chat_socketio may.
DOES = {
    "classic": ["PSUBSCRIBE", "socket.io#/#*"],
    "sharded": ["SSUBSCRIBE", "socket.io#/#"],
    "streams": ["XADD", "socket.io", "*", "nsp", "/"],
    "python": ["SUBSCRIBE", "socketio"],
}


@pytest.fixture(scope="module")
def adapters(cluster: Cluster) -> list[str]:
    """Those that redis_socketio_adapter names."""
    host, socket = cluster.members("redis")[0], SOCKETS["redis"][1]
    return [
        adapter
        for adapter, does in DOES.items()
        if cluster.redis_cli(host, socket, "ACL", "DRYRUN", "chat_socketio", *does) == "OK"
    ]


def denials(cluster: Cluster, hosts: list[Host], within_s: float) -> list[str]:
    """What the clients' users were denied on these hosts in the last seconds."""
    found = []
    for group, sockets in SOCKETS.items():
        for host in (host for host in cluster.members(group) if host in hosts):
            for socket in sockets:
                log = json.loads(cluster.redis_cli(host, socket, "--json", "ACL", "LOG", "128"))
                found += [
                    f"{host} {socket}: {entry['username']} {entry['reason']} {entry['object']}"
                    for entry in log
                    if entry["username"] in USERS and float(entry["age-seconds"]) < within_s
                ]
    return found


def test_adapters_do_through_sentinel_all_they_can(
    cluster: Cluster, settings: Settings, adapters: list[str], tmp_path: Path
) -> None:
    first = cluster.members("redis_sentinel")[0]
    began = time.monotonic()
    for adapter in adapters:  # one after the other: classic and streams hear each other
        folder = tmp_path / adapter
        folder.mkdir()
        assert exchange(settings, first, adapter, folder) == "", adapter
    assert denials(cluster, cluster.hosts, time.monotonic() - began) == []


@pytest.mark.parametrize("instance", ["sessions", "realtime"])
def test_clients_find_the_next_master(
    cluster: Cluster, settings: Settings, adapters: list[str], tmp_path: Path, instance: str
) -> None:
    cluster.await_whole()
    host = cluster.redis_master(instance)
    began = time.monotonic()
    with Clients(settings, host, adapters, tmp_path) as clients:
        clients.flow()
        killed = time.monotonic()
        kill_host(cluster, host)
        try:
            clients.flow()
            gaps = clients.gaps_s(killed)
            others = [other for other in cluster.hosts if other is not host]
            denied = denials(cluster, others, time.monotonic() - began)
        finally:
            start_host(cluster, host)
        cluster.await_whole()
        clients.flow()
    denied += denials(cluster, cluster.hosts, time.monotonic() - began)
    print(
        f"\nRedis {instance}'s master ({host}) killed: without an answer for "
        + ", ".join(f"{gap:.1f} s ({kind})" for kind, gap in gaps.items())
    )
    assert denied == []
    cluster.assert_a_run_changes_nothing()
