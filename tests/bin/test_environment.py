"""Names that `make environment` refuses before it writes anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bin/environment"


@pytest.mark.parametrize("name", ["", "Production", "../elsewhere", "a b", "1st"])
def test_name_that_is_no_name_is_refused_with_what_is_allowed(name):
    done = subprocess.run([SCRIPT, name], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"NAME is '{name}'; allowed: lower-case letters" in done.stderr


@pytest.mark.parametrize("name", ["staging", "roles"])
def test_folder_that_exists_is_left_alone(name):
    folder = SCRIPT.parents[1] / name
    before = sorted(folder.rglob("*.yml"))
    done = subprocess.run([SCRIPT, name], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{name}/ exists already and is left as it is" in done.stderr
    assert sorted(folder.rglob("*.yml")) == before
