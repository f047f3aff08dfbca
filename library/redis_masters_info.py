#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what Sentinels and this host's instances of Redis hold for the master."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_masters_info
short_description: Who is Redis's master, as Sentinels and a host's own instances see it
description:
  - Asks every Sentinel, and the host's own instances or, where one does not run, the file that Redis keeps
    its place in. Fails where one that runs knows the user by none of the passwords. The filter
    C(redis_masters) makes one decision of what all hosts say.
options:
  instances:
    description: The host's instances.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name, which is also the name by which Sentinel knows the master.
        type: str
        required: true
      socket:
        description: Its unix socket.
        type: path
        required: true
      main:
        description: The configuration file that the daemon itself writes.
        type: path
        required: true
      data:
        description: The folder of its data.
        type: path
        required: true
      port:
        description: The port of all instances of this name.
        type: int
        required: true
  username:
    description: An ACL user of every instance that may use INFO and DBSIZE.
    type: str
    required: true
  passwords:
    description: Its password, and perhaps an older one.
    type: list
    elements: str
    required: true
  sentinels:
    description: The Sentinels' addresses.
    type: list
    elements: str
    required: true
  sentinel_port:
    description: Their port, with TLS.
    type: int
    required: true
  sentinel_username:
    description: An ACL user of every Sentinel that may ask for a master's address.
    type: str
    required: true
  sentinel_password:
    description: Its password.
    type: str
    required: true
  ca:
    description: The authority that signed the Sentinels' certificates.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: It changes nothing. A host without packages has nothing to say.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Ask who is master
  redis_masters_info:
    instances:
      - {name: sessions, socket: /run/redis-sessions/redis.sock, main: /etc/redis/redis-sessions.conf,
         data: /var/lib/redis/sessions, port: 6380}
    username: chat_admin
    passwords: ["{{ redis_chat_admin_password }}"]
    sentinels: [192.0.2.11, 192.0.2.12, 192.0.2.13]
    sentinel_port: 26379
    sentinel_username: chat_sentinel_client
    sentinel_password: "{{ redis_chat_sentinel_client_password }}"
    ca: /etc/ssl/certs/chat-ca.pem
"""

RETURN = r"""
sentinels:
  description: For each Sentinel that answers, the address of each master; empty where it knows none.
  returned: always
  type: dict
instances:
  description: Of each instance its port, whom it copies from (or none), whether it has data, and runs.
  returned: always
  type: dict
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_replicas import (
    HAS_REDIS,
    ask,
    by_socket,
    by_tls,
    refuses_password,
    replication,
)

if HAS_REDIS:
    import redis


def written_master(text: str) -> str:
    """The address that a configuration file of Redis copies from; empty for none."""
    found = re.findall(r"^\s*(?:replicaof|slaveof)\s+(\S+)\s+\d+", text, re.MULTILINE | re.IGNORECASE)
    return "" if not found else str(found[-1])


def stored(folder: str) -> bool:
    """Whether an instance that does not run has left data: a dump, or commands in an append-only file."""
    try:
        found = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
        # A new instance has a base of under 100 bytes and no commands.
        return any(os.path.getsize(path) > 100 for path in found if path.endswith((".rdb", ".aof")))
    except FileNotFoundError:
        return False


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": text,
                    "socket": {"type": "path", "required": True},
                    "main": {"type": "path", "required": True},
                    "data": {"type": "path", "required": True},
                    "port": {"type": "int", "required": True},
                },
            },
            "username": text,
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "sentinels": {"type": "list", "elements": "str", "required": True},
            "sentinel_port": {"type": "int", "required": True},
            "sentinel_username": text,
            "sentinel_password": {"type": "str", "required": True, "no_log": True},
            "ca": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    names = [instance["name"] for instance in options["instances"]]
    known = {address: _asked(options, address, names) for address in options["sentinels"]}
    seen = {}
    for instance in options["instances"]:
        try:
            seen[instance["name"]] = {"port": instance["port"], **_own(options, instance)}
        except PermissionError:
            user = options["username"]
            module.fail_json(
                msg=f"Redis {instance['name']} knows {user} by another password than the vault has. Nothing "
                f"of Redis was changed. Say which, redis_previous_passwords: {{{user}: the old one}}, and "
                "run again."
            )
    module.exit_json(
        sentinels={address: answer for address, answer in known.items() if answer is not None},
        instances=seen,
    )


def _asked(options: Mapping[str, Any], address: str, names: list[str]) -> dict[str, str] | None:
    """Each instance's master as the Sentinel says; None where it does not answer."""
    if not HAS_REDIS or not os.path.exists(options["ca"]):
        return None  # a host before its first run
    user, password = options["sentinel_username"], options["sentinel_password"]
    try:
        with by_tls(address, options["sentinel_port"], user, password, options["ca"]) as client:
            answers = {
                name: client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) for name in names
            }
    except redis.exceptions.RedisError:
        return None
    return {name: str(answer[0]) if answer else "" for name, answer in answers.items()}


def _own(options: Mapping[str, Any], instance: Mapping[str, str]) -> dict[str, Any]:
    """What the instance copies from, whether it has data, and runs. Raises PermissionError for passwords."""

    def connect(password: str) -> Any:
        return by_socket(instance["socket"], options["username"], password)

    def look(client: Any) -> dict[str, Any]:
        copies = replication(client).get("master_host", "")
        return {"copies": copies, "data": client.dbsize() > 0, "runs": True}

    if HAS_REDIS:
        try:
            found: dict[str, Any] = ask(connect, options["passwords"], look)
            return found
        except redis.exceptions.RedisError as error:
            if refuses_password(error):
                raise PermissionError from error
    copies = ""
    if os.path.exists(instance["main"]):
        with open(instance["main"], encoding="utf-8") as file:
            copies = written_master(file.read())
    runs = os.path.exists(instance["socket"])  # systemd removes its folder
    return {"copies": copies, "data": stored(instance["data"]), "runs": runs}


if __name__ == "__main__":
    main()
