#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let a Sentinel forget the replicas and Sentinels that are gone for good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sentinel_forget
short_description: Let a Sentinel forget who is gone for good
description:
  - Sentinel never forgets on its own, and needs a majority of all Sentinels that it ever saw. Where it knows
    one that does not stay, C(SENTINEL RESET) lets it forget all but the master, and it is waited for until it
    knows again who stays.
  - One Sentinel at a time, so that the others can act meanwhile. It refuses while the master, or anybody who
    stays, does not answer.
options:
  socket:
    description: Sentinel's unix socket.
    type: path
    required: true
  username:
    description: An ACL user of Sentinel with all rights.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  stay:
    description: The addresses of the Redis servers and Sentinels that stay.
    type: list
    elements: str
    required: true
  timeout_s:
    description: For how long to wait, in seconds. Sentinel looks for replicas every ten seconds.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: >-
      Predicts whom it would forget, and refuses as it would, but for a master that does not stay: another
      one takes over from it first.
  diff_mode:
    support: full
    description: Shows whom.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Let the Sentinels forget it, one after the other
  sentinel_forget:
    socket: /run/sentinel/sentinel.sock
    username: chat_admin
    password: "{{ redis_chat_admin_password }}"
    stay: [192.0.2.11, 192.0.2.12]
  throttle: 1
"""

RETURN = r"""
forgotten:
  description: Whom it forgot, or would.
  returned: always
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.redis_replicas import HAS_REDIS, await_, by_socket, pairs

if HAS_REDIS:
    import redis

Peer = Mapping[str, str]  # a replica or a Sentinel, as Sentinel describes it


def gone(peers: Iterable[Peer], stay: Iterable[str]) -> list[Peer]:
    """Those at addresses that do not stay, and those that another one at their address has replaced."""
    return [peer for peer in peers if peer["ip"] not in stay or peer["port"] == "0"]


def silent(peers: Iterable[Peer]) -> list[Peer]:
    """Those that do not answer; they would be forgotten too."""
    return [peer for peer in peers if {"s_down", "o_down", "disconnected"} & set(peer["flags"].split(","))]


def names(peers: Iterable[Peer]) -> list[str]:
    """The peers for people: the first word of its flags, and its address."""
    return sorted(f"{peer['flags'].split(',')[-1]} {peer['ip']}:{peer['port']}" for peer in peers)


def main() -> None:
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "username": text,
            "password": {"type": "str", "required": True, "no_log": True},
            "stay": {"type": "list", "elements": "str", "required": True},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    options = module.params
    if not HAS_REDIS:
        module.fail_json(msg=missing_required_lib("redis"))
    forgotten: list[str] = []
    try:
        with by_socket(options["socket"], options["username"], options["password"]) as client:
            for master in map(pairs, client.execute_command("SENTINEL", "MASTERS")):
                forgotten += [f"{master['name']}: {peer}" for peer in _forget(module, client, master)]
    except redis.exceptions.ConnectionError as error:
        module.fail_json(
            msg=f"{options['socket']}: {error}. A host that stays has its Sentinel: start it "
            "(systemctl start redis-sentinel), or take a host that has left out of hosts.yml",
            forgotten=forgotten,
        )
    except redis.exceptions.RedisError as error:
        module.fail_json(msg=f"{options['socket']}: {error}", forgotten=forgotten)
    module.exit_json(
        changed=bool(forgotten),
        forgotten=forgotten,
        diff={"before": "".join(f"{peer}\n" for peer in forgotten), "after": ""},
    )


def _forget(module: AnsibleModule, client: Any, master: Peer) -> list[str]:
    """Whom of a master's replicas and Sentinels it forgot, or would."""
    stay = module.params["stay"]

    def peers() -> list[Peer]:
        return [
            pairs(peer)
            for kind in ("REPLICAS", "SENTINELS")
            for peer in client.execute_command("SENTINEL", kind, master["name"])
        ]

    known = peers()
    strangers = gone(known, stay)
    if not strangers:
        return []
    kept = [peer for peer in known if peer not in strangers]
    problem = ", ".join(names(silent(kept)))
    if master["flags"] != "master" or (master["ip"] not in stay and not module.check_mode):
        problem = f"the master {master['ip']} (it is {master['flags']})"
    if problem:
        module.fail_json(
            msg=f"Sentinel forgets nobody of {master['name']} while these are away, or are to go: {problem}"
        )
    if module.check_mode:
        return names(strangers)
    client.execute_command("SENTINEL", "RESET", master["name"])
    wanted = {(peer["ip"], peer["port"]) for peer in kept}

    def settled() -> bool:
        now = peers()
        return (
            not gone(now, stay) and not silent(now) and wanted <= {(peer["ip"], peer["port"]) for peer in now}
        )

    if not await_(settled, module.params["timeout_s"]):
        module.fail_json(
            msg=f"Sentinel forgot {', '.join(names(strangers))} of {master['name']}, and knows now: "
            f"{', '.join(names(peers()))}. Who is back still runs: stop it, and run again."
        )
    return names(strangers)


if __name__ == "__main__":
    main()
