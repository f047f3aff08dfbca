"""playbooks/gameday.yml breaks no environment that does not say that its data is of no value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("variables", [{}, {"app_production": True}, {"app_production": "yes"}])
def test_production_is_refused_before_any_host_is_reached(tmp_path, variables):
    host = {"nowhere": {"ansible_host": "127.0.0.1", "ansible_port": 1, **variables}}  # nobody listens there
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"postgresql": {"hosts": host}}))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "playbooks/gameday.yml", "-i", inventory],
        cwd=PROJECT, env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "is production (app_production): a game day kills its hosts" in done.stdout + done.stderr
    assert "unreachable=0" in done.stdout
    assert "Break them" not in done.stdout
