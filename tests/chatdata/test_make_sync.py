"""The blocking twins are what bin/make-sync makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_sync_twins_are_made_from_the_async_sources(tmp_path: Path):
    subprocess.run([sys.executable, PROJECT / "bin/make-sync", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.py")}
    kept = {path.name: path.read_text() for path in (PROJECT / "chatdata/_sync").glob("*.py")}
    assert made == kept, "run bin/make-sync"
    assert "messages.py" in made
    assert not any("async" in text for text in made.values())
