"""An environment under verification: hosts, tunnels, clients through them, and the table of results.

playbooks/verify.yml describes the environment on standard input (JSON). Clients connect from
each application host: through an SSH tunnel that ends there, along the path that the
application takes, with its certificates, users and rights.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import psycopg
import pytest
import redis
import testinfra
import testinfra.host
from redis.backoff import NoBackoff
from redis.retry import Retry

Row = tuple[str, int, str, str, str, bool]  # file, line, check, expected, seen, held
ROWS = pytest.StashKey[list[Row]]()


@dataclass(frozen=True)
class Host:
    """A host of the environment, as playbooks/verify.yml describes it."""

    name: str
    groups: list[str]
    address: str
    ssh: dict[str, str]
    container: str
    ports: dict[str, int]
    kernel: dict[str, dict[str, Any]]
    postgresql_version: str
    roles: list[str]
    databases: list[str]
    migrations_pending: list[str]
    migrations_differing: list[str]

    def __str__(self) -> str:
        return self.name

    def ssh_options(self) -> list[str]:
        """ssh's arguments for this host, without its name."""
        key = ["-i", self.ssh["key"]] if self.ssh["key"] else []
        return [*key, "-o", "BatchMode=yes", *shlex.split(self.ssh["arguments"])]


@dataclass
class Subject:
    """The environment."""

    ca: str
    hosts: list[Host]
    secrets: dict[str, str] = field(repr=False)

    def serving(self, group: str, app: Host) -> Host:
        """The host of `group` that the application on `app` uses: its own, else the first."""
        members = [host for host in self.hosts if group in host.groups]
        if not members:
            pytest.fail(f"no host of the inventory is in the group {group}")
        return app if app in members else members[0]


@cache
def _subject() -> Subject:
    try:
        raw = json.load(sys.stdin)
    except ValueError:
        raise pytest.UsageError(
            "run these checks by: ansible-playbook playbooks/verify.yml -i ENVIRONMENT"
        ) from None
    if not any("app" in host["groups"] for host in raw["hosts"]):
        raise pytest.UsageError("no host is in the group app, from which the checks connect")
    return Subject(**{**raw, "hosts": [Host(**host) for host in raw["hosts"]]})


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`app` stands for each application host, `database` and `cache` for each server of their kind."""
    groups = {"app": "app", "database": "postgresql", "cache": "redis", "any_host": "all"}
    for name in groups.keys() & set(metafunc.fixturenames):
        group = groups[name]
        hosts = [host for host in _subject().hosts if group in [*host.groups, "all"]]
        metafunc.parametrize(name, hosts, ids=str, scope="session")
    if "confined" in metafunc.fixturenames:  # a host, and one of its units that has a sandbox
        pairs = [
            (host, unit)
            for host in _subject().hosts
            for group, unit in (
                ("postgresql", f"postgresql@{host.postgresql_version}-main"),
                ("pgbouncer", "pgbouncer"),
            )
            if group in host.groups
        ]
        metafunc.parametrize("confined", pairs, ids=lambda pair: f"{pair[0]}-{pair[1]}")
    if "kernel_setting" in metafunc.fixturenames:  # a host, and a setting that its kernel is to have
        settings = [(host, name) for host in _subject().hosts for name in host.kernel]
        metafunc.parametrize("kernel_setting", settings, ids=lambda pair: f"{pair[0]}-{pair[1]}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == "test_restart.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table: a row for each comparison, in the order of the files."""
    rows = [("check", "expected", "seen", "")]
    rows += [(check, expected, seen, "" if held else "  <-- FAILED")
             for _, _, check, expected, seen, held in sorted(config.stash[ROWS])]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *cells, mark in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        terminalreporter.line((line + mark).rstrip())


@pytest.fixture(scope="session")
def subject() -> Subject:
    return _subject()


Saw = Callable[[object, object], None]


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Saw:
    """Compare what was expected with what was seen, and put both into the table and the JUnit file."""
    file, line, _ = request.node.location
    name = request.node.originalname.removeprefix("test_").replace("_", " ")
    details = request.node.callspec.id if hasattr(request.node, "callspec") else ""

    def compare(expected: object, seen: object) -> None:
        held = expected == seen
        row = (file, line, f"{name} [{details}]", str(expected), str(seen), held)
        request.config.stash[ROWS].append(row)
        request.node.user_properties.extend([("expected", str(expected)), ("seen", str(seen))])
        assert held, f"expected {expected}, saw {seen}"

    return compare


