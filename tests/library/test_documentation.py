"""What ansible-doc says, and what the modules take, are the same."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from module_utils.yoyo_spec import CONNECTION, RUN  # noqa: E402

SPECS = {"yoyo_migrate": {**CONNECTION, **RUN}, "yoyo_migrate_info": CONNECTION}


def constants(module: str) -> dict[str, Any]:
    """The YAML blocks of a module's source."""
    tree = ast.parse((ROOT / "library" / f"{module}.py").read_text())
    names = ("DOCUMENTATION", "EXAMPLES", "RETURN")
    return {
        node.targets[0].id: yaml.safe_load(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in names
    }


@pytest.mark.parametrize("module", SPECS)
def test_documented_options_are_those_of_the_argument_spec(module: str) -> None:
    documented = constants(module)["DOCUMENTATION"]["options"]
    public = {name: option for name, option in SPECS[module].items() if not name.startswith("_")}
    assert documented.keys() == public.keys()
    for name, option in public.items():
        for key in ("type", "choices", "elements", "default"):
            assert documented[name].get(key) == option.get(key), (name, key)
        assert documented[name]["description"]


@pytest.mark.parametrize("module", SPECS)
def test_examples_use_only_documented_options(module: str) -> None:
    for task in constants(module)["EXAMPLES"]:
        assert set(task.get(module, {})) <= SPECS[module].keys()


@pytest.mark.parametrize("module", SPECS)
def test_check_mode_is_declared_in_full(module: str) -> None:
    assert constants(module)["DOCUMENTATION"]["attributes"]["check_mode"]["support"] == "full"


def test_every_secret_option_is_no_log() -> None:
    assert all(CONNECTION[name].get("no_log") for name in ("dsn", "login_password"))
