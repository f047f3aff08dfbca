"""The vault password belongs to the environment that the command names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bin/vault-password"


@pytest.fixture
def environment(tmp_path):
    folder = tmp_path / "staging"
    (folder / "group_vars/all").mkdir(parents=True)
    (folder / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    (folder / ".vault_password").write_text("opens sesame\n")
    return folder


def ask(*command_line):
    """Run the script as Ansible does: from a process that has these arguments."""
    return subprocess.run(
        ["sh", "-c", f"{SCRIPT}; exit $?", *map(str, command_line)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "form",
    ["-i {}", "-i{}", "--inventory {}", "--inventory={}", "-i {}/hosts.yml", "{}/group_vars/all/vault.yml"],
)
def test_password_of_the_named_environment(environment, form):
    assert ask("playbook.yml", *form.format(environment).split()).stdout == "opens sesame\n"


def test_missing_password_names_the_file_to_write(environment):
    (environment / ".vault_password").unlink()
    done = ask("-i", environment)
    assert done.returncode == 1
    assert f"{environment}/.vault_password does not exist" in done.stderr


def test_command_without_an_environment_needs_no_password():
    assert ask("playbooks/environment.yml").returncode == 0