@pytest.fixture(scope="session")
def shell() -> Callable[[Host], testinfra.host.Host]:
    """A root shell on a host, over SSH (testinfra)."""

    def connect(host: Host) -> testinfra.host.Host:
        return testinfra.get_host(
            f"ssh://{host.ssh['user']}@{host.ssh['host']}:{host.ssh['port']}",
            sudo=True,
            ssh_identity_file=host.ssh["key"] or None,
            ssh_extra_args=f"-o BatchMode=yes {host.ssh['arguments']}",
        )

    return connect


def ssh(host: Host, command: str, standard_input: str = "") -> str:
    """What a command prints as root on the host; for secrets, which go in by standard input alone."""
    return subprocess.run(
        ["ssh", *host.ssh_options(), "-p", str(host.ssh["port"]), f"{host.ssh['user']}@{host.ssh['host']}",
         f"sudo {command}"],
        input=standard_input, capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"ssh tunnel did not open: {shlex.join(process.args)}")  # type: ignore[arg-type]


class Tunnel:
    """SSH tunnels that end on application hosts; called with a host and a service, gives the local port."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._open: dict[tuple[str, str], tuple[int, subprocess.Popen[bytes]]] = {}

    def __call__(self, app: Host, service: str) -> int:
        if (app.name, service) not in self._open:
            server = self._subject.serving(service.split("_")[0], app)
            local = _free_port()
            process = subprocess.Popen(
                ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=5", *app.ssh_options(),
                 "-o", "LogLevel=ERROR",  # ssh would name each connection that a restarting service refuses
                 "-L", f"127.0.0.1:{local}:{server.address}:{server.ports[service]}",
                 "-p", str(app.ssh["port"]), f"{app.ssh['user']}@{app.ssh['host']}"]
            )  # fmt: skip
            self._open[app.name, service] = local, process
            _wait(local, process)
        return self._open[app.name, service][0]

    def anew(self, app: Host, service: str) -> int:
        """The port of a tunnel that is opened again, as after a restart of the host."""
        self._close(*self._open.pop((app.name, service), (0, None)))
        return self(app, service)

    def close(self) -> None:
        """End every tunnel."""
        for entry in self._open.values():
            self._close(*entry)

    @staticmethod
    def _close(_port: int, process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            process.terminate()
            process.wait()


@pytest.fixture(scope="session")
def tunnel(subject: Subject) -> Iterator[Tunnel]:
    """Local ports that lead to services: tunnel(app, "pgbouncer")."""
    tunnels = Tunnel(subject)
    yield tunnels
    tunnels.close()


Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture
def connect(app: Host, subject: Subject, tunnel: Tunnel) -> Iterator[Connect]:
    """PostgreSQL as the application reaches it: connect(user, service="pgbouncer", **libpq's)."""
    with ExitStack() as stack:

        def open_connection(user: str, service: str = "pgbouncer", **overrides: Any) -> Any:
            parameters = {
                "host": subject.serving(service, app).address,
                "hostaddr": "127.0.0.1",
                "port": tunnel(app, service),
                "dbname": "chat",
                "user": user,
                "password": subject.secrets.get(user, "none"),
                "sslmode": "verify-full",
                "sslrootcert": subject.ca,
                "connect_timeout": 10,
                "autocommit": True,
                "prepare_threshold": None,  # PgBouncer before 1.21 does not follow prepared statements
            }
            return stack.enter_context(psycopg.connect(**{**parameters, **overrides}))

        yield open_connection


RedisConnect = Callable[..., "redis.Redis"]


@pytest.fixture
def redis_connect(app: Host, subject: Subject, tunnel: Tunnel) -> Iterator[RedisConnect]:
    """Redis as the application reaches it: redis_connect("sessions", **overrides of redis.Redis's)."""
    with ExitStack() as stack:

        def open_client(instance: str, **overrides: Any) -> redis.Redis:
            user = f"chat_app_{instance}"
            parameters = {
                "host": "localhost",  # a name that the certificate holds, at the tunnel's end
                "port": tunnel(app, f"redis_{instance}"),
                "username": user,
                "password": subject.secrets[user],
                "ssl": True,
                "ssl_ca_certs": subject.ca,
                "ssl_check_hostname": True,
                "decode_responses": True,
                "socket_timeout": 10,
                "retry": Retry(NoBackoff(), 0),  # a refusal is what many checks want to see, once
            }
            return stack.enter_context(redis.Redis(**{**parameters, **overrides}))

        yield open_client


def refusal(error: type[Exception], action: Callable[[], object]) -> str:
    """The first line of the error with which `action` is refused, or "allowed"."""
    try:
        action()
    except error as refused:
        return str(refused).strip().splitlines()[-1]
    return "allowed"
