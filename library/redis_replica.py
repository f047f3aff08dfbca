#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep an instance of Redis in its place among the copies."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_replica
short_description: Keep an instance of Redis in its place among the copies
description:
  - Makes an instance that copies from nobody, and is not the master, a copy of the master, unless it has data
    of its own that this would throw away. An instance that copies already is left to Sentinel.
  - Waits until the instance has loaded its data and, where it is a copy, streams from its master.
options:
  name:
    description: The instance's name, which is also the name by which Sentinel knows the master.
    type: str
    required: true
  socket:
    description: Its unix socket.
    type: path
    required: true
  username:
    description: An ACL user of the instance, and of Sentinel for O(hand_over), with all rights.
    type: str
    required: true
  passwords:
    description: Its password, and perhaps an older one.
    type: list
    elements: str
    required: true
  address:
    description: The instance's own address.
    type: str
    required: true
  port:
    description: The port of the instance and of its peers.
    type: int
    required: true
  master:
    description: The master's address. Without, the instance stays what it is.
    type: str
    default: ""
  hand_over:
    description: Where the instance is the master, let Sentinel make another one the master.
    type: bool
    default: false
  sentinels:
    description: The Sentinels' addresses, for O(hand_over).
    type: list
    elements: str
    default: []
  sentinel_port:
    description: Their port, with TLS.
    type: int
    default: 26379
  ca:
    description: The authority that signed the Sentinels' certificates, for O(hand_over).
    type: path
  timeout_s:
    description: For how long to wait, in seconds. A first copy of many tokens takes its time.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Predicts what would change, and waits for nobody.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Keep the instance a copy
  redis_replica:
    name: sessions
    socket: /run/redis-sessions/redis.sock
    username: chat_admin
    passwords: ["{{ redis_chat_admin_password }}"]
    address: 192.0.2.12
    port: 6380
    master: 192.0.2.11
"""

RETURN = r"""
role:
  description: What the instance is in the end, master or slave; empty in check mode where it does not run.
  returned: always
  type: str
"""

import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.redis_replicas import (
    HAS_REDIS,
    ask,
    await_,
    by_socket,
    by_tls,
    pairs,
    replication,
    replication_text,
)

if HAS_REDIS:
    import redis

# What clients wait for at most while a master hands over; all of it takes a second or two, one of them until
# a copy says how far it is, which it does late on a busy machine.
LAG_S, BEGIN_S, FOLLOW_S = 5, 3, 8
SENTINEL_CORRECTS_S = 20  # it makes an old master a copy after ten seconds


def to_follow(seen: dict[str, str], data: bool, address: str, master: str) -> str:
    """What an instance lacks to be in its place: nothing, to `follow`, or, with data, to be `corrected`."""
    if not master or master == address or seen["role"] != "master":
        return ""
    return "corrected" if data else "follow"


def has_data(client: Any) -> bool:
    """Whether an instance has keys, or is about to load some. Raises redis.RedisError."""
    try:
        return bool(client.dbsize())
    except redis.exceptions.BusyLoadingError:
        return True


def in_place(client: Any) -> bool:
    """Whether an instance has loaded its data and, if a copy, has its master's. Raises redis.RedisError."""
    client.ping()  # refused while it loads
    seen = replication(client)
    return bool(seen["role"] == "master" or seen["master_link_status"] == "up")


def caught_up(text: str) -> bool:
    """Whether all copies in INFO replication's text have what the master has; without any, nobody has."""
    offset = re.search(r"^master_repl_offset:(\d+)", text, re.MULTILINE)
    copies = re.findall(r"^slave\d+:.*state=online,offset=(\d+)", text, re.MULTILINE)
    return bool(offset and copies) and all(copy == offset[1] for copy in copies if offset)


