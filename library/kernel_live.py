#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the kernel's settings, in the files for the next boot and in the running kernel."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_live
short_description: Keep the kernel's settings for the next boot and now
description:
  - Writes the files from which the next boot sets the kernel, and brings the running kernel to the same
    values, so that a change made by hand with C(sysctl -w) shows up and is undone.
  - A value that cannot be written, as in a container, is left alone. One notice names those that differ, for
    the owner of the machine; they are neither a change nor a failure.
options:
  files:
    description: The files for the next boot; root owns them.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path. Missing parent folders are made, mode 0755.
        type: path
        required: true
      content:
        description: The whole text.
        type: str
        required: true
      mode:
        description: Permissions in octal.
        type: str
        default: "0644"
  values:
    description:
      - The kernel's files below C(/proc/sys) and C(/sys), and the value that each is to have.
      - C(vm/overcommit_memory) is not set to 2 where more is promised already than the limit would allow,
        because the host could not start another process; the module fails before it has written anything.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Predicts the writes.
  diff_mode:
    support: full
    description: Shows the files and the values before and after.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Swap at the last only
  kernel_live:
    files:
      - path: /etc/sysctl.d/60-chat.conf
        content: |
          vm.swappiness = 1
    values:
      /proc/sys/vm/swappiness: 1
"""

RETURN = r"""
written:
  description: Files and values that were written, or would be.
  returned: always
  type: list
  elements: str
skipped_values:
  description: Values that differ and cannot be written here.
  returned: always
  type: list
  elements: str
"""

import errno
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.owned_files import apply, difference, plan

# What a kernel says that may not be written to, whoever asks.
READ_ONLY = (errno.EROFS, errno.EPERM, errno.EACCES)

HEADERS = {"before_header": "the running kernel", "after_header": "the running kernel"}


@dataclass(frozen=True)
class Value:
    """A value that differs: the kernel's file, what it holds (None: there is none), what it should."""

    path: str
    current: str | None
    wanted: str
    writable: bool

    def __str__(self) -> str:
        return f"{name_of(self.path)} is {self.current or 'absent'}, wanted {self.wanted}"


def name_of(path: str) -> str:
    """A value's name as people know it: vm.swappiness, or the path below /sys."""
    return path.removeprefix("/proc/sys/").replace("/", ".") if path.startswith("/proc/sys/") else path


def current(text: str) -> str:
    """The value that a kernel's file shows; of `always [madvise] never` the one in brackets."""
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else " ".join(text.split())


def compare(values: Mapping[str, object]) -> list[Value]:
    """The values that differ, vm/overcommit_memory last: its ratio has to be there before."""
    differing = []
    for path, wanted in sorted(
        values.items(), key=lambda item: (item[0].endswith("/overcommit_memory"), item[0])
    ):
        try:
            with open(path, encoding="ascii") as file:
                seen = current(file.read())
        except OSError:
            differing.append(Value(path, None, str(wanted), False))
            continue
        if seen != str(wanted):
            differing.append(Value(path, seen, str(wanted), os.access(path, os.W_OK)))
    return differing


def overpromised(meminfo: str, ratio: int) -> str:
    """Why the strict limit would stop the host now, from /proc/meminfo's text; empty if it would not."""
    kb = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in meminfo.splitlines())}
    limit = (kb["MemTotal"] - kb.get("Hugetlb", 0)) * ratio // 100 + kb["SwapTotal"]
    if kb["Committed_AS"] < limit:
        return ""
    return f"{kb['Committed_AS'] // 1024} MB are promised already, the limit would be {limit // 1024} MB"


def put(values: Iterable[Value]) -> list[Value]:
    """Tell the running kernel; the values that it turns out not to let anybody write.

    Raises OSError, with the value's name in its text, for one that the kernel does not take.
    """
    refused = []
    for value in values:
        try:
            with open(value.path, "w", encoding="ascii") as kernel:
                kernel.write(value.wanted + "\n")
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise OSError(f"{name_of(value.path)} = {value.wanted}: {error.strerror}") from error
            refused.append(value)
    return refused


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                },
            },
            "values": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    owned = {"owner": "root", "group": "root", "once": False}
    files = plan([{**entry, **owned} for entry in module.params["files"]], [])
    values = module.params["values"]
    differing = compare(values)
    live = [value for value in differing if value.writable]

    if any(value.path.endswith("/vm/overcommit_memory") and value.wanted == "2" for value in live):
        ratio = next((wanted for path, wanted in values.items() if path.endswith("/overcommit_ratio")), 50)
        with open("/proc/meminfo", encoding="ascii") as file:
            why = overpromised(file.read(), int(ratio))
        if why:
            module.fail_json(
                msg=f"vm.overcommit_memory = 2 would keep this host from starting processes: {why}. Stop "
                "what else runs here, or leave it to the kernel by kernel_settings, "
                "{vm.overcommit_memory: null}"
            )

    refused: list[Value] = []
    if not module.check_mode:
        try:
            apply(files)
            refused = put(live)
        except (OSError, KeyError) as error:
            module.fail_json(msg=error.args[0])

    done = [value for value in live if value not in refused]
    skipped = [value for value in differing if value not in done]
    if skipped:
        module.warn(
            f"Kernel settings that cannot be changed from here: {'; '.join(map(str, skipped))}. "
            "The files for a boot are written; in a container the machine's owner has to set these."
        )
    lines = {
        "before": "".join(f"{name_of(value.path)} = {value.current}\n" for value in done),
        "after": "".join(f"{name_of(value.path)} = {value.wanted}\n" for value in done),
    }
    module.exit_json(
        changed=bool(files or done),
        written=[wanted.path for _current, wanted in files] + [value.path for value in done],
        skipped_values=[value.path for value in skipped],
        diff=[*(difference(*change) for change in files), {**lines, **HEADERS}],
    )


if __name__ == "__main__":
    main()
