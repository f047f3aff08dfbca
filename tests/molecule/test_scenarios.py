"""Each scenario's steps are there: molecule only warns of a playbook that it does not find, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

SCENARIOS = sorted((Path(__file__).parents[2] / "molecule").glob("*/molecule.yml"))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.parent.name)
def test_every_step_has_its_playbook(scenario: Path) -> None:
    described = yaml.safe_load(scenario.read_text())
    playbooks = described["ansible"]["playbooks"]
    steps = [step.split() for step in described["scenario"]["test_sequence"]]
    own = [(action, names or [playbooks.get(action, "none is named")])
           for action, *names in steps if action != "dependency"]  # fmt: skip
    missing = [(action, name) for action, names in own for name in names
               if action not in playbooks or not (scenario.parent / name).is_file()]  # fmt: skip
    assert missing == []
