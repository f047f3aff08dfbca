"""Runs a module of library/ as Ansible would: arguments and result are JSON on standard input and output.

python run_module.py yoyo_migrate < arguments.json
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import ansible.module_utils
from ansible.module_utils import basic

ROOT = Path(__file__).resolve().parents[2]

ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"  # ansible-core 2.19 and later want to know how to write the result
runpy.run_path(str(ROOT / "library" / f"{sys.argv[1]}.py"), run_name="__main__")
