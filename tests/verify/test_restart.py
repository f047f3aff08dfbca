"""What survives a restart of the host. Runs last: it ends the connections of the other checks."""

from __future__ import annotations

import os
import subprocess
import time
import uuid

import psycopg
import pytest
import redis

# What a script writes, stands in the AOF as one transaction.
SET_ALL = "for _, key in ipairs(KEYS) do redis.call('SET', key, 'digest', 'EX', 600) end"

pytestmark = pytest.mark.disruptive


def test_restart_of_the_host_keeps_rows_and_tokens(any_host, subject, clients, tunnel, saw):
    app, name = subject.serving("app", any_host), uuid.uuid4().hex
    sql = any_host in subject.members("pgbouncer")

    # Each by a tunnel of its own time: the one before ended with a restart.
    def database():
        port = tunnel.anew(app, any_host, any_host.port("pgbouncer"))
        return clients.postgresql(app, subject.doors("pgbouncer", app), "chat_app", port=port)

    def instance(purpose):
        port = tunnel.anew(app, any_host, any_host.port(purpose))
        return clients.redis(app, any_host, purpose, port=port)

    if sql:
        database().execute("INSERT INTO rooms (name) VALUES (%s)", [name])
    tokens = [f"refresh_token:{name}:{number}" for number in range(1000)]
    instance("tokens").eval(SET_ALL, len(tokens), *tokens)
    instance("presence").set("presence:gone", "online", ex=600)
    time.sleep(1.2)  # appendfsync everysec promises what is older than a second

    podman = ["podman"] if os.geteuid() == 0 else ["sudo", "-n", "podman"]
    subprocess.run([*podman, "restart", "--time", "60", any_host.container], check=True, capture_output=True)

    delete = "DELETE FROM rooms WHERE name = %s RETURNING last_seq"
    saw(
        ([(0,)] if sql else None, len(tokens), 0),
        (
            _when_back(lambda: database().execute(delete, [name]).fetchall()) if sql else None,
            _when_back(lambda: instance("tokens").exists(*tokens)),
            _when_back(lambda: instance("presence").exists("presence:gone")),
        ),
    )


def _when_back(ask):
    """The answer, once the host gives one."""
    deadline = time.monotonic() + 300
    while True:
        try:
            return ask()
        except (
            psycopg.OperationalError,
            redis.exceptions.ConnectionError,
            redis.exceptions.TimeoutError,
            RuntimeError,
        ):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
