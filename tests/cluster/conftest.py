"""The cluster of the scenario of that name, lacking nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from ..gameday.nodes import Cluster
from ..molecule.runs import PROJECT, Environment

BOUNCER_PORT = 6432
INVENTORY = PROJECT / os.environ.get("CHAT_INVENTORY", "molecule/cluster/inventory")


def described(inventory: Path) -> tuple[Environment, Cluster]:
    """An inventory's hosts, as the tests of the playbook and those of the game days know them."""
    hosts = yaml.safe_load((inventory / "hosts.yml").read_text())
    network = yaml.safe_load((inventory / "group_vars/containers.yml").read_text())["containers_network"]
    environment = Environment(inventory, network, tuple(hosts["etcd"]["hosts"]))
    subject = {
        "inventory": str(inventory),
        "results": "",
        "admin_password": environment.secrets()["vault_redis_chat_admin_password"],
        "hosts": [
            {
                "name": name,
                "groups": list(hosts),
                "address": variables["ansible_host"],
                "ssh": {
                    "host": variables["ansible_host"],
                    "port": "22",
                    "user": "ops",
                    "key": str(inventory / ".state/id_ed25519"),
                    "arguments": f"-o UserKnownHostsFile={inventory}/.state/known_hosts",
                },
                "container": f"{network}-{name}",
            }
            for name, variables in hosts["etcd"]["hosts"].items()
        ],
    }
    return environment, Cluster(subject)


@pytest.fixture
def whole() -> tuple[Environment, Cluster]:
    """The scenario's cluster, lacking nothing, with the table of the rows."""
    environment, cluster = described(INVENTORY)
    cluster.await_whole()
    cluster.primary().psql(
        "CREATE TABLE IF NOT EXISTS gameday (number bigint PRIMARY KEY); TRUNCATE gameday;"
        " GRANT SELECT, INSERT ON gameday TO chat_app"
    )
    return environment, cluster
