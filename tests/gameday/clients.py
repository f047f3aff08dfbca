"""Clients that are not chatdata's, busy on this machine: tests/clients/failover.mjs and failover.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from chatdata.settings import Settings

from .. import programs
from .nodes import Host, until


def access(settings: Settings, first: Host, name: str) -> dict[str, Any]:
    """How a client gets at the master for `name`; of the Sentinels, `first`'s is asked first."""
    url, password, _ = settings.redis(name)
    known = sorted(settings.sentinels(), key=lambda sentinel: sentinel[0] != first.address)
    return {
        "sentinels": ",".join(f"{host}:{port}" for host, port in known),
        "sentinelPassword": settings.sentinel_login()["password"],
        "service": settings.service(name),
        "user": urlsplit(url).username,
        "password": password,
        "ca": str(settings.ca_path),
    }


def prepare(folder: Path) -> dict[str, str]:
    """The programs, the page's code and their packages in `folder`; the environment that they run in."""
    kept = programs.installed()
    programs.write_modules(folder)
    for path in programs.own():
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(kept / "node_modules")
    own = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where python3 is this one
    return {**os.environ, "PATH": own, "PYTHONPATH": str(kept / "python")}


def exchange(settings: Settings, first: Host, adapter: str, folder: Path) -> str:
    """What two servers said that did not tell each other all that the adapter can; empty where they did."""
    told = access(settings, first, "socketio") | {"adapter": adapter, "namespaces": ["/"]}
    done = subprocess.run(
        [programs.NODE, "exchange.mjs"], cwd=folder, env=prepare(folder), input=json.dumps(told) + "\n",
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.stderr or str(done.returncode) if done.returncode else ""


class Clients:
    """Each kind of client, busy until the block ends."""

    def __init__(self, settings: Settings, first: Host, adapters: Sequence[str], folder: Path) -> None:
        self.kinds = ["node-redis", "ioredis", *adapters, "redis-py", "redis-py as it comes"]
        self.answered: dict[str, list[float]] = {kind: [] for kind in self.kinds}  # time.monotonic
        self.refused: dict[str, str] = dict.fromkeys(self.kinds, "")  # what each heard last
        self._told = {
            "tokens": access(settings, first, "sessions"),
            "socketio": access(settings, first, "socketio"),
            "adapters": adapters,
        }
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        environment = prepare(self._folder)
        for command in ([str(programs.NODE), "failover.mjs"], [sys.executable, "failover.py"]):
            process = subprocess.Popen(
                command, cwd=self._folder, env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(json.dumps(self._told) + "\n")
            process.stdin.flush()
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            self._running.append(process)
            self._readers.append(reader)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for process in self._running:
            assert process.stdin is not None
            process.stdin.close()
        try:
            codes = [process.wait(timeout=60) for process in self._running]
        finally:
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its servers may not have seen the end
            for reader in self._readers:
                reader.join()
        assert kind or codes == [0, 0], codes

    def flow(self) -> None:
        """Wait until what every kind begins now is answered."""
        before = {kind: len(answered) for kind, answered in self.answered.items()}
        until(lambda: not self._silent(before), lambda: f"busy: {self._silent(before)}")

    def gaps_s(self, since: float) -> dict[str, float]:
        """Each kind's longest time without an answer after `since`."""
        return {
            kind: max(later - earlier for earlier, later in pairwise(answered) if later > since)
            for kind, answered in self.answered.items()
        }

    def _silent(self, before: dict[str, int]) -> dict[str, str]:
        assert all(process.poll() is None for process in self._running), "a client ended"
        return {
            kind: self.refused[kind]
            for kind, answered in self.answered.items()
            if len(answered) < before[kind] + 10
        }

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            said = json.loads(line)
            if said.get("error"):
                self.refused[said["kind"]] = said["error"]
            else:
                self.answered[said["kind"]].append(time.monotonic())
