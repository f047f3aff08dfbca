#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Add a member to etcd's running cluster, or remove one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Add a member to etcd's running cluster, or remove one
description:
  - A member whose data is gone must not come back under its old id, because it has forgotten its votes. It is
    removed, and added anew.
  - Who is added only learns at first (C(--learner)), so that the majority that is needed does not grow before
    it has all that the others have. Nobody is removed whose going would leave less than a majority.
  - Uses C(etcdctl), whose arguments never hold a password.
options:
  state:
    description:
      - V(looked) says what the host's files are; nobody is asked.
      - V(joined) adds this host, which has no data, to the cluster that the others are.
      - V(voting) waits until this host has caught up, and gives it its vote.
      - V(absent) removes a member.
    type: str
    choices: [looked, joined, voting, absent]
    required: true
  name:
    description: The member's name.
    type: str
    required: true
  peer_url:
    description: The URL at which its peers reach it. Not for V(absent).
    type: str
    default: ""
  data:
    description: The folder of this host's data.
    type: path
    default: /var/lib/etcd/default
  first:
    description: The file with what only a member's first start reads.
    type: path
    default: /etc/etcd/first.env
  endpoints:
    description: The client URLs of the members that are asked.
    type: list
    elements: str
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
    description: Password of etcd's user C(root).
    type: str
    required: true
  timeout_s:
    description: For how long to wait for V(voting), in seconds.
    type: int
    default: 120
attributes:
  check_mode:
    support: full
    description: Predicts; asks the cluster, where the host can, and refuses as it would. Waits for nobody.
  diff_mode:
    support: full
    description: Shows the steps.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Remove a host that is lost for good
  etcd_member:
    state: absent
    name: node3
    endpoints: ["https://192.0.2.11:2379", "https://192.0.2.12:2379"]
    ca: /etc/ssl/certs/chat-ca.pem
    certificate: /etc/ssl/certs/chat.pem
    key: /etc/ssl/private/chat.key
    root_password: "{{ etcd_root_password }}"
"""

RETURN = r"""
data:
  description: Whether this host has a member's data.
  returned: always
  type: bool
first:
  description: What the file for the first start says, new or existing; empty without one.
  returned: always
  type: str
sealed:
  description: Whether that file lets no member without its data start.
  returned: always
  type: bool
initial_cluster:
  description: What this host's first start has to know; empty where it joins nothing.
  returned: always
  type: str
steps:
  description: What was done, or would be, in words.
  returned: always
  type: list
  elements: str
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.etcd_client import Etcdctl, EtcdctlError

Member = Mapping[str, Any]  # as etcdctl's JSON has it
SETTLED_S = 30
NO_ANSWER = (
    "{urls}: etcd's other members do not answer: {error}. This host has no data of its own, and begins no "
    "second cluster beside one that may be there. Start them, or see docs/runbooks/etcd-lost-quorum.md."
)


