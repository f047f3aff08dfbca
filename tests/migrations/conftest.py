"""The project's own migrations on throwaway databases, run by yoyo_migrate as a run of the play does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.library.yoyo_support import Cluster, Database, Folder, Runner

MIGRATIONS = Path(__file__).parents[2] / "migrations"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """An empty database of its own for the test."""
    created = cluster.create_database()
    yield created
    cluster.drop_database(created)


@pytest.fixture
def run(database: Database) -> Runner:
    """Runs the module on the database with the project's migrations; its own tables lie apart."""
    runner = Runner(database, Folder(MIGRATIONS))
    runner.arguments["bookkeeping_schema"] = "migrations"
    return runner
