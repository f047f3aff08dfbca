"""Real clients on application hosts: Socket.IO's adapters, each with its own rights; what Node is refused."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from filter_plugins.redis_acl import ADAPTERS, socketio_rules

from .. import programs
from .runs import PODMAN, PROJECT

PUT = "/tmp/clients"  # noqa: S108  in a container of ours
NAMESPACES = ["/", "/admin"]

FORBIDDEN = (
    "KEYS *", "SCAN 0", "FLUSHALL", "CONFIG GET *", "DEBUG SLEEP 0", "SHUTDOWN ABORT", "MODULE LIST",
    "ACL WHOAMI",
)  # fmt: skip
PORTS = {"sessions": 6380, "realtime": 6381}
# Each user's instance, and what else it must not do there.
USERS = {
    "chat_app_sessions": ("sessions", ["GET presence:x", "PUBLISH foreign x", "SUBSCRIBE foreign"]),
    "chat_app_realtime": ("realtime", ["GET refresh_token:x", "PUBLISH foreign x", "SUBSCRIBE foreign"]),
    "chat_socketio": (
        "realtime",
        ["GET presence:x", "PUBLISH foreign x", "SUBSCRIBE foreign", "PSUBSCRIBE socket.io#*",
         "SSUBSCRIBE socket.io#/other#"],
    ),
}  # fmt: skip
CONNECTIONS = {
    "as it should": "allowed",
    "without TLS": "ECONNRESET",
    "with a wrong CA": "SELF_SIGNED_CERT_IN_CHAIN",
    "with the public CAs": "SELF_SIGNED_CERT_IN_CHAIN",
    "to another name": "ERR_TLS_CERT_ALTNAME_INVALID",
    "as the default user": "NOAUTH",
    "with a wrong password": "WRONGPASS",
}


class Server:
    """A host's Redis, or Valkey, and the application host that uses it."""

    def __init__(self, environment, name, app, variables):
        self.name = name
        self.passwords = {f"only_{adapter}": secrets.token_urlsafe(24) for adapter in ADAPTERS}
        for user in ("chat_admin", *USERS):
            self.passwords[user] = variables[f"vault_redis_{user}_password"]
        self._environment, self._app, self._address = environment, app, variables["ansible_host"]
        self._flavour = variables.get("redis_flavour", "redis")

    def ask(self, *commands, instance="realtime"):
        """What the host's own client answers chat_admin."""
        script = "\n".join([f"AUTH chat_admin {self.passwords['chat_admin']}", *commands, ""])
        client = f"{self._flavour}-cli -s /run/{self._flavour}-{instance}/redis.sock"
        return self._environment.shell(self.name, client, stdin=script).removeprefix("OK").strip()

    def add_users(self):
        """A user for each adapter, with its rules alone; the log of denials is emptied."""
        version = re.search(rf"{self._flavour}_version:(\d+\.\d+)", self.ask("INFO server"))[1]
        added = [
            f"ACL SETUSER only_{adapter} reset on >{self.passwords[f'only_{adapter}']}"
            f" {' '.join(socketio_rules([adapter], NAMESPACES, version))}"
            for adapter in ADAPTERS
        ]
        assert set(self.ask("ACL LOG RESET", *added).split("\n")) == {"OK"}

    def remove_users(self):
        """They go, and what the clients left."""
        names = " ".join(f"only_{adapter}" for adapter in ADAPTERS)
        assert self.ask(f"ACL DELUSER {names}", "ACL LOG RESET", "DEL socket.io").startswith("4\nOK")

    def run(self, program, instance, user, **settings):
        """A client that ran to its end; it gets its settings by standard input, for the password."""
        access = {
            "host": self._address,
            "port": PORTS[instance],
            "user": user,
            "password": self.passwords[user],
        }
        return subprocess.run(
            [*PODMAN, "exec", "-i", "-u", "nobody", "-w", PUT, "-e", "PYTHONPATH=python",
             f"{self._environment.network}-{self._app}", "./node", program],
            input=json.dumps(settings | access) + "\n",
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip


@pytest.fixture(scope="module")
def servers(environment, tmp_path_factory):
    """Every host's Server; clients connect from the application host, by the code of connecting.md."""
    written = tmp_path_factory.mktemp("clients")
    programs.write_modules(written)
    shutil.copy(environment.inventory / "ca.pem", written)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=stranger", "-keyout", "/dev/null", "-out", written / "stranger.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    written.chmod(0o755)  # tar keeps the modes, and the clients run as nobody
    own = [path.name for path in programs.own()]
    archive = [
        "tar", "-c", "-C", programs.installed(), "node_modules", "python", "-C", programs.NODE.parent, "node",
        "-C", programs.CLIENTS, *own, "-C", written, ".",
    ]  # fmt: skip
    inventory = json.loads(
        subprocess.run(
            ["ansible-inventory", "-i", environment.inventory, "--list"],
            cwd=PROJECT, capture_output=True, check=True,
        ).stdout
    )  # fmt: skip
    apps = inventory["app"]["hosts"]
    for app in apps:
        unpack = [
            "exec",
            "-i",
            f"{environment.network}-{app}",
            "sh",
            "-c",
            f"mkdir -p {PUT}; tar -x -C {PUT}",
        ]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as packing:
            subprocess.run([*PODMAN, *unpack], stdin=packing.stdout, check=True)
        assert packing.returncode == 0
    found = [
        Server(environment, host, host if host in apps else apps[-1], inventory["_meta"]["hostvars"][host])
        for host in environment.redis_hosts
    ]
    for server in found:
        server.add_users()
    yield found
    for server in found:
        server.remove_users()
    for app in apps:
        environment.shell(app, f"rm -r {PUT}")


@pytest.fixture(scope="module")
def exchanges(servers):
    """{(host, adapter, user): what a failed exchange said}, and {host: the ACL log after all of them}."""

    def exchange(server):
        # One after the other: each would hear itself, and classic and streams each other.
        for adapter in ADAPTERS:
            for user in ("chat_socketio", f"only_{adapter}"):
                done = server.run("exchange.mjs", "realtime", user, adapter=adapter, namespaces=NAMESPACES)
                said[server.name, adapter, user] = done.returncode and done.stderr

    said = {}
    with ThreadPoolExecutor() as pool:
        list(pool.map(exchange, servers))  # which raises what a thread raised
    return said, {server.name: server.ask("ACL LOG") for server in servers}


def _failures(said):
    return "\n".join(f"{' '.join(key)}: {failure}" for key, failure in said.items() if failure)


def test_every_adapter_works_as_chat_socketio(exchanges):
    said = {key: failure for key, failure in exchanges[0].items() if key[2] == "chat_socketio"}
    assert {adapter for _, adapter, _ in said} == set(ADAPTERS)
    assert not any(said.values()), _failures(said)


def test_every_adapter_works_with_its_own_rules_alone(exchanges):
    said = {key: failure for key, failure in exchanges[0].items() if key[2] != "chat_socketio"}
    assert {adapter for _, adapter, _ in said} == set(ADAPTERS)
    assert not any(said.values()), _failures(said)


def test_nothing_was_denied(exchanges):
    assert exchanges[1] == dict.fromkeys(exchanges[1], "")


@pytest.mark.usefixtures("exchanges")  # which expect the log to stay empty
@pytest.mark.parametrize("user", USERS)
def test_node_is_refused_all_but_what_its_user_is_for(servers, user):
    instance, foreign = USERS[user]
    # A server that has DEBUG switched off says so before it asks who it is.
    commands = {
        command: "ERR" if command.startswith("DEBUG") else "NOPERM" for command in [*FORBIDDEN, *foreign]
    }
    for server in servers:
        done = server.run("refusals.mjs", instance, user, commands=list(commands))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == CONNECTIONS | commands, server.name
        assert "scan" in server.ask("ACL LOG", instance=instance)  # a denial is seen there
