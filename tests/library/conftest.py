"""A throwaway PostgreSQL cluster, databases in it, and the module as a subprocess."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ansible.module_utils
import pytest
from yoyo_support import Cluster, Database, Folder, Runner

# Where a host's modules find what they share.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))


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
def folder(tmp_path: Path) -> Folder:
    """A folder to write migrations into."""
    path = tmp_path / "migrations"
    path.mkdir()
    return Folder(path)


@pytest.fixture
def run(database: Database, folder: Folder) -> Runner:
    """Runs the module on the database with the folder's migrations."""
    return Runner(database, folder)
