#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep what a running Sentinel watches, and who may ask it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sentinel_live
short_description: Keep what a running Sentinel watches
description:
  - Sentinel writes its own file, so what it watches is compared and corrected in the running process, which
    then writes it down.
  - The master's address is given to a Sentinel that does not know the name yet, and never again.
options:
  socket:
    description: Sentinel's unix socket.
    type: path
    required: true
  main:
    description: The file that Sentinel writes.
    type: path
    required: true
  username:
    description: An ACL user of Sentinel with all rights.
    type: str
    required: true
  passwords:
    description: Its password, and perhaps an older one.
    type: list
    elements: str
    required: true
  peer_password:
    description: What Sentinel shows to the others, and to the instances that it watches.
    type: str
    required: true
  globals:
    description: What C(SENTINEL CONFIG SET) knows, by name, but C(sentinel-pass).
    type: dict
    default: {}
  watched:
    description:
      - "Each master by its name: C(address), C(port) and what C(SENTINEL SET) knows, but C(auth-pass)."
      - Others are forgotten.
    type: dict
    required: true
  acl:
    description: The ACL file's text, as Sentinel lists the same users.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Predicts what would be set, loaded and watched.
  diff_mode:
    support: full
    description: Shows each value before and after, without passwords.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Watch the masters
  sentinel_live:
    socket: /run/sentinel/sentinel.sock
    main: /etc/redis/redis-sentinel.conf
    username: chat_admin
    passwords: ["{{ redis_chat_admin_password }}"]
    peer_password: "{{ redis_chat_sentinel_password }}"
    watched:
      sessions: {address: 192.0.2.11, port: 6380, quorum: 2, down-after-milliseconds: 1000}
    acl: "{{ lookup('ansible.builtin.file', 'chat-sentinel.acl') }}"
"""

RETURN = r"""
set:
  description: What was set, loaded or watched, or would be.
  returned: always
  type: list
  elements: str
"""

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.redis_replicas import HAS_REDIS, ask, by_socket, pairs

if HAS_REDIS:
    import redis

HIDDEN = frozenset({"auth-pass", "sentinel-pass"})
# SENTINEL MASTERS does not say them; the file that Sentinel writes at each change does.
ONLY_IN_FILE = frozenset({"auth-pass", "auth-user"})


def written(text: str) -> dict[str, dict[str, str]]:
    """What Sentinel's file holds for each master, as far as only the file says it."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if len(words) == 4 and words[0] == "sentinel" and words[1] in ONLY_IN_FILE:
            found.setdefault(words[2], {})[words[1]] = words[3]
    return found


def users(listed: str) -> dict[str, tuple[str, ...]]:
    """The rules of each user of ACL LIST, or of a file written in the same words, in one order."""
    lines = [line.split() for line in listed.splitlines() if line.strip()]
    return {words[1]: tuple(sorted(words[2:])) for words in lines}


def differences(current: Mapping[str, str], wanted: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Values that are not the wanted ones: name to (current, wanted)."""
    return {
        name: (current.get(name, ""), str(value))
        for name, value in wanted.items()
        if current.get(name, "") != str(value)
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "main": {"type": "path", "required": True},
            "username": {"type": "str", "required": True},
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "peer_password": {"type": "str", "required": True, "no_log": True},
            "globals": {"type": "dict", "default": {}},
            "watched": {"type": "dict", "required": True},
            "acl": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    if module.check_mode and not os.path.exists(options["socket"]):
        module.exit_json(changed=False, set=[])  # its start is announced
    if not HAS_REDIS:
        module.fail_json(msg=missing_required_lib("redis"))

    def connect(password: str) -> Any:
        return by_socket(options["socket"], options["username"], password)

    try:
        changes = ask(connect, options["passwords"], lambda client: _bring(module, client))
    except redis.exceptions.RedisError as error:
        module.fail_json(msg=f"{options['socket']}: {error}")
    module.exit_json(
        changed=bool(changes),
        set=sorted(changes),
        diff={
            "before": "".join(f"{name} {_shown(name, old)}\n" for name, (old, _) in sorted(changes.items())),
            "after": "".join(f"{name} {_shown(name, new)}\n" for name, (_, new) in sorted(changes.items())),
        },
    )


def _shown(name: str, value: str) -> str:
    return "(hidden)" if value and name.rsplit(" ", 1)[-1] in HIDDEN else value


def _bring(module: AnsibleModule, client: Any) -> dict[str, tuple[str, str]]:
    """What was changed, or would be: name to (before, after)."""
    options, act = module.params, not module.check_mode
    changes: dict[str, tuple[str, str]] = {}

    def sentinel(*words: Any) -> Any:
        return client.execute_command("SENTINEL", *words)

    listed = users("\n".join(str(line) for line in client.execute_command("ACL", "LIST")))
    wanted_users = users(options["acl"])
    for name in sorted(listed.keys() | wanted_users.keys()):
        if listed.get(name) != wanted_users.get(name):
            changes[f"user {name}"] = (
                "there" if name in listed else "",
                "as in the file" if name in wanted_users else "",
            )
    if changes and act:
        with suppress(redis.exceptions.ConnectionError):  # 7.0 closes this one too
            client.execute_command("ACL", "LOAD")
        client.connection_pool.disconnect()

    wanted_globals = options["globals"] | {"sentinel-pass": options["peer_password"]}
    for name, change in differences(pairs(sentinel("CONFIG", "GET", "*")), wanted_globals).items():
        changes[name] = change
        if act:
            sentinel("CONFIG", "SET", name, change[1])

    watched = {row["name"]: row for row in map(pairs, sentinel("MASTERS"))}
    with open(options["main"], encoding="utf-8") as file:
        in_file = written(file.read())
    for name in sorted(watched.keys() - options["watched"].keys()):
        changes[name] = ("watched", "")
        if act:
            sentinel("REMOVE", name)
    for name, wanted in sorted(options["watched"].items()):
        settings = {key: value for key, value in wanted.items() if key not in ("address", "port")}
        settings["auth-pass"] = options["peer_password"]
        if name not in watched:
            changes[name] = ("", f"{wanted['address']} {wanted['port']}")
            if act:
                sentinel("MONITOR", name, wanted["address"], wanted["port"], settings["quorum"])
        current = watched.get(name, {}) | in_file.get(name, {})
        # The user first: a password alone would be tried as the default user's.
        for setting, change in sorted(differences(current, settings).items(), reverse=True):
            changes[f"{name} {setting}"] = change
            if act:
                sentinel("SET", name, setting, change[1])
    return changes


if __name__ == "__main__":
    main()
