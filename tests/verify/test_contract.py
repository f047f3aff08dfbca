"""What the application's hosts are told is closed to others, and is true."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from .conftest import ssh

FOLDER = "/etc/chat-data-tier"
# Which group's servers the contract names, under which names.
NAMED = {
    "pgbouncer": ["POSTGRESQL", "POSTGRESQL_DIRECT"],
    "redis": ["REDIS_SESSIONS", "REDIS_REALTIME", "REDIS_SOCKETIO"],
}


@pytest.fixture
def contract(app):
    """The lines of the host's contract, without their prefix."""
    lines = ssh(app, f"cat {FOLDER}/app.env").splitlines()
    pairs = [line.removeprefix("CHAT_").split("=", 1) for line in lines if line.startswith("CHAT_")]
    return {name: value.strip('"') for name, value in pairs}


@pytest.fixture
def user_of(app, contract, subject, tunnel, tmp_path):
    """Who is logged in by the contract's own address, password and authority: user_of("REDIS_SESSIONS")."""
    authority = tmp_path / "ca.pem"
    authority.write_text(ssh(app, f"cat {contract['CA_PATH']}"))

    def log_in(name):
        url = contract[f"{name}_URL"]
        parts = urlsplit(url)
        server = next(host for host in subject.hosts if host.address == parts.hostname)
        port = tunnel(app, server, parts.port)
        secret = name.removesuffix("_DIRECT").lower()
        password = ssh(app, f"cat {FOLDER}/secrets/chat_{secret}_password").rstrip("\n")
        if parts.scheme == "postgresql":
            with psycopg.connect(
                url, password=password, hostaddr="127.0.0.1", port=port, sslrootcert=str(authority)
            ) as connection:
                return connection.execute("SELECT current_user").fetchone()[0]
        with redis.Redis(
            host="localhost", port=port, username=parts.username, password=password, ssl=True,
            ssl_ca_certs=str(authority), ssl_check_hostname=True,
        ) as client:  # fmt: skip
            return parts.username if client.ping() else "nobody"

    return log_in


def test_contract_is_for_its_group_alone(app, saw):
    listed = ssh(app, f"find {FOLDER} -printf '%y %u %m %g\\n'").splitlines()
    (group,) = {line.split()[3] for line in listed}
    assert group != "root"
    saw(["d root 750", "f root 640"], sorted({line.removesuffix(f" {group}") for line in listed}))


def test_application_logs_in_by_its_contract(subject, user_of, saw):
    names = [name for group, names in NAMED.items() if subject.members(group) for name in names]
    users = {
        "REDIS_SESSIONS": "chat_app_sessions", "REDIS_REALTIME": "chat_app_realtime",
        "REDIS_SOCKETIO": "chat_socketio",
    }  # fmt: skip
    saw([users.get(name, "chat_app") for name in names], [user_of(name) for name in names])
