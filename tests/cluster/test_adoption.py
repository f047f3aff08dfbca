"""docs/runbooks/from-one-host-to-a-cluster.md, followed on a host with data while clients write.

The hosts are containers of an inventory made of that of molecule's scenario `cluster`; CHAT_RELEASE says
which Debian.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chatdata.settings import Settings

from ..gameday.writers import Rows, Tokens
from ..molecule.runs import PODMAN, PROJECT, Environment

PAGE = (PROJECT / "docs/runbooks/from-one-host-to-a-cluster.md").read_text()
CHECK, PLACE, PLAN, RUN, RESTART, CONFIRM = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
INVENTORY = ".cache/adoption"
HOSTS = ("node1", "node2", "node3")
ALONE = ("postgresql", "pgbouncer", "redis", "app", "containers")
SYSTEM = "SELECT system_identifier FROM pg_control_system()"
ROWS = 100_000


def follow(commands: str) -> str:
    """What the page's commands print; they succeed."""
    commands = re.sub(r"\bproduction\b", INVENTORY, commands).replace("203.0.113.", "10.203.37.")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout[-4000:]}"
    return done.stdout


def changed(said: str) -> set[str]:
    """How many tasks changed something, for each host, by a run's last lines."""
    return set(re.findall(r"changed=(\d+)", said))


@pytest.fixture(scope="module")
def host() -> Iterator[Environment]:
    """One host with the groups that staging has, provisioned; the others join it in the test."""
    folder = PROJECT / INVENTORY
    template = PROJECT / "molecule/cluster/inventory"
    for name in ("group_vars/all/main.yml", "group_vars/containers.yml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = (template / name).read_text()
        text = text.replace("chat-cluster", "chat-adoption").replace(".4.0/24", ".37.0/24")
        (folder / name).write_text(text)
    alone = {group: {"hosts": {"node1": {"ansible_host": "10.203.37.11"}}} for group in ALONE}
    (folder / "hosts.yml").write_text(yaml.safe_dump(alone))
    environment = Environment(folder, "chat-adoption", HOSTS)
    follow("ansible-playbook playbooks/environment.yml -e environment_name=production")
    try:
        follow("ansible-playbook molecule/shared/create.yml -i production")
        follow("ansible-playbook playbook.yml -i production")
        yield environment
    finally:
        follow("ansible-playbook molecule/shared/destroy.yml -i production")
        shutil.rmtree(folder)


def contract(host: Environment, folder: Path) -> Settings:
    """What the application's host is told now, copied to `folder`."""
    packed = [*PODMAN, "exec", f"{host.network}-node1", "tar", "c", "-C", "/etc/chat-data-tier", "."]
    content = subprocess.run(packed, check=True, capture_output=True).stdout
    folder.mkdir(mode=0o700)
    subprocess.run(["tar", "x", "-C", str(folder)], input=content, check=True)
    return Settings.load(folder).model_copy(update={"ca_path": folder / "ca.pem"})


def starts(host: Environment) -> int:
    """How often PostgreSQL has started on the first host."""
    logs = "cat /var/log/postgresql/*.log; journalctl --no-pager -o cat -u patroni"
    return host.shell("node1", logs).count("starting PostgreSQL")


def test_a_host_with_data_becomes_the_first_of_three(host: Environment, tmp_path: Path) -> None:
    system, started = host.psql("node1", SYSTEM), starts(host)
    said = follow(CHECK)
    assert system in said
    assert changed(said) == {"0"}

    host.psql("node1", f"CREATE TABLE kept AS SELECT generate_series(1, {ROWS}) AS number")
    host.psql("node1", "CREATE TABLE gameday (number bigint PRIMARY KEY)")
    host.psql("node1", "GRANT SELECT, INSERT ON gameday TO chat_app")
    follow(PLACE + "echo 'containers: {hosts: *hosts}' >>production/hosts.yml\n")
    follow("ansible-playbook molecule/shared/create.yml -i production")
    said = follow(PLAN)
    assert "PostgreSQL would be stopped and started again, by patroni.service" in said
    assert starts(host) == started

    settings = contract(host, tmp_path / "alone")
    with Rows(settings, [], 0) as rows, Tokens(settings) as tokens:
        said = follow(RUN)
        rows.flows()
        tokens.flows()
    assert "PostgreSQL was stopped and started again, by patroni.service" in said
    assert starts(host) == started + 1
    print(f"\nwithout a row for {rows.gap_s():.1f} s, without a token for {tokens.gap_s():.1f} s")
    assert (rows.lost(), tokens.lost()) == (0, 0)

    assert contract(host, tmp_path / "cluster").redis_sentinels
    follow(RESTART)
    assert tokens.lost() == 0
    said = follow(CONFIRM)
    assert said.splitlines().count(system) == len(HOSTS)
    assert (said.count("Leader"), said.count("Sync Standby")) == (1, 2)
    assert changed(said) == {"0"}
    assert host.psql("node1", "SELECT count(*) FROM kept") == str(ROWS)
