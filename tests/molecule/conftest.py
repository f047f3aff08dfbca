from __future__ import annotations

from typing import Any

import pytest

from .runs import PROJECT, Environment


@pytest.fixture(scope="session")
def environment() -> Environment:
    """The scenario `default`, whose hosts were created and not destroyed yet."""
    return Environment(
        PROJECT / "molecule/default/inventory",
        "chat-default",
        ("bookworm", "trixie"),
        ("bookworm", "trixie", "valkey"),
    )


@pytest.fixture(scope="session")
def vault(environment: Environment) -> dict[str, Any]:
    """The secrets of the scenario's vault."""
    return environment.secrets()
