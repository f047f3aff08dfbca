"""etcdctl as a module runs it: a password is in none of its arguments, and answers come as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# What etcd says to a wrong password, to nobody, to a user without the right, to a certificate's unknown name.
REFUSALS = ("authentication failed", "user name is empty", "permission denied", "user name not found")


class EtcdctlError(Exception):
    """What etcdctl said when it failed."""


class Etcdctl:
    """etcdctl as one user, or as nobody; `module` has the parameters ca, certificate and key."""

    def __init__(self, module: AnsibleModule, endpoints: Sequence[str], login: str = "") -> None:
        parameters = module.params
        self._module = module
        self.endpoints = list(endpoints)
        self._environment = {
            "ETCDCTL_API": "3",
            "ETCDCTL_ENDPOINTS": ",".join(endpoints),
            "ETCDCTL_CACERT": parameters["ca"],
            "ETCDCTL_CERT": parameters["certificate"],
            "ETCDCTL_KEY": parameters["key"],
            "ETCDCTL_DIAL_TIMEOUT": "5s",
            "ETCDCTL_COMMAND_TIMEOUT": "10s",
            **({"ETCDCTL_USER": login} if login else {}),
        }

    def run(self, arguments: Sequence[str], given: str | None = None) -> str:
        """What it prints. Raises EtcdctlError."""
        code, out, error = self._module.run_command(
            ["etcdctl", *arguments], data=given, environ_update=self._environment
        )
        if code:
            raise EtcdctlError(error.strip().splitlines()[-1] if error.strip() else out.strip())
        return str(out)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """What it prints as JSON. Raises EtcdctlError."""
        return dict(json.loads(self.run([*arguments, "--write-out=json"])))

    def refusal(self) -> str:
        """Why etcd keeps the login out; empty where it lets it in. Raises EtcdctlError for anything else."""
        try:
            self.run(["get", "/"])
        except EtcdctlError as error:
            if any(word in str(error) for word in REFUSALS):
                return str(error)
            raise
        return ""

    def knows(self) -> bool:
        """Whether the login's password is the user's. Raises EtcdctlError where etcd does not answer."""
        return "authentication failed" not in self.refusal()
