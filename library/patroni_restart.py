#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restart one member of a Patroni cluster, and wait until it streams again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_restart
short_description: Restart a member of a Patroni cluster without losing the cluster
description:
  - Restarts Patroni and its PostgreSQL on this host and waits until the member streams from the primary, by
    the primary's own word. Run it on one host at a time (C(throttle)), on copies first.
  - Nobody is stopped while another of O(members) does not stream, as one that did not come back from its own.
  - The primary hands over to a synchronous copy first. Where there is none, it is not restarted.
  - Without O(allow_restart) a restart is only reported, with what wants it.
options:
  file:
    description: Patroni's configuration file on this host.
    type: path
    required: true
  member:
    description: This host's name in the cluster.
    type: str
    required: true
  members:
    description: All that belong to the cluster.
    type: list
    elements: str
    required: true
  restart_for:
    description: What a restart is wanted for.
    type: list
    elements: str
    required: true
  in_place:
    description: Restart the primary where it is, which interrupts it for seconds, instead of handing over.
    type: bool
    default: false
  allow_restart:
    description: Whether a restart may happen now.
    type: bool
    default: false
  timeout_s:
    description: How long a step may take, in seconds.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
    description: Predicts the hand-over and the restart.
  diff_mode:
    support: full
    description: Shows the steps.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Restart each copy that wants it
  patroni_restart:
    file: /etc/patroni/config.yml
    member: "{{ inventory_hostname }}"
    members: "{{ groups['postgresql'] }}"
    restart_for: ["shared_buffers (1GB -> 2GB)"]
    allow_restart: "{{ postgresql_allow_restart }}"
  throttle: 1
"""

RETURN = r"""
name:
  description: The unit.
  returned: always
  type: str
actions:
  description: What was done, or would be (switchover, restart).
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

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.patroni_members import HAS_PATRONI, Members, PatroniError

UNIT = "patroni.service"
STREAMING_S = 30  # PostgreSQL looks every 5 s whether a primary that restarted is back


def see_the_others(members: Members, wanted: list[str], member: str, leader: str) -> None:
    """Raise PatroniError where a copy, other than `member`, does not stream."""
    copies = set(wanted) - {member, leader}
    if not members.await_(lambda: copies <= members.streaming(), STREAMING_S):
        away = ", ".join(sorted(copies - members.streaming()))
        raise PatroniError(
            f"{member} was left alone: {away} does not stream from {leader}, and writes would wait while "
            f"{member} is down. Look there (patronictl list, journalctl -u patroni), and run again."
        )


def switch_over(members: Members, member: str, timeout_s: float) -> str:
    """Hand the primary's part from `member` to a synchronous copy; its name. Raises PatroniError."""
    candidates = sorted(set(members.look().synchronous) & members.streaming() - {member})
    if not candidates:
        raise PatroniError(
            f"{member} is primary and no synchronous copy streams that could take over. Look at the copies "
            "(patronictl list), and run again."
        )
    code, text = members.call(
        member, "POST", "/switchover", {"leader": member, "candidate": candidates[0]}, timeout_s
    )
    if code != 200:
        raise PatroniError(f"{member} did not hand over to {candidates[0]}: {text} (status {code})")
    if not members.await_(lambda: member in members.streaming(), timeout_s):
        raise PatroniError(
            f"{member} handed over to {candidates[0]} and does not stream from it after {timeout_s} s"
        )
    return str(candidates[0])


def _restart(module: AnsibleModule, members: Members, in_place: bool) -> None:
    member, timeout_s = module.params["member"], module.params["timeout_s"]
    if in_place:
        code, text = members.call(member, "POST", "/restart", {}, timeout_s)
        if code != 200:
            raise PatroniError(f"{member} did not restart its PostgreSQL: {text} (status {code})")
        return
    # Limits that became smaller hold when the primary's word of it has been replayed: then once more.
    for _attempt in range(3):
        module.run_command(["systemctl", "restart", UNIT], check_rc=True)
        if not members.await_(lambda: member in members.streaming(), timeout_s):
            raise PatroniError(
                f"{member} does not stream from the primary {timeout_s} s after its restart. See "
                "journalctl -u patroni there."
            )
        if not members.status(member).get("pending_restart"):
            return
    raise PatroniError(f"{member} was restarted, and Patroni still wants it: see patronictl list")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "file": {"type": "path", "required": True},
            "member": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "required": True},
            "restart_for": {"type": "list", "elements": "str", "required": True},
            "in_place": {"type": "bool", "default": False},
            "allow_restart": {"type": "bool", "default": False},
            "timeout_s": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    member, timeout_s = parameters["member"], parameters["timeout_s"]
    if not HAS_PATRONI:
        module.fail_json(msg=missing_required_lib("patroni"))
    actions: list[str] = []
    try:
        if parameters["restart_for"] and parameters["allow_restart"]:
            members = Members(parameters["file"])
            cluster = members.look()
            leads = cluster.leader == member
            in_place = leads and parameters["in_place"]
            if not in_place:
                # In check mode those that are to join are not there yet.
                wanted = [
                    name for name in parameters["members"] if name in cluster.rest or not module.check_mode
                ]
                see_the_others(members, wanted, member, cluster.leader)
            if leads and not in_place:
                actions.append("switchover")
                if not module.check_mode:
                    switch_over(members, member, timeout_s)
            actions.append("restart")
            if not module.check_mode:
                _restart(module, members, in_place)
    except PatroniError as error:
        module.fail_json(msg=str(error), actions=actions)
    module.exit_json(
        changed=bool(actions),
        name=UNIT,
        actions=actions,
        restart_for=parameters["restart_for"],
        restart_needed=bool(parameters["restart_for"]) and not parameters["allow_restart"],
        diff={"before": "", "after": "".join(f"{action} {member}\n" for action in actions)},
    )


if __name__ == "__main__":
    main()