def eligible(replica: dict[str, str]) -> bool:
    """Whether Sentinel would choose the replica: it answers, and its link to the master is up."""
    return replica["flags"] == "slave" and replica["master-link-status"] == "ok"


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "name": text,
            "socket": {"type": "path", "required": True},
            "username": text,
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "address": text,
            "port": {"type": "int", "required": True},
            "master": {"type": "str", "default": ""},
            "hand_over": {"type": "bool", "default": False},
            "sentinels": {"type": "list", "elements": "str", "default": []},
            "sentinel_port": {"type": "int", "default": 26379},
            "ca": {"type": "path"},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    options = module.params
    if module.check_mode and not (HAS_REDIS and os.path.exists(options["socket"])):
        module.exit_json(changed=False, role="")  # its start is announced
    if not HAS_REDIS:
        module.fail_json(msg=missing_required_lib("redis"))

    def connect(password: str) -> Any:
        return by_socket(options["socket"], options["username"], password)

    def bring(client: Any) -> tuple[bool, str]:
        return _keep(module, client), replication(client)["role"]

    try:
        changed, role = ask(connect, options["passwords"], bring)
    except redis.exceptions.RedisError as error:
        module.fail_json(msg=f"{options['socket']}: {error}")
    module.exit_json(changed=changed, role=role)


def _keep(module: AnsibleModule, client: Any) -> bool:
    """Whether anything was changed, or would be."""
    options = module.params
    seen = replication(client)
    lack = to_follow(seen, has_data(client), options["address"], options["master"])
    hand_over = options["hand_over"] and seen["role"] == "master"
    if module.check_mode:
        return bool(lack or hand_over)
    if lack == "follow":
        client.execute_command("REPLICAOF", options["master"], options["port"])
        client.config_rewrite()
    elif lack and not await_(lambda: replication(client)["role"] != "master", SENTINEL_CORRECTS_S):
        module.fail_json(
            msg=f"Redis {options['name']} has data of its own, and the master is {options['master']}. "
            "Nothing was thrown away: move its data away by hand, or empty it with FLUSHALL."
        )
    if hand_over:
        _hand_over(module, client)
    if not await_(lambda: in_place(client), options["timeout_s"]):
        master = replication(client).get("master_host")
        lacking = f"get a copy from {master}" if master else "load its data"
        module.fail_json(
            msg=f"Redis {options['name']} did not {lacking} within {options['timeout_s']} s: "
            "see its journal. The next run waits again."
        )
    return lack == "follow" or hand_over


def _hand_over(module: AnsibleModule, client: Any) -> None:
    """Let the first Sentinel that can make another instance the master, and follow that one."""
    options, said, asked = module.params, "there is no Sentinel", ""

    def sentinel(address: str, *words: str) -> Any:
        def connect(password: str) -> Any:
            return by_tls(address, options["sentinel_port"], options["username"], password, options["ca"])

        return ask(
            connect,
            options["passwords"],
            lambda client: client.execute_command("SENTINEL", *words, options["name"]),
        )

    def ready() -> bool:
        """Whether a Sentinel would choose a replica; one that was just restarted it has yet to see."""
        nonlocal said, asked
        for asked in options["sentinels"]:
            try:
                if any(map(eligible, map(pairs, sentinel(asked, "REPLICAS")))):
                    return True
                said = f"{asked} sees no replica that could take over"
            except redis.exceptions.RedisError as error:
                said = f"{asked}: {error}"
        return False

    def begun() -> bool:
        nonlocal said
        try:
            sentinel(asked, "FAILOVER")
        except redis.exceptions.RedisError as error:
            said = f"{asked}: {error}"
            return False
        return True

    def followed() -> bool:
        """Sentinel itself makes an old master a copy only after some 20 s, in which nobody may write."""
        if replication(client)["role"] == "master":
            address, port = sentinel(asked, "GET-MASTER-ADDR-BY-NAME")
            if address == options["address"]:
                return False
            client.execute_command("REPLICAOF", address, port)
            client.config_rewrite()
        return True

    def tried() -> str:
        """What stood in the way; empty where another instance is the master now."""
        if not await_(lambda: caught_up(replication_text(client)), LAG_S):
            return "its copies lag behind"
        if not await_(begun, BEGIN_S):
            return said
        return "" if await_(followed, FOLLOW_S) else "no other took over"

    problem = "" if await_(ready, options["timeout_s"]) else said
    if not problem:
        # Sentinel does not wait for the copy that it chooses: what another one has would be lost.
        client.execute_command("CLIENT", "PAUSE", (LAG_S + BEGIN_S + FOLLOW_S) * 1000, "WRITE")
        try:
            problem = tried()
        finally:
            client.execute_command("CLIENT", "UNPAUSE")
    if problem:
        module.fail_json(
            msg=f"Redis {options['name']} is still master, and was not restarted: {problem}. "
            "The next run tries again."
        )


if __name__ == "__main__":
    main()
