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
SERVED = ("postgresql", "pgbouncer", "haproxy", "redis_sentinel")  # groups to which an application connects
ROWS = pytest.StashKey[list[Row]]()


@dataclass(frozen=True)
class Host:
    """A host of the environment, as playbooks/verify.yml describes it."""

    name: str
    groups: list[str]
    address: str
    ssh: dict[str, str]
    container: str
    services: dict[str, dict[str, list[Any]]]
    redis_flavour: str
    redis: dict[str, dict[str, Any]]
    kernel: dict[str, dict[str, Any]]
    postgresql_version: str
    roles: list[str]
    databases: list[str]
    migrations_pending: list[str]
    migrations_differing: list[str]

    def __str__(self) -> str:
        return self.name

    def port(self, service: str) -> int:
        """Of a group's service, or of what a Redis instance serves (tokens, presence, socketio)."""
        if service in self.services:
            return int(self.services[service]["ports"][0])
        return int(self.redis[self.serving(service)]["port"])

    def serving(self, purpose: str) -> str:
        """The name of the Redis instance that serves the purpose."""
        return next(name for name, instance in self.redis.items() if purpose in instance["serves"])

    def _of_services(self, what: str) -> list[Any]:
        here = (service for group, service in self.services.items() if group in self.groups)
        return [one for service in here for one in service[what]]

    def units(self) -> list[str]:
        """The units of the data tier that run here."""
        return self._of_services("units")

    def listening(self) -> set[int]:
        """The ports of those units."""
        return set(self._of_services("ports"))

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
        members = self.members(group)
        if not members:
            pytest.fail(f"no host of the inventory is in the group {group}")
        return app if app in members else members[0]

    def members(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]

    def doors(self, service: str, app: Host) -> list[tuple[Host, int]]:
        """Hosts and ports at which the application on `app` asks for the service, by its contract."""
        if service == "pgbouncer" and self.members("haproxy"):
            service = "haproxy"
        if service == "postgresql" and self.members("etcd"):
            hosts = self.members("postgresql")
        else:
            hosts = [self.serving(service, app)]
        return [(host, host.port(service)) for host in hosts]

    def links(self) -> list[tuple[Host, Host]]:
        """Application host and Redis host: each one of either kind is in a pair."""
        apps, caches = self.members("app"), self.members("redis")
        pairs = [(app, self.serving("redis", app)) for app in apps] if caches else []
        return pairs + [(apps[0], cache) for cache in caches if cache not in [server for _, server in pairs]]

    def endpoints(self) -> list[tuple[Host, Host, str]]:
        """Application host, server and service, of all that an application connects to."""
        return [
            *((app, self.serving(group, app), group)
              for app in self.members("app") for group in SERVED if self.members(group)),
            *((app, cache, purpose)
              for app, cache in self.links() for purpose in ("tokens", "presence")),
        ]  # fmt: skip


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
    if "daemon" in metafunc.fixturenames:  # a host, and one of its units
        pairs = [(host, unit) for host in _subject().hosts for unit in host.units()]
        metafunc.parametrize("daemon", pairs, ids=_joined)
    if "link" in metafunc.fixturenames:
        metafunc.parametrize("link", _subject().links(), ids=_joined, scope="session")
    if "endpoint" in metafunc.fixturenames:
        metafunc.parametrize("endpoint", _subject().endpoints(), ids=_joined)
    if "kernel_setting" in metafunc.fixturenames:  # a host, and a setting that its kernel is to have
        settings = [(host, name) for host in _subject().hosts for name in host.kernel]
        metafunc.parametrize("kernel_setting", settings, ids=_joined)


def _joined(parts: tuple[object, ...]) -> str:
    return "-".join(map(str, parts))


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
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"ssh tunnel did not open: {shlex.join(process.args)}")  # type: ignore[arg-type]


