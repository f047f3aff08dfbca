"""Every default is described in the role's argument specs, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = sorted(path.parent.parent for path in Path(__file__).parents[1].glob("roles/*/defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specs_have_the_same_names(role):
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    (entry,) = specs.values()
    assert sorted(defaults) == sorted(entry["options"])


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_specs_give_no_defaults_of_their_own(role):
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    (entry,) = specs.values()
    assert [name for name, option in entry["options"].items() if "default" in option] == []
