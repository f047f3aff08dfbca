"""Runs of the playbook and commands on its test hosts, for the molecule scenarios' own checks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
PODMAN = ["podman"] if os.geteuid() == 0 else ["sudo", "-n", "podman"]
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))


@dataclass(frozen=True)
class Run:
    """What a run of a playbook said."""

    code: int
    output: str = field(repr=False)
    tasks: list[dict[str, Any]] = field(repr=False)
    changed: dict[str, int]

    def failures(self, only: str = "") -> str:
        """What failed, a line for each task and host, or for those of one host alone.

        Of all hosts, where nothing failed in a task: all that was printed.
        """
        lines = [
            f"{host}: {task['task']['name']}: {result.get('msg', result)}"
            for task in self.tasks
            for host, result in task["hosts"].items()
            if (result.get("failed") or result.get("unreachable")) and only in ("", host)
        ]
        return "\n".join(lines) or ("" if only else self.output[-2000:])

    def changed_tasks(self, host: str) -> set[str]:
        """The names of the tasks that changed something on `host`, or would have in check mode."""
        return {task["task"]["name"] for task in self.tasks if task["hosts"].get(host, {}).get("changed")}

    def notice(self, host: str) -> str:
        """The run's last words for `host`; empty where it had none."""
        said = self.tasks[-1]["hosts"].get(host, {}).get("msg", "")
        return "\n".join(said) if isinstance(said, list) else str(said)

    def diff(self, host: str) -> str:
        """All that --diff showed for `host`."""
        return json.dumps([task["hosts"][host] for task in self.tasks if host in task["hosts"]])


@dataclass(frozen=True)
class Environment:
    """The inventory of a molecule scenario."""

    inventory: Path
    network: str
    hosts: tuple[str, ...]  # those that have everything
    redis_hosts: tuple[str, ...] = ()

    def play(self, *arguments: str, playbook: str = "playbook.yml", **environment: str) -> Run:
        """Run the playbook to its end, whatever that is."""
        done = subprocess.run(
            [PLAYBOOK, playbook, "-i", str(self.inventory), *arguments],
            cwd=PROJECT, env=_environment(ANSIBLE_STDOUT_CALLBACK="ansible.posix.json", **environment),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        start = done.stdout.find("{")
        report = json.loads(done.stdout[start:]) if start >= 0 else {"plays": [], "stats": {}}
        return Run(
            done.returncode,
            done.stdout + done.stderr,
            [task for play in report["plays"] for task in play["tasks"]],
            {host: stats["changed"] for host, stats in report["stats"].items()},
        )

    def play_and_kill(self, task: str, at: Callable[[], bool] = lambda: True) -> None:
        """Start the playbook and kill it, with its workers, in `task` at the moment when `at` holds."""
        process = subprocess.Popen(
            [PLAYBOOK, "playbook.yml", "-i", str(self.inventory)],
            cwd=PROJECT, env=_environment(), start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("TASK") and task in line:
                while not at():
                    assert process.poll() is None, f"{task!r} ended before the moment came"
                workers = _children(process.pid)
                for pid in (process.pid, *workers):  # the controller first: it must not clean up
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
                return
        raise AssertionError(f"the run never came to {task!r}:\n{''.join(lines[-40:])}")

    def shell(self, host: str, command: str, check: bool = True, stdin: str = "") -> str:
        """What a shell command prints as root in the host's container."""
        done = subprocess.run(
            [*PODMAN, "exec", "-i", f"{self.network}-{host}", "sh", "-c", command],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def address(self, host: str) -> str:
        """The host's address on the scenario's network."""
        hosts = yaml.safe_load((self.inventory / "hosts.yml").read_text())["postgresql"]["hosts"]
        return str(hosts[host]["ansible_host"])

    def redis_runs(self, host: str) -> dict[str, list[str]]:
        """The id that each Redis instance of the host gave itself at its start, and that start's process."""
        said = self.shell(
            host,
            "read -r REDISCLI_AUTH; export REDISCLI_AUTH; cli=$(basename /usr/bin/*-server -server)-cli;"
            " for socket in /run/*/redis.sock; do echo $socket;"
            " $cli --user chat_monitor -s $socket INFO server | grep -E '^(run_id|process_id)'; done",
            stdin=self.secrets()["vault_redis_chat_monitor_password"] + "\n",
        )
        runs: dict[str, list[str]] = {}
        for word in said.split():
            if word.startswith("/"):
                runs[word] = []
            else:
                runs[list(runs)[-1]].append(word)
        return runs

    def secrets(self) -> dict[str, Any]:
        """What the scenario's own vault holds."""
        vault = self.inventory / "group_vars/all/vault.yml"
        view = [str(Path(PLAYBOOK).with_name("ansible-vault")), "view", str(vault)]
        text = subprocess.run(view, capture_output=True, text=True, check=True, cwd=PROJECT).stdout
        secrets: dict[str, Any] = yaml.safe_load(text)
        return secrets

    def psql(self, host: str, statement: str) -> str:
        """What a statement answers the superuser in the database chat."""
        return subprocess.run(
            [*PODMAN, "exec", "-i", "-u", "postgres", f"{self.network}-{host}", "psql", "-XAtq", "chat"],
            input=statement, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip


def _children(parent: int) -> list[int]:
    """The processes that `parent` has started: Ansible's workers, each a session of its own."""
    listed = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout
    children = [int(pid) for pid in listed.split()]
    return children + [pid for child in children for pid in _children(child)]


def _environment(**more: str) -> dict[str, str]:
    unwanted = {"ANSIBLE_FORCE_COLOR", "PY_COLORS"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **more}
