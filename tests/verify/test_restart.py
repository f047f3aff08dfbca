"""What survives a restart of the host. Runs last: it ends the connections of the other checks."""

from __future__ import annotations

import os
import subprocess
import time
import uuid

import psycopg
import pytest
import redis

pytestmark = pytest.mark.disruptive


def test_restart_of_the_host_keeps_rows_and_tokens(app, connect, redis_connect, tunnel, saw):
    name = uuid.uuid4().hex
    connect("chat_app").execute("INSERT INTO rooms (name) VALUES (%s)", [name])
    redis_connect("sessions").set("refresh_token:kept", "digest", ex=600)
    redis_connect("realtime").set("presence:gone", "online", ex=600)
    time.sleep(1.2)  # appendfsync everysec promises what is older than a second

    podman = ["podman"] if os.geteuid() == 0 else ["sudo", "-n", "podman"]
    subprocess.run([*podman, "restart", "--time", "60", app.container], check=True, capture_output=True)
    rows = _when_back(
        lambda: (
            connect("chat_app", port=tunnel.anew(app, "pgbouncer"))
            .execute("DELETE FROM rooms WHERE name = %s RETURNING last_seq", [name])
            .fetchall()
        )
    )
    sessions = _when_back(
        lambda: redis_connect("sessions", port=tunnel.anew(app, "redis_sessions")).get("refresh_token:kept")
    )
    realtime = _when_back(
        lambda: redis_connect("realtime", port=tunnel.anew(app, "redis_realtime")).get("presence:gone")
    )
    saw(([(0,)], "digest", None), (rows, sessions, realtime))


def _when_back(ask):
    """The answer, once the host gives one."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except (psycopg.OperationalError, redis.exceptions.ConnectionError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
