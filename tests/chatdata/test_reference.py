"""The reference page is what the docstrings say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_page_is_made_from_the_docstrings(tmp_path: Path):
    subprocess.run([sys.executable, PROJECT / "bin/make-reference", tmp_path / "page.md"], check=True)
    made = (tmp_path / "page.md").read_text()
    assert made == (PROJECT / "docs/reference/chatdata.md").read_text(), "run bin/make-reference"
    assert "### `AsyncMessages`" in made
