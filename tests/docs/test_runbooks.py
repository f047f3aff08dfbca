"""docs/runbooks/: each page has its parts, and its commands work on the scenario's cluster."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ..cluster.conftest import described

PROJECT = Path(__file__).parents[2]
INVENTORY = "molecule/cluster/inventory"
RUNBOOKS = PROJECT / "docs/runbooks"
PAGES = sorted(set(RUNBOOKS.glob("*.md")) - {RUNBOOKS / "new-environment.md", RUNBOOKS / "README.md"})
# tests/cluster and tests/gameday follow these, when there is what they are for.
FOLLOWED_ELSEWHERE = {
    "etcd-lost-quorum",
    "from-one-host-to-a-cluster",
    "node-lost",
    "split-brain",
    "add-or-remove-a-node",
    "wal-volume-full",
}
PARTS = ["Symptom", "Impact", "Check", "Act", "Confirm", "Undo"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    commands = re.findall(r"^```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert len(commands) >= 2
    # An interactive bash puts an earlier command in place of "!name".
    assert not re.search(r'"[^"\']*![^ ="]', "".join(commands))


def test_every_page_is_in_the_index() -> None:
    linked = re.findall(r"\]\(([a-z-]+\.md)\)", (RUNBOOKS / "README.md").read_text())
    assert sorted(linked) == sorted(path.name for path in RUNBOOKS.glob("*.md") if path.name != "README.md")


def test_inventory_of_a_new_cluster_has_three_hosts_in_each_group(tmp_path: Path) -> None:
    page = (PROJECT / "docs/runbooks/new-environment.md").read_text()
    (command,) = re.findall(r"^sed .*hosts\.yml >production/hosts\.yml$", page, re.MULTILINE)
    (tmp_path / "molecule").symlink_to(PROJECT / "molecule")
    (tmp_path / "production").mkdir()
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    groups = yaml.safe_load((tmp_path / "production/hosts.yml").read_text())
    addresses = [host["ansible_host"] for host in groups["etcd"]["hosts"].values()]
    assert addresses == ["203.0.113.11", "203.0.113.12", "203.0.113.13"]
    services = ["etcd", "postgresql", "pgbouncer", "haproxy", "redis", "redis_sentinel", "app"]
    assert {name: len(group["hosts"]) for name, group in groups.items()} == dict.fromkeys(services, 3)


def follow(
    page: Path,
    part: str = "",
    inventory: str = INVENTORY,
    names: tuple[tuple[str, str], ...] = (),
    step: int | None = None,
) -> None:
    """Do what the page, one part of it, or one step of that says, with `names` of ours in place of its own.

    Neither may a command fail, nor a plan change something.
    """
    text = page.read_text().partition(f"\n## {part}\n")[2].partition("\n## ")[0] if part else page.read_text()
    environment = os.environ | {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for block in blocks if step is None else [blocks[step]]:
        commands = re.sub(r"\bproduction\b", inventory, block)
        for named, ours in names:
            commands = commands.replace(named, ours)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=PROJECT, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}:\n{commands}\n{done.stdout[-4000:]}"
        asks = "bin/redis" in block or "bin/etcd" in block
        assert not asks or ">>\n\n" not in done.stdout, f"{page.name}: says nothing:\n{commands}"
        if "playbook.yml" in block and "--check" in block:
            assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}, done.stdout[-4000:]


@pytest.mark.tier
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem not in FOLLOWED_ELSEWHERE], ids=lambda page: page.stem
)
def test_commands_do_what_the_page_says(page: Path) -> None:
    _environment, cluster = described(PROJECT / INVENTORY)
    before = cluster.primary()
    (copy, *_) = (host.name for host in cluster.members("postgresql") if host is not before)
    follow(page, names=(("copy=node2", f"copy={copy}"),))
    cluster.await_whole()
    assert (cluster.primary() is not before) == (page.stem == "switchover")
