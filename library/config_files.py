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
      secret:
        description:
          - In place of O(files[].content), the file's one line without its end. It is logged nowhere, and a
            diff shows the beginning of its SHA-256.
        type: str
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
      in_folder:
        description: Leave it out where its folder is not there, because a daemon is still to make it.
        type: bool
        default: false
  folders:
    description: Folders that are kept with these attributes; they come before O(files).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
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
        default: "0755"
  masked:
    description: Secrets that are part of a O(files[].content). No log holds them.
    type: list
    elements: str
    default: []
  purge:
    description: Glob patterns; a file that matches one and is not in O(files) is removed.
    type: list
    elements: str
    default: []
  trials:
    description:
      - Daemons that are started on the new files before they replace the old ones, one after the other, and
        ended again. Where one does not become ready, nothing is written.
      - Left out where nothing changes, and in check mode where a daemon or one of O(trials[].needs) is not
        there yet.
    type: list
    elements: dict
    default: []
    suboptions:
      argv:
        description:
          - The command. C(%s) stands for a folder that holds all of O(files) by their base names, and that
            it may write into. It stays in the foreground and tells systemd when it is ready (C(sd_notify)).
        type: list
        elements: str
        required: true
      needs:
        description: Files that it reads beside them.
        type: list
        elements: path
        default: []
attributes:
  check_mode:
    support: full
    description: Predicts each write and removal, on a host without the folders and users too; tries out.
  diff_mode:
    support: full
    description: Shows the files before and after; of a password, and of its hash, the beginning of the hash.
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

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.owned_files import apply, difference, plan, try_out


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "secret": {"type": "str", "no_log": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                    "once": {"type": "bool", "default": False},
                    "in_folder": {"type": "bool", "default": False},
                },
                "mutually_exclusive": [("content", "secret")],
                "required_one_of": [("content", "secret")],
            },
            "folders": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0755"},
                },
            },
            "masked": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "purge": {"type": "list", "elements": "str", "default": []},
            "trials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "argv": {"type": "list", "elements": "str", "required": True},
                    "needs": {"type": "list", "elements": "path", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    files = [
        file
        for file in module.params["files"]
        if not file["in_folder"] or os.path.isdir(os.path.dirname(file["path"]))
    ]
    changes = plan(files, module.params["purge"], module.params["folders"])
    for trial in module.params["trials"] if changes else ():
        if not module.check_mode or _there(trial["argv"][0], *trial["needs"]):
            refused = try_out(files, trial["argv"])
            if refused:
                module.fail_json(
                    msg=f"{' '.join(trial['argv'])} does not start, so no file was written: {refused}"
                )
    if not module.check_mode:
        try:
            apply(changes)
        except (OSError, KeyError) as error:
            module.fail_json(msg=error.args[0])
    module.exit_json(
        changed=bool(changes),
        written=[wanted.path for _current, wanted in changes],
        diff=[difference(*change) for change in changes],
    )


def _there(*paths: str) -> bool:
    return all(os.path.exists(path) for path in paths)


if __name__ == "__main__":
    main()
