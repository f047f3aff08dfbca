"""The hosts of a cluster, as an operator reaches them: by SSH, and by podman where they are containers."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from chatdata.settings import Settings

from ..molecule.runs import Environment

PODMAN = ["podman"] if os.geteuid() == 0 else ["sudo", "-n", "podman"]
SENTINEL = "/run/sentinel/sentinel.sock"
PATIENCE_S = 600  # after which a condition counts as never met; nothing is measured by it


class CommandError(subprocess.SubprocessError):
    """What a host said of a command that failed."""


class NeverMetError(AssertionError):
    """What was waited for did not come."""


def until(
    condition: Callable[[], Any], what: str | Callable[[], str], patience_s: float = PATIENCE_S
) -> None:
    """Wait for the condition; what a host says that is not back yet is no."""
    deadline = time.monotonic() + patience_s
    while True:
        with suppress(subprocess.SubprocessError, LookupError, ValueError):
            if condition():
                return
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise NeverMetError(f"not within {patience_s:.0f} s: {said}")
        time.sleep(0.5)


@dataclass(frozen=True)
class Host:
    """A host, as playbooks/gameday.yml describes it."""

    name: str
    groups: list[str]
    address: str
    ssh: dict[str, str]
    container: str

    def __str__(self) -> str:
        return self.name

    def run(self, command: str, given: str = "", timeout_s: float = 60) -> str:
        """What a shell command prints as root. Raises CommandError, subprocess.TimeoutExpired."""
        done = subprocess.run(
            [*self.ssh_command(), "sudo sh -c", shlex.quote(command)],
            input=given, capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
        if done.returncode:
            raise CommandError(f"{self.name}: {command}: {done.stderr.strip()}")
        return done.stdout.strip()

    def ssh_command(self) -> list[str]:
        """ssh to the host, without what it is to run there."""
        key = ["-i", self.ssh["key"]] if self.ssh["key"] else []
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", *shlex.split(self.ssh["arguments"])]
        return ["ssh", *key, *options, "-p", str(self.ssh["port"]), f"{self.ssh['user']}@{self.ssh['host']}"]

    def podman(self, *words: str) -> None:
        """podman's command on the host's container. Raises subprocess.SubprocessError."""
        subprocess.run([*PODMAN, *words, self.container], check=True, capture_output=True, timeout=60)

    def psql(self, statement: str) -> str:
        """What PostgreSQL answers its superuser in the database chat."""
        return self.run("cd /; sudo -u postgres psql -XAtq -v ON_ERROR_STOP=1 chat", statement)


class Cluster:
    """The hosts, and what they say of each other."""

    def __init__(self, subject: dict[str, Any]) -> None:
        self.inventory = Path(subject["inventory"])
        self.results = Path(subject["results"])
        self.hosts = [Host(**host) for host in subject["hosts"]]
        self._admin_password = subject["admin_password"]

    def members(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]

    def named(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def patroni(self) -> dict[str, str]:
        """Each member's role, as the first host that answers says."""
        for host in self.members("postgresql"):
            with suppress(subprocess.SubprocessError, ValueError):
                listed = host.run(
                    "timeout 20 patronictl -c /etc/patroni/config.yml list -f json", timeout_s=30
                )
                return {member["Member"]: member["Role"] for member in json.loads(listed)}
        return {}

    def primary(self) -> Host:
        """PostgreSQL's primary. Raises LookupError where there is none."""
        leaders = [name for name, role in self.patroni().items() if role == "Leader"]
        return self.named(leaders[0])

    def synchronous(self) -> Host:
        """The copy for which a write waits. Raises LookupError where there is none."""
        copies = [name for name, role in self.patroni().items() if role == "Sync Standby"]
        return self.named(copies[0])

    def redis_cli(self, host: Host, socket: str, *words: str) -> str:
        """What an instance of Redis, or Sentinel, answers its administrator."""
        command = f"redis-cli --user chat_admin -s {socket} {shlex.join(words)}"
        return host.run(
            f"read -r REDISCLI_AUTH; export REDISCLI_AUTH; {command}", self._admin_password + "\n"
        )

    def redis_info(self, host: Host, instance: str) -> dict[str, str]:
        """INFO replication of a host's instance."""
        said = self.redis_cli(host, f"/run/redis-{instance}/redis.sock", "INFO", "replication")
        return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)

    def sentinel_master(self, asked: Host, instance: str) -> dict[str, str]:
        """What a host's Sentinel knows of an instance's master."""
        said = self.redis_cli(asked, SENTINEL, "SENTINEL", "MASTER", instance).split()
        return dict(zip(said[::2], said[1::2], strict=True))

    def redis_master(self, instance: str, asked: Host | None = None) -> Host:
        """The instance's master, as `asked`'s Sentinel says, else the first that answers."""
        for host in [asked] if asked else self.members("redis_sentinel"):
            with suppress(subprocess.SubprocessError):
                said = self.redis_cli(host, SENTINEL, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", instance)
                return next(host for host in self.hosts if host.address == said.split()[0])
        raise LookupError("no Sentinel answers")

    def assert_a_run_changes_nothing(self) -> None:
        """Run the playbook. Raises AssertionError with what it changed, or where it failed."""
        run = Environment(self.inventory, "", ()).play()
        assert run.code == 0, run.failures()
        assert set(run.changed.values()) == {0}, {
            host.name: run.changed_tasks(host.name) for host in self.hosts
        }

    def reigns(self) -> dict[str, str]:
        """Who is primary and master of what, and the number of takeovers that made it so."""
        primary = self.primary()
        timeline = primary.psql("SELECT pg_walfile_name(pg_current_wal_lsn())")[:8]
        found = {"postgresql": f"{primary}, {timeline}"}
        for instance in ("sessions", "realtime"):
            state = self.sentinel_master(self.members("redis_sentinel")[0], instance)
            found[instance] = f"{state['ip']}, {state['config-epoch']}"
        return found

    def lacking(self) -> str:
        """What the cluster lacks to be whole; empty where it lacks nothing."""
        return (self.members("postgresql") and self._lacking_postgresql()) or self._lacking_redis()

    def _lacking_postgresql(self) -> str:
        copies = len(self.members("postgresql")) - 1
        streaming = self.primary().psql(
            "SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid"
            " WHERE state = 'streaming'"
        )
        if int(streaming) != copies:
            return f"{streaming} of {copies} copies of PostgreSQL stream, each by its slot"
        self.synchronous()
        return ""

    def _lacking_redis(self) -> str:
        for instance in ("sessions", "realtime"):
            masters = {str(self.redis_master(instance, host)) for host in self.members("redis_sentinel")}
            if len(masters) != 1:
                return f"Sentinels disagree on the master of {instance}: {', '.join(sorted(masters))}"
            states = {host.name: self.redis_info(host, instance) for host in self.members("redis")}
            wrong = [
                name
                for name, state in states.items()
                if state["role"] != ("master" if name in masters else "slave")
                or state.get("master_link_status", "up") != "up"
            ]
            if wrong:
                return f"{instance} on {', '.join(wrong)} is not in its place"
        return ""

    def await_whole(self) -> None:
        """Wait until every copy of everything streams and everybody agrees who is primary."""
        until(lambda: not self.lacking(), lambda: self.lacking())

    def settings(self, folder: Path) -> Settings:
        """The contract of the first application host, copied to `folder`."""
        packed = subprocess.run(
            [*self.members("app")[0].ssh_command(), "sudo tar c -C /etc/chat-data-tier ."],
            check=True,
            capture_output=True,
        ).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        return Settings.load(folder).model_copy(update={"ca_path": folder / "ca.pem"})
