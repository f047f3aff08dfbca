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
    """Who is logged in by the contract's own addresses, password and authority: user_of("REDIS_SESSIONS")."""
    authority = tmp_path / "ca.pem"
    authority.write_text(ssh(app, f"cat {contract['CA_PATH']}"))

    def password_of(secret):
        return ssh(app, f"cat {FOLDER}/secrets/chat_{secret}_password").rstrip("\n")

    def local(address, port):
        return tunnel(app, next(host for host in subject.hosts if host.address == address), int(port))

    def postgresql(url, password):
        told = psycopg.conninfo.conninfo_to_dict(url)
        addresses = told["host"].split(",")
        ports = [str(local(*door)) for door in zip(addresses, told["port"].split(","), strict=True)]
        with psycopg.connect(
            url, password=password, hostaddr=",".join("127.0.0.1" for _ in addresses), port=",".join(ports),
            sslrootcert=str(authority),
        ) as connection:  # fmt: skip
            return connection.execute(
                "SELECT CASE WHEN pg_is_in_recovery() THEN 'a copy' ELSE current_user END"
            ).fetchone()[0]

    def redis_client(address, port, user, password):
        return redis.Redis(
            host="localhost", port=local(address, port), username=user, password=password, ssl=True,
            ssl_ca_certs=str(authority), ssl_check_hostname=True, decode_responses=True,
        )  # fmt: skip

    def log_in(name):
        parts = urlsplit(contract[f"{name}_URL"])
        password = password_of(name.removesuffix("_DIRECT").lower())
        if parts.scheme == "postgresql":
            return postgresql(contract[f"{name}_URL"], password)
        address, port = parts.hostname, parts.port
        if service := contract.get(f"{name}_SERVICE"):
            door = contract["REDIS_SENTINELS"].split(",")[0].rsplit(":", 1)
            sentinel_user = contract["REDIS_SENTINEL_USER"], password_of("redis_sentinel")
            with redis_client(*door, *sentinel_user) as sentinel:
                address, port = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service)
        with redis_client(address, port, parts.username, password) as client:
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
