#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let one run at a time change a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Let one run at a time change a host
description:
  - Takes the host for this run, or refuses, naming whose run has it and since when.
  - The lock is as good as the run that holds it. It ends with O(state=released), with the SSH connection by
    which it was taken (a controller that is gone loses it at most C(ControlPersist) later), with the host's
    next boot, and at once for another run of the same controller where its holder's process is over.
    A host for which the run has nothing to do for longer than C(ControlPersist) is free before it ends; the
    others still refuse another run.
options:
  state:
    description: Whether to take the lock or to give it back.
    type: str
    choices: [held, released]
    default: held
  controller:
    description: Whose run this is; the action plugin says it.
    type: str
    default: ""
  process:
    description: The run's process and its start; the action plugin says it.
    type: str
    default: ""
  over:
    description: A process of this controller that is over, so that its lock is free.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Takes nothing, and only warns of a run that is under way.
  diff_mode:
    support: none
    description: There is nothing to show.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Refuse a second run at the same time
  run_lock:
"""

RETURN = r"""
holder:
  description: Whose run has the host, its process, and since when (UTC).
  returned: when there is one
  type: dict
"""

import fcntl
import json
import os
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PATH = "/run/chat-run.lock"
SSH = ("sshd", "sshd-session")


def stat(process: int) -> tuple[str, int, str]:
    """A process's name, parent and start (ticks since the boot). Raises OSError where there is none."""
    with open(f"/proc/{process}/stat", encoding="utf-8") as file:
        head, _, tail = file.read().rpartition(")")
    fields = tail.split()
    return head.partition("(")[2], int(fields[1]), fields[19]


def connection(process: int) -> str:
    """The SSH session that a process belongs to, with its start; empty where it belongs to none."""
    while process > 1:
        name, parent, start = stat(process)
        if name in SSH:
            return f"{process}/{start}"
        process = parent
    return ""


def lives(known: str) -> bool:
    """Whether such a session is still there."""
    number, _, start = known.partition("/")
    try:
        return stat(int(number))[2] == start
    except (OSError, ValueError):
        return False


def holder(text: str) -> dict[str, str]:
    """Whose lock it is; nobody's where its connection has ended, or a run was killed while it wrote."""
    try:
        known: dict[str, str] = json.loads(text)
        return known if lives(known["connection"]) else {}
    except (ValueError, TypeError, KeyError):
        return {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "controller": {"type": "str", "default": ""},
            "process": {"type": "str", "default": ""},
            "over": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    options = module.params
    mine = {name: options[name] for name in ("controller", "process")}
    result: dict[str, Any] = {"changed": False}
    if module.check_mode and not os.path.exists(PATH):
        module.exit_json(**result)
    with open(os.open(PATH, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # for the moment of looking and writing
        known = holder(file.read())
        others = bool(known) and {name: known[name] for name in mine} != mine
        if others and known["process"] == options["over"] and known["controller"] == options["controller"]:
            others = False
        if others:
            result["holder"] = known
        elif not module.check_mode:
            file.seek(0)
            file.truncate()
            if options["state"] == "held":
                since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
                json.dump({**mine, "since": since, "connection": connection(os.getpid())}, file)
    if "holder" in result and options["state"] == "held":
        process = known["process"].partition("/")[0]
        said = f"{known['controller']} (process {process}) runs here since {known['since']}"
        if not module.check_mode:
            module.fail_json(
                msg=f"{said}: wait until that run has ended. One that was killed gives up the host within "
                "some minutes, as soon as its SSH connection is gone.",
                **result,
            )
        module.warn(f"{said}: this plan may be of yesterday when it ends.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
