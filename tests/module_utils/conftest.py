"""Lets the pure tests import the shared code from the tree, without Ansible."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
