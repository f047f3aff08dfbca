"""docs/runbooks/new-environment.md, followed word for word: its commands, and what it says is seen."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/runbooks/new-environment.md").read_text()
STATE = PROJECT / "molecule/runbook/inventory/.state"
STEPS = re.findall(r"^## (\d+\. .*?)\n.*?```sh\n(.*?)```\s+```text\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
ADDRESSES = {f"203.0.113.{number}": f"10.203.3.{number}" for number in (11, 12, 13)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The working tree as a clone has it: a repository with the tracked files and no more."""
    folder = tmp_path_factory.mktemp("clone") / "chat-data-tier"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.rstrip("\0").split("\0"):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def operator():
    """The operator's shell: an agent that holds the machines' key, and nothing of this run's."""
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    variables = dict(re.findall(r"(SSH_\w+)=(\S+?);", agent))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ANSIBLE_", "MOLECULE_", "PYTEST_", "MAKE", "VIRTUAL_ENV"))
    } | variables
    environment["PATH"] = ":".join(
        part for part in os.environ["PATH"].split(":") if not part.startswith(str(PROJECT))
    )
    subprocess.run(["ssh-add", "-q", STATE / "id_ed25519"], env=environment, check=True)
    yield environment
    subprocess.run(["ssh-agent", "-k"], env=environment, check=True, capture_output=True)


def test_the_page_has_its_steps():
    assert len(STEPS) == 8


@pytest.mark.parametrize(("title", "commands", "seen"), STEPS, ids=[step[0] for step in STEPS])
def test_step(clone, operator, title, commands, seen):
    for example, address in ADDRESSES.items():
        commands = commands.replace(example, address)
        seen = seen.replace(example, address)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=clone, env=operator, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{title}:\n{done.stdout[-6000:]}"
    missing = [line for line in seen.strip().splitlines() if line.strip() not in done.stdout]
    assert missing == [], f"{title}: the page promises what is not seen\n{done.stdout[-6000:]}"
    if title.startswith("6."):
        assert re.findall(r"changed=(\d+)", done.stdout) == ["0", "0", "0"]


def test_nothing_but_ssh_reaches_the_machines():
    for address, ports in (("10.203.3.11", (5432, 6432)), ("10.203.3.12", (6380, 6381))):
        for port in ports:
            with socket.socket() as probe:
                probe.settimeout(1)
                assert probe.connect_ex((address, port)) != 0, f"{address}:{port} answers this machine"


def test_existing_environment_is_not_overwritten(clone, operator):
    before = (clone / "production/group_vars/all/vault.yml").read_bytes()
    done = subprocess.run(
        ["make", "environment", "NAME=production"], cwd=clone, env=operator, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "production/ exists already" in done.stderr
    assert (clone / "production/group_vars/all/vault.yml").read_bytes() == before