def looked(text: str, name: str) -> tuple[str, bool]:
    """What a file for the first start says of its state, and whether it names nobody but the host itself."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    state = settings.get("ETCD_INITIAL_CLUSTER_STATE", "")
    only = settings.get("ETCD_INITIAL_CLUSTER", "").split(",")
    return state, state == "existing" and [entry.partition("=")[0] for entry in only] == [name]


def stale(members: Sequence[Member], name: str, peer_url: str) -> list[Member]:
    """The members that a host without data was: by its name, or by its address."""
    return [member for member in members if member.get("name") == name or peer_url in member["peerURLs"]]


def majority_left(members: Sequence[Member], gone: Sequence[Member], healthy: int) -> bool:
    """Whether those who stay and answer are a majority of those who stay and vote."""
    gone_ids = {member["ID"] for member in gone}
    voters = sum(not member.get("isLearner") and member["ID"] not in gone_ids for member in members)
    return 0 < voters < 2 * healthy


def initial_cluster(members: Sequence[Member], added: int, name: str) -> str:
    """The members as a first start has to be told them; only the own name counts there."""
    return ",".join(
        f"{name if member['ID'] == added else member.get('name') or format(member['ID'], 'x')}={url}"
        for member in members
        for url in member["peerURLs"]
    )


class Cluster:
    """The cluster that the endpoints are, as its user root."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._endpoints = module.params["endpoints"]
        root = f"root:{module.params['root_password']}"
        self._etcd = Etcdctl(module, self._endpoints, root)
        try:
            self.members()
        except EtcdctlError as error:
            if "not enabled" not in str(error):
                raise
            root = ""  # a run was killed before it had switched authentication on
            self._etcd = Etcdctl(module, self._endpoints)
        self._login = root

    def members(self) -> list[Member]:
        """Who is a member, by a majority's word. Raises EtcdctlError."""
        return list(self._etcd.ask("member", "list")["members"])

    def answers(self, urls: Sequence[str]) -> bool:
        """Whether a member reads, which it only does with a majority behind it."""
        try:
            Etcdctl(self._module, urls, self._login).run(["get", "/"])
        except EtcdctlError:
            return False
        return True

    def remove(self, members: Sequence[Member], gone: Sequence[Member]) -> list[str]:
        """Remove `gone`, in words. Raises EtcdctlError where too few would be left."""
        stay = [member for member in members if member not in gone and not member.get("isLearner")]
        healthy = sum(self.answers(member["clientURLs"]) for member in stay if member.get("clientURLs"))
        if gone and not majority_left(members, gone, healthy):
            raise EtcdctlError(
                f"of the members that would stay ({', '.join(member.get('name', '') for member in stay)}) "
                f"only {healthy} answer: without {', '.join(member.get('name', '') for member in gone)} "
                "there would be no majority. Bring one of them back first"
            )
        for member in gone:
            if not self._module.check_mode:
                self._change("remove", format(member["ID"], "x"))
        return [f"remove the member {member.get('name') or member['peerURLs'][0]}" for member in gone]

    def add(self, name: str, peer_url: str) -> str:
        """Add a learner; what its first start has to know."""
        answer = self._change("add", name, "--learner", f"--peer-urls={peer_url}")
        return initial_cluster(answer["members"], answer["member"]["ID"], name)

    def _change(self, *arguments: str) -> dict[str, Any]:
        """etcdctl member's answer. etcd refuses until its voters have been connected for five seconds."""
        deadline = time.monotonic() + SETTLED_S
        while True:
            try:
                return dict(self._etcd.ask("member", *arguments))
            except EtcdctlError as error:
                if "unhealthy cluster" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def promote(self, peer_url: str, timeout_s: float) -> list[str]:
        """Give the member its vote as soon as it has caught up, in words. Raises EtcdctlError."""
        deadline = time.monotonic() + timeout_s
        steps: list[str] = []
        while True:
            try:
                [member] = [member for member in self.members() if peer_url in member["peerURLs"]]
                if member.get("isLearner"):
                    self._etcd.run(["member", "promote", format(member["ID"], "x")])
                    steps = [f"give {member.get('name') or peer_url} its vote"]
                elif self.answers(member.get("clientURLs") or [""]):
                    return steps
                said = "it does not answer"
            except (EtcdctlError, ValueError) as error:
                said = str(error)
            if time.monotonic() > deadline:
                raise EtcdctlError(f"{peer_url} has no vote after {timeout_s} s: {said}")
            time.sleep(0.5)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["looked", "joined", "voting", "absent"], "required": True},
            "name": {"type": "str", "required": True},
            "peer_url": {"type": "str", "default": ""},
            "data": {"type": "path", "default": "/var/lib/etcd/default"},
            "first": {"type": "path", "default": "/etc/etcd/first.env"},
            "endpoints": {"type": "list", "elements": "str", "required": True},
            "ca": {"type": "path", "required": True},
            "certificate": {"type": "path", "required": True},
            "key": {"type": "path", "required": True},
            "root_password": {"type": "str", "required": True, "no_log": True},
            "timeout_s": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    options = module.params
    text = ""
    if os.path.exists(options["first"]):
        with open(options["first"], encoding="utf-8") as file:
            text = file.read()
    first, sealed = looked(text, options["name"])
    data = os.path.isdir(os.path.join(options["data"], "member"))
    steps: list[str] = []
    told = ""
    try:
        if options["state"] == "joined" and not data:
            steps, told = _join(module)
        elif options["state"] == "voting" and not module.check_mode:
            steps = Cluster(module).promote(options["peer_url"], options["timeout_s"])
        elif options["state"] == "absent":
            cluster = Cluster(module)
            members = cluster.members()
            gone = [member for member in members if member.get("name") == options["name"]]
            steps = cluster.remove(members, gone)
    except EtcdctlError as error:
        module.fail_json(msg=f"etcd: {error}.")
    module.exit_json(
        changed=bool(steps),
        data=data,
        first=first,
        sealed=sealed,
        initial_cluster=told,
        steps=steps,
        diff={"before": "", "after": "".join(f"{step}\n" for step in steps)},
    )


def _join(module: AnsibleModule) -> tuple[list[str], str]:
    """The steps, and what this host's first start has to know."""
    name, peer_url = module.params["name"], module.params["peer_url"]
    added = f"add the member {name}"
    ready = os.path.exists(module.params["certificate"]) and module.get_bin_path("etcdctl")
    if module.check_mode and not ready:
        return [added], f"{name}={peer_url}"  # a host before its first run cannot ask
    try:
        cluster = Cluster(module)
        members = cluster.members()
    except EtcdctlError as error:
        module.fail_json(msg=NO_ANSWER.format(urls=", ".join(module.params["endpoints"]), error=error))
    steps = [*cluster.remove(members, stale(members, name, peer_url)), added]
    return steps, f"{name}={peer_url}" if module.check_mode else cluster.add(name, peer_url)


if __name__ == "__main__":
    main()
