#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep etcd's users, each with one prefix of keys, and authentication on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_auth
short_description: Keep etcd's users and authentication
description:
  - Keeps the user C(root) and the given users with exactly these passwords, a role of the same name for each
    that may read and write one prefix of keys and nothing else, and authentication on.
  - Other users and roles are removed, or only named. Passwords are compared by logging in with them.
  - Uses C(etcdctl), whose arguments never hold a password.
options:
  endpoint:
    description: A member's client URL.
    type: str
    required: true
  ca:
    description: The authority's certificate.
    type: path
    required: true
  certificate:
    description: The client's certificate.
    type: path
    required: true
  key:
    description: The client's private key.
    type: path
    required: true
  root_password:
    description: Password of the user C(root).
    type: str
    required: true
  users:
    description: The users beside it.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The user, and its role.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
      prefix:
        description: What its keys begin with.
        type: str
        required: true
  exclusive:
    description: Whether other users, and roles, are removed.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Predicts each step; where etcd does not run yet, all of them.
  diff_mode:
    support: full
    description: Shows the steps.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Let in Patroni's user alone
  etcd_auth:
    endpoint: https://127.0.0.1:2379
    ca: /etc/ssl/certs/chat-ca.pem
    certificate: /etc/ssl/certs/chat.pem
    key: /etc/ssl/private/chat.key
    root_password: "{{ etcd_root_password }}"
    users:
      - {name: patroni, password: "{{ etcd_patroni_password }}", prefix: /service/}
"""

RETURN = r"""
steps:
  description: What was done, or would be, in words.
  returned: always
  type: list
  elements: str
others:
  description: The names of other users that are there.
  returned: always
  type: list
  elements: str
members:
  description: The names of etcd's members; none in check mode where etcd does not run yet.
  returned: always
  type: list
  elements: str
"""

import base64
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.etcd_client import Etcdctl, EtcdctlError

READWRITE = 2  # etcd's authpb.Permission.Type
Step = tuple[str, list[str], "str | None"]  # what it does, etcdctl's arguments, its standard input

AT_FIRST: list[Step] = [("add the users and switch authentication on", [], None)]


def steps_for_role(name: str, prefix: str, permissions: list[dict[str, Any]] | None) -> list[Step]:
    """What brings a role to exactly its prefix; `permissions` as etcd has them, None without the role."""
    wanted = (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
    steps: list[Step] = []
    if permissions is None:
        steps.append((f"add the role {name}", ["role", "add", name], None))
    found = set()
    for permission in permissions or []:
        key, end = (base64.b64decode(permission.get(part, "")).decode() for part in ("key", "range_end"))
        if (key, end) == wanted and permission.get("permType") == READWRITE:
            found.add(wanted)
        else:
            arguments = ["role", "revoke-permission", name, key, *([end] if end else [])]
            steps.append((f"take {key} from the role {name}", arguments, None))
    if wanted not in found:
        arguments = ["role", "grant-permission", name, "--prefix=true", "readwrite", prefix]
        steps.append((f"give {prefix} to the role {name}", arguments, None))
    return steps


def plan(module: AnsibleModule, etcd: Etcdctl, enabled: bool) -> tuple[list[Step], list[str]]:
    """The steps that are left to do, and the other users that stay."""
    users = {user["name"]: user for user in module.params["users"]}
    there = etcd.ask("user", "list").get("users") or []
    roles = etcd.ask("role", "list").get("roles") or []
    steps: list[Step] = []
    others = sorted(set(there) - {"root", *users})
    if module.params["exclusive"]:
        for name in others:
            steps.append((f"remove the user {name}", ["user", "delete", name], None))
        for name in sorted(set(roles) - {"root", *users}):
            steps.append((f"remove the role {name}", ["role", "delete", name], None))
        others = []
    for name, user in users.items():
        permissions = (etcd.ask("role", "get", name).get("perm") or []) if name in roles else None
        steps += steps_for_role(name, user["prefix"], permissions)
    passwords = {"root": module.params["root_password"], **{n: user["password"] for n, user in users.items()}}
    for name, password in passwords.items():
        if name not in there:
            steps.append(
                (f"add the user {name}", ["user", "add", name, "--interactive=false"], f"{password}\n")
            )
        elif not enabled or not Etcdctl(module, etcd.endpoints, f"{name}:{password}").knows():
            arguments = ["user", "passwd", name, "--interactive=false"]
            steps.append((f"set the password of {name}", arguments, f"{password}\n"))
        granted = (etcd.ask("user", "get", name).get("roles") or []) if name in there else []
        steps += [
            (f"take the role {role} from {name}", ["user", "revoke-role", name, role], None)
            for role in granted
            if role != name
        ]
        if name not in granted:
            steps.append((f"give the role {name} to {name}", ["user", "grant-role", name, name], None))
    if not enabled:
        steps.append(("switch authentication on", ["auth", "enable"], None))
    return steps, others


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "endpoint": {"type": "str", "required": True},
            "ca": {"type": "path", "required": True},
            "certificate": {"type": "path", "required": True},
            "key": {"type": "path", "required": True},
            "root_password": {"type": "str", "required": True, "no_log": True},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "prefix": {"type": "str", "required": True},
                },
            },
            "exclusive": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    ready = os.path.exists(module.params["certificate"]) and module.get_bin_path("etcdctl")
    steps, others, members = _bring(module) if ready or not module.check_mode else (AT_FIRST, [], [])
    module.exit_json(
        changed=bool(steps),
        others=others,
        members=members,
        steps=[what for what, _arguments, _given in steps],
        diff={"before": "", "after": "".join(f"{what}\n" for what, _arguments, _given in steps)},
    )


def _bring(module: AnsibleModule) -> tuple[list[Step], list[str], list[str]]:
    """The steps that were taken, or would be; the other users, and the members, by name."""
    nobody = Etcdctl(module, [module.params["endpoint"]])
    root = Etcdctl(module, nobody.endpoints, f"root:{module.params['root_password']}")
    try:
        enabled = bool(nobody.refusal())
        if enabled and not root.knows():
            module.fail_json(
                msg="etcd does not know root by the password in vault_etcd_root_password. Set the one that "
                "it has, and change it there with etcdctl user passwd root."
            )
        steps, others = plan(module, root if enabled else nobody, enabled)
        members = (root if enabled else nobody).ask("member", "list")["members"]
        if not module.check_mode:
            for _what, arguments, given in steps:
                (root if enabled else nobody).run(arguments, given)
    except EtcdctlError as error:
        if module.check_mode and "connection refused" in str(error):
            return AT_FIRST, [], []
        module.fail_json(msg=f"{module.params['endpoint']}: {error}")
    return steps, others, [member["name"] for member in members if "name" in member]


if __name__ == "__main__":
    main()
