#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write a service's configuration files whole, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Own a service's configuration files whole
description:
  - Writes every listed file with its content, owner and mode, and removes what lies beside them uninvited.
  - One call serves all files of a service. A write that fails is an error that names the file.
  - Check mode works on a host that lacks the folders and users still, where M(ansible.builtin.copy) fails,
    so that a first run can be predicted.
  - Each file is replaced by a rename; a killed run leaves the old file or the new one.
options:
  files:
    description: The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path. Missing parent folders are made, owned by root, mode 0755.
        type: path
        required: true
      content:
        description: The whole text.
        type: str
        required: true
      owner:
        description: Owner's name.
        type: str
        default: root
      group:
        description: Group's name.
        type: str
        default: root
      mode:
        description: Permissions in octal.
        type: str
        default: "0644"
      once:
        description: Write it only where it does not exist; afterwards it belongs to the daemon.
        type: bool
        default: false
  purge:
    description: Glob patterns; a file that matches one and is not in O(files) is removed.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Predicts each write and removal, on a host without the folders and users too.
  diff_mode:
    support: full
    description: Shows the files before and after; a password's hash is shortened.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Configure PgBouncer
  config_files:
    files:
      - path: /etc/pgbouncer/chat.ini
        content: "{{ lookup('ansible.builtin.template', 'chat.ini.j2') }}"
        group: postgres
        mode: "0640"
"""

RETURN = r"""
written:
  description: Paths that were written, changed in owner or mode, or removed; in check mode, that would be.
  returned: always
  type: list
  elements: str
"""

import glob
import grp
import os
import pwd
import re
import stat
import tempfile
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Redis's ACL files hold passwords as SHA-256; a diff shows enough to tell two apart.
PASSWORD_HASH = re.compile(r"(#[0-9a-f]{8})[0-9a-f]{56}")


@dataclass(frozen=True)
class ConfigFile:
    """A file as it should be, or as it is (content None: absent)."""

    path: str
    content: str | None
    owner: str = ""
    group: str = ""
    mode: str = ""

    def attributes(self) -> str:
        """Owner, group and mode in one line, for a diff."""
        return f"{self.owner}:{self.group} {self.mode}" if self.content is not None else ""


def read(path: str) -> ConfigFile:
    """The file at `path` as it is; a link counts as absent, because it would be replaced."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return ConfigFile(path, None)
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path, None)
    return ConfigFile(
        path,
        content,
        _name(pwd.getpwuid, status.st_uid),
        _name(grp.getgrgid, status.st_gid),
        f"{stat.S_IMODE(status.st_mode):04o}",
    )


def _name(lookup: Any, number: int) -> str:
    """The user's or group's name, or its number where it has none."""
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def write(wanted: ConfigFile) -> None:
    """Replace the file by a rename, with its final owner and mode from the start."""
    folder = os.path.dirname(wanted.path)
    _make_folders(folder)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchown(file.fileno(), pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid)
            os.fchmod(file.fileno(), int(wanted.mode, 8))
            file.write(wanted.content or "")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, wanted.path)
    except BaseException:
        os.unlink(temporary)
        raise


def _make_folders(folder: str) -> None:
    """Make the missing folders of a path with mode 0755, whatever the umask."""
    if not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103  the services' own users have to reach their files


def difference(current: ConfigFile, wanted: ConfigFile) -> dict[str, str]:
    """The change as Ansible's --diff prints it: the text, or the attributes where only they differ."""
    if current.content == wanted.content:
        before, after = current.attributes() + "\n", wanted.attributes() + "\n"
    else:
        before, after = current.content or "", wanted.content or ""
    before, after = (PASSWORD_HASH.sub(r"\1...", text) for text in (before, after))
    return {
        "before_header": current.path,
        "after_header": wanted.path if wanted.content is not None else "(removed)",
        "before": before,
        "after": after,
    }


def plan(files: list[dict[str, Any]], purge: list[str]) -> list[tuple[ConfigFile, ConfigFile]]:
    """The files that differ, as (current, wanted) pairs."""
    changes = []
    for entry in files:
        wanted = ConfigFile(*(entry[key] for key in ("path", "content", "owner", "group", "mode")))
        current = read(wanted.path)
        keep = entry["once"] and current.content is not None
        if current != wanted and not keep:
            changes.append((current, wanted))
    invited = {entry["path"] for entry in files}
    found = {path for pattern in purge for path in glob.glob(pattern)}
    changes += [(read(path), ConfigFile(path, None)) for path in sorted(found - invited)]
    return changes


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
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "once": {"type": "bool", "default": False},
                },
            },
            "purge": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    changes = plan(module.params["files"], module.params["purge"])
    for current, wanted in changes:
        if module.check_mode:
            continue
        try:
            if wanted.content is None:
                os.unlink(current.path)
            else:
                write(wanted)
        except (OSError, KeyError) as error:
            module.fail_json(msg=f"{wanted.path}: {error}")
    module.exit_json(
        changed=bool(changes),
        written=[wanted.path for _current, wanted in changes],
        diff=[difference(*change) for change in changes],
    )


if __name__ == "__main__":
    main()
