"""What bin/setup says on a machine that it cannot prepare."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bin/setup"


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with the shell's own tools and Python, without apt and what it would install."""
    for tool in ("bash", "cat", "dirname", "env", "grep", "sed", "sha256sum"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    (tmp_path / "python3").symlink_to(sys.executable)
    return str(tmp_path)


def setup(*arguments, **environment):
    return subprocess.run(
        ["/bin/bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_without_apt_it_lists_what_is_lacking_and_stops(bare_path):
    done = setup("hosts", PATH=bare_path)
    assert done.returncode == 1
    assert "has no apt-get" in done.stderr
    assert "openssh-client" in done.stderr


def test_without_a_usable_python_it_says_which_it_looked_for(bare_path):
    (Path(bare_path) / "python3").unlink()
    done = setup(PATH=bare_path)
    assert done.returncode == 1
    assert (
        "no Python from 3.11 to 3.13 found (looked for python3.13 python3.12 python3.11 python3)"
        in done.stderr
    )


def test_unknown_argument_is_refused():
    done = setup("everything")
    assert done.returncode == 1
    assert "unknown argument 'everything'; allowed: hosts, dev, or none" in done.stderr
