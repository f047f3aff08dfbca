"""docs/runbooks/: each page has its parts, and each command of a cluster's pages works on a cluster."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
INVENTORY = "molecule/cluster/inventory"
PAGES = sorted(path for path in (PROJECT / "docs/runbooks").glob("*.md") if path.name != "new-environment.md")
PARTS = ["Symptom", "Impact", "Check", "Act", "Confirm", "Undo"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_has_its_parts(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    assert len(re.findall(r"^```sh$", text, re.MULTILINE)) >= 2


# tests/cluster follows the page that makes a cluster of one host.
@pytest.mark.tier
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem != "from-one-host-to-a-cluster"], ids=lambda page: page.stem
)
def test_commands_do_what_the_page_says(page: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    environment = os.environ | {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    for block in blocks:
        commands = re.sub(r"\bproduction\b", INVENTORY, block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=PROJECT, env=environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}:\n{commands}\n{done.stdout[-4000:]}"
        if "playbook.yml" in block and "--check" in block:
            assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}, done.stdout[-4000:]
