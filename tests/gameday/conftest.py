"""The cluster of a game day, as playbooks/gameday.yml describes it on standard input (JSON)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from chatdata.settings import Settings

from .nodes import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster(json.load(sys.stdin))


@pytest.fixture(scope="session")
def settings(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What the application's hosts are told."""
    folder: Path = tmp_path_factory.mktemp("contract")
    return cluster.settings(folder)
