"""docs/runbooks/: each page has its parts, and its commands work on the scenario's cluster."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ..cluster.conftest import described
from ..gameday.nodes import until

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
# What only one command has of those under Act, where a test does one after the other.
STEPS = {
    "etcd-lost-quorum": ("FORCE_NEW_CLUSTER", 'list"', "failover", "REPLICAOF", "playbook.yml"),
    "node-lost": ("ssh-keyscan", "playbook.yml"),
    "add-or-remove-a-node": ("playbook.yml", "remove_node.yml"),
}
PARTS = ["Symptom", "Impact", "Check", "Act", "Confirm", "Undo"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_its_parts(page: Path) -> None:
    assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == PARTS
    assert len(commands(page)) >= 2
    # An interactive bash puts an earlier command in place of "!name".
    assert not re.search(r'"[^"\']*![^ ="]', "".join(commands(page)))


@pytest.mark.parametrize(("page", "steps"), STEPS.items())
def test_no_command_is_left_out_by_a_test_that_goes_step_by_step(page: str, steps: tuple[str, ...]) -> None:
    assert len(commands(RUNBOOKS / f"{page}.md", "Act")) == len(steps)
    for step in steps:
        the_one(RUNBOOKS / f"{page}.md", "Act", step)


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


def commands(page: Path, part: str = "") -> list[str]:
    """The page's blocks of commands, or those of one part of it."""
    text = page.read_text().partition(f"\n## {part}\n")[2].partition("\n## ")[0] if part else page.read_text()
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def the_one(page: Path, part: str, words: str) -> str:
    """The one block of a part of the page that has these words."""
    (found,) = (block for block in commands(page, part) if words in block)
    return found


def follow(
    page: Path,
    part: str = "",
    inventory: str = INVENTORY,
    names: tuple[tuple[str, str], ...] = (),
    step: str = "",
) -> None:
    """Do what the page, or one part of it, says, with `names` of ours in place of its own.

    `step` is in the one command that is done then. Neither may a command fail, nor a plan change something.
    """
    environment = os.environ | {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    for block in [the_one(page, part, step)] if step else commands(page, part):
        given = re.sub(r"\bproduction\b", inventory, block)
        for named, ours in names:
            given = given.replace(named, ours)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", given],
            cwd=PROJECT, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}:\n{given}\n{done.stdout[-4000:]}"
        asks = block.startswith(("bin/redis", "bin/etcd"))
        assert not asks or ">>\n\n" not in done.stdout, f"{page.name}: says nothing:\n{given}"
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


@pytest.mark.tier
def test_query_that_holds_a_copy_up_is_ended() -> None:
    _environment, cluster = described(PROJECT / INVENTORY)
    copy = cluster.synchronous()
    copy.run("cd /; setsid sudo -u postgres psql -XAtqc 'SELECT pg_sleep(3600)' chat >/dev/null 2>&1 &")
    old = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query LIKE 'SELECT pg_sleep%' AND xact_start < now() - interval '1 minute'"
    )
    until(lambda: copy.psql(old) == "1", "the query is a minute old")
    page, name = RUNBOOKS / "replication-lags.md", (("copy=node2", f"copy={copy}"),)
    follow(page, "Act", names=name, step="pg_terminate_backend")
    until(lambda: copy.psql(old) == "0", "the query is gone")