class Tunnel:
    """SSH tunnels that end on application hosts: tunnel(app, server, port) is the local port."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, int], tuple[int, subprocess.Popen[bytes]]] = {}

    def __call__(self, app: Host, server: Host, port: int) -> int:
        key = app.name, server.name, port
        if key not in self._open:
            local = _free_port()
            process = subprocess.Popen(
                ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=30", *app.ssh_options(),
                 "-o", "LogLevel=ERROR",  # ssh would name each connection that a restarting service refuses
                 "-L", f"127.0.0.1:{local}:{server.address}:{port}",
                 "-p", str(app.ssh["port"]), f"{app.ssh['user']}@{app.ssh['host']}"]
            )  # fmt: skip
            self._open[key] = local, process
            _wait(local, process)
        return self._open[key][0]

    def anew(self, app: Host, server: Host, port: int) -> int:
        """The port of a tunnel that is opened again, as after a restart of the host."""
        self._close(*self._open.pop((app.name, server.name, port), (0, None)))
        return self(app, server, port)

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
def tunnel() -> Iterator[Tunnel]:
    """Local ports that lead to services: tunnel(app, server, port)."""
    tunnels = Tunnel()
    yield tunnels
    tunnels.close()


REDIS_USERS = {"tokens": "chat_app_sessions", "presence": "chat_app_realtime", "socketio": "chat_socketio"}


class Clients:
    """The application's clients on one of its hosts, as they reach a server; closed at the end."""

    def __init__(self, subject: Subject, tunnel: Tunnel, stack: ExitStack) -> None:
        self._subject, self._tunnel, self._stack = subject, tunnel, stack

    def postgresql(self, app: Host, doors: list[tuple[Host, int]], user: str, **overrides: Any) -> Any:
        """A connection by way of the first door that leads to the primary; `overrides` are libpq's."""
        parameters = {
            "host": ",".join(server.address for server, _ in doors),
            "hostaddr": ",".join("127.0.0.1" for _ in doors),
            "port": ",".join(str(self._tunnel(app, *door)) for door in doors),
            "target_session_attrs": "read-write" if len(doors) > 1 else "any",
            "dbname": "chat",
            "user": user,
            "password": self._subject.secrets.get(user, "none"),
            "sslmode": "verify-full",
            "sslrootcert": self._subject.ca,
            "connect_timeout": 10,
            "autocommit": True,
            "prepare_threshold": None,  # PgBouncer before 1.21 does not follow prepared statements
        }
        return self._stack.enter_context(psycopg.connect(**{**parameters, **overrides}))

    def redis(self, app: Host, server: Host, purpose: str, **overrides: Any) -> redis.Redis:
        """A client of the instance of `server` that serves the purpose; `overrides` are redis.Redis's."""
        user = REDIS_USERS[purpose]
        parameters = {
            "host": "localhost",  # a name that the certificate holds, at the tunnel's end
            "port": self._tunnel(app, server, server.port(purpose)),
            "username": user,
            "password": self._subject.secrets[user],
            "ssl": True,
            "ssl_ca_certs": self._subject.ca,
            "ssl_check_hostname": True,
            "decode_responses": True,
            "socket_timeout": 10,
            "retry": Retry(NoBackoff(), 0),  # a refusal is what many checks want to see, once
        }
        return self._stack.enter_context(redis.Redis(**{**parameters, **overrides}))


@pytest.fixture
def clients(subject: Subject, tunnel: Tunnel) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(subject, tunnel, stack)


Connect = Callable[..., psycopg.Connection[Any]]


@pytest.fixture
def connect(app: Host, subject: Subject, clients: Clients) -> Connect:
    """PostgreSQL as the application reaches it: connect(user, service="pgbouncer", **libpq's)."""

    def open_connection(user: str, service: str = "pgbouncer", **overrides: Any) -> Any:
        return clients.postgresql(app, subject.doors(service, app), user, **overrides)

    return open_connection


RedisConnect = Callable[..., "redis.Redis"]


@pytest.fixture
def redis_connect(link: tuple[Host, Host], clients: Clients) -> RedisConnect:
    """Redis as the application reaches it: redis_connect("tokens", **overrides of redis.Redis's)."""

    def open_client(purpose: str, **overrides: Any) -> redis.Redis:
        return clients.redis(*link, purpose, **overrides)

    return open_client


@pytest.fixture
def master_connect(link: tuple[Host, Host], subject: Subject, clients: Clients) -> RedisConnect:
    """Redis where it is written: the same at the master, of which a cluster has one for each instance."""
    app, cache = link

    def is_master(host: Host, purpose: str) -> bool:
        monitor = {"username": "chat_monitor", "password": subject.secrets["chat_monitor"]}
        return clients.redis(app, host, purpose, **monitor).info("replication")["role"] == "master"

    def open_client(purpose: str, **overrides: Any) -> redis.Redis:
        hosts = subject.members("redis") if subject.members("redis_sentinel") else [cache]
        master = next(host for host in hosts if is_master(host, purpose))
        return clients.redis(app, master, purpose, **overrides)

    return open_client


def psql(shell: Callable[[Host], testinfra.host.Host], host: Host, query: str, database: str = "chat") -> str:
    """One value, asked by the superuser on the host."""
    command = shell(host).run(
        "cd / && runuser -u postgres -- psql -XAtq -p %s -d %s -c %s",
        str(host.port("postgresql")),
        database,
        query,
    )
    assert command.succeeded, command.stderr
    return str(command.stdout.strip())


@pytest.fixture(scope="session")
def primary(subject: Subject, shell: Callable[[Host], testinfra.host.Host]) -> Host:
    """The host whose PostgreSQL takes writes."""
    hosts = subject.members("postgresql")
    return next(host for host in hosts if psql(shell, host, "SELECT pg_is_in_recovery()") == "f")


def refusal(error: type[Exception], action: Callable[[], object]) -> str:
    """The first line of the error with which `action` is refused, or "allowed"."""
    try:
        action()
    except error as refused:
        return str(refused).strip().splitlines()[-1]
    return "allowed"
