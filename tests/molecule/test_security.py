"""Every certificate is renewed, and nobody is cut off; then every password, and no log holds a secret."""

from __future__ import annotations

import json
import re
import secrets
import socket
import ssl
import struct
import subprocess

import pytest
import redis

from .runs import PODMAN

UNITS = "postgresql@*-main pgbouncer redis-server@sessions redis-server@realtime"
POSTGRESQL = (5432, 6432)
ONLY_IN_A_CLUSTER = {"chat_replica", "chat_sentinel", "chat_sentinel_client"}  # of Redis's users
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's protocol asks first, in clear

# What the system and the daemons wrote, as text.
LOGS = (
    "{ find /var/log -type f -not -path '/var/log/journal/*' -exec cat {} +;"
    " journalctl --all --output verbose; } | tr -cd '\\11\\12\\40-\\176'"
)


class Session:
    """psql on a host, connected over TLS as chat_app to `port` of the host itself. It does not reconnect."""

    def __init__(self, environment, host, port, password, options=""):
        target = (
            f"host={environment.address(host)} port={port} dbname=chat user=chat_app"
            f" sslmode=verify-full sslrootcert=/etc/ssl/certs/chat-ca.pem {options}"
        )
        self._process = subprocess.Popen(
            [*PODMAN, "exec", "-i", "-u", "postgres", f"{environment.network}-{host}", "sh", "-c",
             f"cd /; read -r PGPASSWORD; export PGPASSWORD; exec psql -XAtq -v ON_ERROR_STOP=1 '{target}'"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._process.stdin.write(password + "\n")

    def ask(self, query):
        """The one line that a query answers, or psql's error."""
        self._process.stdin.write(query + ";\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self):
        """End it."""
        self._process.communicate()


def ask_once(*arguments, query="SELECT current_user"):
    """The answer of a session of its own."""
    session = Session(*arguments)
    answer = session.ask(query)
    session.close()
    return answer


def log_in(environment, host, port, user, password):
    """Whether Redis answers the user, over TLS."""
    with redis.Redis(
        environment.address(host), port, username=user, password=password, protocol=2,
        ssl=True, ssl_ca_certs=str(environment.inventory / "ca.pem"),
    ) as client:  # fmt: skip
        return client.ping()


def served(address, port):
    """The certificate that a port shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), timeout=10) as raw:
        if port in POSTGRESQL:
            raw.sendall(SSL_REQUEST)
            assert raw.recv(1) == b"S"
        with context.wrap_socket(raw) as secured:
            return secured.getpeercert(binary_form=True)


def state(environment, host):
    """What must not change: each daemon's main process; and what must: each port's certificate."""
    processes = environment.shell(host, f"systemctl show --property MainPID {UNITS}")
    address = environment.address(host)
    return processes, [served(address, port) for port in (*POSTGRESQL, 6380, 6381)]


@pytest.fixture(scope="module")
def old(vault):
    """The passwords that the hosts have at first."""
    return vault


@pytest.fixture(scope="module")
def new(old):
    """Others in the place of all passwords."""
    return {name: secrets.token_urlsafe(24) for name in old if name.endswith("_password")}


@pytest.fixture(scope="module")
def renewal(environment, old):
    """{host: (sessions, their answers, state)} of before the run that renews the certificates."""
    before = {}
    for host in environment.hosts:
        sessions = [
            Session(environment, host, port, old["vault_postgresql_chat_app_password"]) for port in POSTGRESQL
        ]
        answers = [session.ask("SELECT pg_backend_pid()") for session in sessions]
        before[host] = sessions, answers, state(environment, host)
    run = environment.play("-e", "tls_renew_days=500")
    assert run.code == 0, run.failures()
    yield before
    for sessions, _, _ in before.values():
        for session in sessions:
            session.close()


@pytest.fixture(scope="module")
def rotation(environment, old, new, tmp_path_factory):
    """The run that changes the passwords, Redis's old ones being good for some time yet.

    A session that PgBouncer pools has to log in anew then.
    """
    variables = tmp_path_factory.mktemp("rotation") / "variables.json"
    prefix, suffix = "vault_redis_", "_password"
    names = {name.removeprefix(prefix).removesuffix(suffix): name for name in new if name.startswith(prefix)}
    previous = {user: old[name] for user, name in names.items() if user not in ONLY_IN_A_CLUSTER}
    variables.write_text(json.dumps({**new, "redis_previous_passwords": previous}))
    run = environment.play("--diff", "-e", f"@{variables}")
    assert run.code == 0, run.failures()
    return run


def test_open_connections_outlive_the_renewal(environment, renewal):
    for host in environment.hosts:
        (direct, pooled), answers, _ = renewal[host]
        assert direct.ask("SELECT pg_backend_pid()") == answers[0]
        assert pooled.ask("SELECT 'the same client'") == "the same client"  # of whichever backend


def test_every_port_shows_a_new_certificate_and_no_daemon_restarted(environment, renewal):
    for host in environment.hosts:
        processes, certificates = renewal[host][2]
        processes_now, certificates_now = state(environment, host)
        assert processes_now == processes
        assert set(certificates_now).isdisjoint(certificates)
        assert len(set(certificates_now)) == 1


@pytest.mark.usefixtures("rotation")
@pytest.mark.parametrize("port", POSTGRESQL)
def test_new_password_is_good_and_the_old_one_is_not(environment, old, new, port):
    name = "vault_postgresql_chat_app_password"
    for host in environment.hosts:
        assert ask_once(environment, host, port, new[name]) == "chat_app"
        assert "authentication failed" in ask_once(environment, host, port, old[name])


@pytest.mark.usefixtures("rotation")
@pytest.mark.parametrize(
    ("user", "port"), [("chat_app_sessions", 6380), ("chat_socketio", 6381), ("chat_admin", 6380)]
)
def test_both_passwords_are_good_and_redis_did_not_restart(environment, renewal, old, new, user, port):
    name = f"vault_redis_{user}_password"
    for host in environment.hosts:
        for password in (old[name], new[name]):
            assert log_in(environment, host, port, user, password)
        with pytest.raises(redis.exceptions.RedisError, match=r"WRONGPASS|invalid username-password"):
            log_in(environment, host, port, user, "neither")
        assert state(environment, host)[0] == renewal[host][2][0]


@pytest.mark.usefixtures("rotation")
def test_client_certificate_of_the_authority_is_verified(environment, new):
    options = "sslcert=/etc/ssl/certs/chat.pem sslkey=/etc/ssl/private/chat.key"
    query = "SELECT issuer_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    for host in environment.hosts:
        password = new["vault_postgresql_chat_app_password"]
        issuer = ask_once(environment, host, 5432, password, options, query=query)
        assert re.fullmatch("/CN=chat .* CA", issuer)


@pytest.mark.usefixtures("rotation")
def test_change_of_a_password_is_audited_without_it(environment):
    for host in environment.hosts:
        lines = environment.shell(host, "grep -h 'ROLE,ALTER ROLE' /var/log/postgresql/*.log").splitlines()
        assert any("chat_app" in line and "<REDACTED>" in line for line in lines)


def test_no_secret_is_in_a_log_or_in_the_output(environment, rotation, old, new):
    names = {
        line: name
        for name, secret in [*old.items(), *new.items()]
        for line in secret.splitlines()
        if not line.startswith("-----")
    }
    assert len(names) > 10
    assert [name for line, name in names.items() if line in rotation.output] == []
    marker = secrets.token_hex(16)
    for host in environment.hosts:
        environment.shell(host, f"logger {marker}; journalctl --sync")
        written = environment.shell(host, LOGS)
        found = [name for line, name in {**names, marker: "marker"}.items() if line in written]
        assert found == ["marker"]  # which shows that the search does find


@pytest.mark.usefixtures("rotation")
def test_back_to_the_vault_and_nothing_is_left_to_change(environment, old, new):
    run = environment.play()
    assert run.code == 0, run.failures()
    name = "vault_redis_chat_app_sessions_password"
    for host in environment.hosts:
        assert log_in(environment, host, 6380, "chat_app_sessions", old[name])
        with pytest.raises(redis.exceptions.RedisError, match=r"WRONGPASS|invalid username-password"):
            log_in(environment, host, 6380, "chat_app_sessions", new[name])
    run = environment.play()
    assert set(run.changed.values()) == {0}
