#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep a Patroni cluster's shared configuration, and say who is primary."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_cluster
short_description: Keep the configuration that a Patroni cluster's members share
description:
  - Keeps the whole of the dynamic configuration that Patroni holds in etcd, so that a setting that is no
    longer wanted is gone; and says who is primary and which copies stream.
  - As long as no copy streams, synchronous replication is left off where it is not on yet; a new cluster's
    only member would wait for others for ever.
options:
  file:
    description: Patroni's configuration file on this host.
    type: path
    required: true
  config:
    description: The configuration. Without it nothing is changed.
    type: dict
  addresses:
    description:
      - The members' addresses by name. A name that answers elsewhere is refused; two hosts of one name would
        be one member, which Patroni 3.0 does not notice.
    type: dict
    default: {}
  await_leader:
    description: Wait until a member is primary.
    type: bool
    default: false
  await_members:
    description: Wait until these members stream from the primary, or are it.
    type: list
    elements: str
    default: []
  forget:
    description:
      - A member that is gone for good, whose slot (which holds back WAL) is to go as well. Patroni keeps it
        for half an hour otherwise.
    type: str
    default: ""
  timeout_s:
    description: For how long to wait, in seconds. A copy of a large database takes its time.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Predicts the change; without Patroni on the host, that there will be one. Waits for nobody.
  diff_mode:
    support: full
    description: Shows the configuration before and after.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Keep what all members share
  patroni_cluster:
    file: /etc/patroni/config.yml
    config: {ttl: 20, loop_wait: 5, retry_timeout: 5, synchronous_mode: true}
"""

RETURN = r"""
initialized:
  description: Whether the cluster was ever made.
  returned: always
  type: bool
leader:
  description: The primary's name; empty without one.
  returned: always
  type: str
members:
  description: The members' names.
  returned: always
  type: list
  elements: str
idle:
  description: The members, by name, that do not stream from the primary; none where there is no primary.
  returned: always
  type: list
  elements: str
deferred:
  description: Whether synchronous replication has to wait for a first copy.
  returned: always
  type: bool
"""

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.patroni_members import HAS_PATRONI, PAUSED, Members, PatroniError

SYNCHRONOUS = ("synchronous_mode", "synchronous_mode_strict")


def possible(wanted: Mapping[str, Any], current: Mapping[str, Any] | None, copies: bool) -> dict[str, Any]:
    """What may hold now: `wanted`, synchronous only where a copy streams or it is so already."""
    if copies or (current or {}).get("synchronous_mode"):
        return dict(wanted)
    return {name: value for name, value in wanted.items() if name not in SYNCHRONOUS}


def elsewhere(rest: Mapping[str, str], addresses: Mapping[str, str]) -> dict[str, str]:
    """The members, with their addresses, whose names belong to another address now."""
    known = {name: urlsplit(url).hostname or "" for name, url in rest.items()}
    return {name: host for name, host in known.items() if host != addresses.get(name, host)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "file": {"type": "path", "required": True},
            "config": {"type": "dict"},
            "addresses": {"type": "dict", "default": {}},
            "await_leader": {"type": "bool", "default": False},
            "await_members": {"type": "list", "elements": "str", "default": []},
            "forget": {"type": "str", "default": ""},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    path, wanted = module.params["file"], module.params["config"]
    if module.check_mode and not (HAS_PATRONI and os.path.exists(path)):
        module.exit_json(
            changed=True,
            initialized=False,
            leader="",
            members=[],
            idle=[],
            deferred=True,
            diff=_difference(None, wanted),
        )
    if not HAS_PATRONI:
        module.fail_json(msg=missing_required_lib("patroni"))
    try:
        members = Members(path)
        if not module.check_mode:
            _wait(module, members)
        cluster = members.look()
        for name, address in elsewhere(cluster.rest, module.params["addresses"]).items():
            if members.status(name):
                module.fail_json(
                    msg=f"{name} is a member at {address}, and answers there: two hosts of one name would be "
                    "one member. Stop Patroni there (systemctl disable --now patroni), or name the new host "
                    "otherwise."
                )
        if (cluster.config or {}).get("pause"):
            module.fail_json(msg=PAUSED)
        if wanted is None:
            wanted = cluster.config
        streaming = members.streaming() if cluster.leader else set()
        config = possible(wanted or {}, cluster.config, bool(streaming))
        changed = config != (cluster.config or {})
        if changed and not module.check_mode:
            members.set_config(config)
        forgotten = _forget(module, members, config)
    except PatroniError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed or forgotten,
        initialized=cluster.initialized,
        leader=cluster.leader,
        members=sorted(cluster.rest),
        idle=sorted(set(cluster.rest) - streaming - {cluster.leader}) if cluster.leader else [],
        deferred=config != wanted,
        diff=_difference(cluster.config, config) if changed else {"before": "", "after": ""},
    )


def _wait(module: AnsibleModule, members: Members) -> None:
    timeout_s = module.params["timeout_s"]
    if module.params["await_leader"] and not members.await_(lambda: members.look().leader, timeout_s):
        module.fail_json(msg=f"No member became primary within {timeout_s} s: see journalctl -u patroni")
    awaited = set(module.params["await_members"])

    def missing() -> set[str]:
        left: set[str] = awaited - members.streaming() - {members.look().leader}
        return left

    if not members.await_(lambda: not missing(), timeout_s):
        module.fail_json(
            msg=f"{', '.join(sorted(missing()))} did not stream from the primary within {timeout_s} s: "
            "see journalctl -u patroni there. The next run waits again."
        )


def _forget(module: AnsibleModule, members: Members, config: Mapping[str, Any]) -> bool:
    """Whether a member's slot was dropped, or would be."""
    name, timeout_s = module.params["forget"], module.params["timeout_s"]
    slot = name.lower().replace("-", "_").replace(".", "_")  # as Patroni makes one of its name
    cluster = members.look()
    if not name or (name not in cluster.rest and slot not in cluster.retained):
        return False
    if module.check_mode:
        return True
    if not members.await_(lambda: name not in members.look().rest, timeout_s):
        module.fail_json(msg=f"{name} is still a member of the cluster: stop Patroni there, and run again")
    members.set_config({**config, "member_slots_ttl": 1})
    try:
        if not members.await_(lambda: slot not in members.look().retained, timeout_s):
            module.fail_json(msg=f"The primary still keeps the slot {slot}: see journalctl -u patroni there")
    finally:
        members.set_config(config)
    return True


def _difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, str]:
    return {
        "before": json.dumps(before, indent=2, sort_keys=True) + "\n" if before else "",
        "after": json.dumps(after, indent=2, sort_keys=True) + "\n",
    }


if __name__ == "__main__":
    main()
