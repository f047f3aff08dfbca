"""Says which run asks for the lock, and takes over from one of this controller's that is over."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs the module of the same name; whether a process lives is only known where it ran."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        controller = f"{getpass.getuser()}@{socket.gethostname()}"
        arguments = {**self._task.args, "controller": controller, "process": process(os.getppid())}

        def ask(**more: Any) -> dict[str, Any]:
            said: dict[str, Any] = self._execute_module(
                module_name="run_lock", module_args={**arguments, **more}, task_vars=task_vars
            )
            return said

        said = ask()
        holder = said.get("holder") or {}
        if (
            holder.get("controller") == controller
            and process(_number(holder["process"])) != holder["process"]
        ):
            said = ask(over=holder["process"])
        result.update(said)
        return result


def process(number: int) -> str:
    """A process and its start, in ticks since the boot: a number is used again. Empty if it is over."""
    try:
        known = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return f"{number}/{known.rpartition(')')[2].split()[19]}"


def _number(known: str) -> int:
    return int(known.partition("/")[0] or 0)
