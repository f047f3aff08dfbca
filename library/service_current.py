#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep a systemd service running with what its files say now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_current
short_description: Run a systemd service with what its files say now
description:
  - Enables and starts the service, reloads it when a file it reads is newer than its last start or reload,
    and restarts it when a file that only a start reads is newer than its last start.
  - It compares times instead of waiting for a notification, so a run that was killed between the file and the
    handler is caught up by the next one, and a renewed certificate reaches every service that reads it.
  - Without O(allow_restart) a restart is only reported, with what wants it.
options:
  name:
    description: The unit, with its suffix.
    type: str
    required: true
  reload_on:
    description: Files that a reload reads again.
    type: list
    elements: path
    default: []
  restart_on:
    description: Files that only a start reads, and drop-ins of the unit.
    type: list
    elements: path
    default: []
  restart_for:
    description: What else a restart is wanted for, such as settings that the daemon names.
    type: list
    elements: str
    default: []
  written:
    description: Files that this run has written or, in check mode, would have written.
    type: list
    elements: path
    default: []
  allow_restart:
    description: Whether a restart may happen now.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Predicts the actions from the ages of the files and from what the run would write.
  diff_mode:
    support: full
    description: Shows the service's state before and after.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Run PgBouncer
  service_current:
    name: pgbouncer.service
    reload_on: [/etc/pgbouncer/chat.ini]
    restart_on: [/etc/systemd/system/pgbouncer.service.d/chat.conf]
    written: "{{ __pgbouncer_files.written }}"
    allow_restart: "{{ pgbouncer_allow_restart }}"
"""

RETURN = r"""
name:
  description: The unit.
  returned: always
  type: str
actions:
  description: What was done, or would be in check mode (enable, start, reload, restart).
  returned: always
  type: list
  elements: str
restart_for:
  description: What a restart is wanted for, whether it happened or has to wait.
  returned: always
  type: list
  elements: str
restart_needed:
  description: A restart is wanted and not allowed.
  returned: always
  type: bool
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "InactiveExitTimestamp",
    "StateChangeTimestamp",
)


@dataclass(frozen=True)
class Plan:
    """Actions in their order, what a restart is wanted for, and whether it has to wait."""

    actions: list[str]
    restart_for: list[str]
    restart_needed: bool = False


def seconds(timestamp: str) -> float:
    """A time as `systemctl show --timestamp=us+utc` prints it, in seconds since the epoch; empty is 0."""
    if not timestamp:
        return 0.0
    moment = datetime.strptime(timestamp, "%a %Y-%m-%d %H:%M:%S.%f UTC")
    return moment.replace(tzinfo=UTC).timestamp()


def newer(paths: Iterable[str], since: float, written: Iterable[str]) -> list[str]:
    """The paths that changed after `since`, or that are among `written`."""
    about_to_change = set(written)
    return [
        path
        for path in paths
        if path in about_to_change or (os.path.exists(path) and os.stat(path).st_ctime > since)
    ]


def plan(
    unit: Mapping[str, str],
    reload_for: list[str],
    restart_for: list[str],
    *,
    allow_restart: bool,
) -> Plan:
    """What brings the unit up to its files: `unit` holds systemd's PROPERTIES as text."""
    actions = ["enable"] if unit["UnitFileState"] not in ("enabled", "enabled-runtime") else []
    if unit["ActiveState"] not in ("active", "reloading"):
        return Plan([*actions, "start"], [])
    if restart_for and allow_restart:
        return Plan([*actions, "restart"], restart_for)
    if reload_for:
        return Plan([*actions, "reload"], restart_for, bool(restart_for))
    return Plan(actions, restart_for, bool(restart_for))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "reload_on": {"type": "list", "elements": "path", "default": []},
            "restart_on": {"type": "list", "elements": "path", "default": []},
            "restart_for": {"type": "list", "elements": "str", "default": []},
            "written": {"type": "list", "elements": "path", "default": []},
            "allow_restart": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]

    def systemctl(*arguments: str) -> str:
        code, out, error = module.run_command(["systemctl", *arguments])
        if code:
            _code, journal, _error = module.run_command(
                ["journalctl", "--unit", name, "--lines", "20", "--no-pager", "--output", "cat"]
            )
            module.fail_json(
                msg=f"systemctl {' '.join(arguments)}: {error.strip()}", journal=journal.splitlines()
            )
        return str(out)

    shown = systemctl("show", name, "--timestamp=us+utc", "--property", ",".join(PROPERTIES))
    unit = dict(line.split("=", 1) for line in shown.splitlines())
    if unit["LoadState"] != "loaded" and not module.check_mode:
        module.fail_json(msg=f"{name} cannot be loaded: systemd says {unit['LoadState']}")

    written = module.params["written"]
    wanted = plan(
        unit,
        newer(module.params["reload_on"], seconds(unit["StateChangeTimestamp"]), written),
        newer(module.params["restart_on"], seconds(unit["InactiveExitTimestamp"]), written)
        + module.params["restart_for"],
        allow_restart=module.params["allow_restart"],
    )
    if not module.check_mode:
        if unit["NeedDaemonReload"] == "yes":
            systemctl("daemon-reload")
        if unit["ActiveState"] == "failed" or "restart" in wanted.actions:
            systemctl("reset-failed", name)  # systemd's limit of starts is for crashes; this start is wanted
        for action in wanted.actions:
            systemctl(action, name)
    module.exit_json(
        changed=bool(wanted.actions),
        name=name,
        actions=wanted.actions,
        restart_for=wanted.restart_for,
        restart_needed=wanted.restart_needed,
        diff={"before": "", "after": "".join(f"{action} {name}\n" for action in wanted.actions)},
    )


if __name__ == "__main__":
    main()
