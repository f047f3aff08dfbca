"""playbooks/ledger.yml prints both sums, and asks a host only for what the inventory does not state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
SIZES = {"common_memory_mb": 4096, "common_cores": 2}


@pytest.fixture
def ledger(tmp_path):
    """Runs the playbook for a host that does not exist, with the variables given; (exit code, output)."""

    def run(groups=("postgresql", "pgbouncer", "redis"), **variables):
        host = {
            "nowhere": {"ansible_host": "127.0.0.1", "ansible_port": 1, **variables}
        }  # nobody listens there
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({group: {"hosts": host} for group in groups}))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "playbooks/ledger.yml", "-i", inventory],
            cwd=PROJECT, env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "ANSIBLE_NOCOLOR": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


def test_both_sums_are_printed_without_a_connection(ledger):
    code, output = ledger(**SIZES)
    assert code == 0, output
    for words in ("504  PostgreSQL: shared_buffers", "4096  the host has (common_memory_mb)", "free",
                  "= 320  clients of PgBouncer", "= 27  for PgBouncer"):  # fmt: skip
        assert words in output, output
    assert "unreachable=0    failed=0" in output


def test_host_whose_cores_are_not_stated_is_asked(ledger):
    code, output = ledger(common_memory_mb=4096)
    assert code != 0
    assert "unreachable=1" in output


def test_what_does_not_add_up_is_printed_and_then_refused(ledger):
    code, output = ledger(**SIZES, postgresql_settings={"shared_buffers": "3GB"}, common_pool_size=200,
                          postgresql_max_connections=100, common_application_processes=100)  # fmt: skip
    assert code != 0
    for words in ("3072  PostgreSQL: shared_buffers", "MISSING", "NOT ENOUGH", "MB short of memory",
                  "  postgresql_settings.shared_buffers, ", "pgbouncer_max_client_conn to 5000",
                  "postgresql_max_connections to 518"):  # fmt: skip
        assert words in output, output
    assert "unreachable=0    failed=1" in output


def test_sizes_may_be_those_of_another_variable(ledger):
    code, output = ledger(common_memory_mb="{{ machine_mb // 2 }}", machine_mb=16384, common_cores=8)
    assert code == 0, output
    assert "8192  the host has (common_memory_mb)" in output


def test_host_of_redis_alone_has_no_line_of_the_others(ledger):
    code, output = ledger(groups=["redis"], **SIZES)
    assert code == 0, output
    assert "Redis sessions: maxmemory" in output
    assert "PostgreSQL" not in output


def test_setting_that_is_no_size_is_refused_by_name(ledger):
    code, output = ledger(**SIZES, postgresql_settings=json.loads('{"work_mem": "lots"}'))
    assert code != 0
    assert "work_mem is 'lots'" in output
