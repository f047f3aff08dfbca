"""What ansible-test's validate-modules says of the modules, as it would of a collection's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ansible_test

ROOT = Path(__file__).resolve().parents[1]
VALIDATOR = Path(ansible_test.__file__).parent / "_util/controller/sanity/validate-modules"
COLLECTION = "ansible_collections/chatdata/tier"
UTILITIES = COLLECTION.replace("/", ".") + ".plugins.module_utils"

# The action plugin fills it, so it is no option of the user's.
PRIVATE = "Argument '_archive' is listed in the argument_spec, but not documented"


def as_collection(folder: Path) -> Path:
    """The modules as a collection below `folder`, under a collection's names."""
    tree = folder / COLLECTION
    for source, target in (("library", "modules"), ("module_utils", "module_utils")):
        (tree / "plugins" / target).mkdir(parents=True)
        for path in (ROOT / source).glob("*.py"):
            text = re.sub(
                r"ansible\.module_utils(?=\.(etcd|owned|patroni|redis|yoyo)_)", UTILITIES, path.read_text()
            )
            text = re.sub(r"(?<=M\()(?=yoyo_)|(?<=- module: )", "chatdata.tier.", text)
            (tree / "plugins" / target / path.name).write_text(text)
    return tree


def test_validate_modules_finds_nothing(tmp_path: Path) -> None:
    tree = as_collection(tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            VALIDATOR / "validate.py",
            "--arg-spec",
            "--collection",
            COLLECTION,
            "plugins/modules",
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{VALIDATOR}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if PRIVATE not in line]
    assert said == []
    assert done.stdout.count(PRIVATE) == 2  # so it has looked at the argument specs
