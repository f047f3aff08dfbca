"""The provisioned tier as an application reaches it: the hosts of the inventory in CHATDATA_INVENTORY.

Tests that use the fixture `tier` carry the marker of that name and run on each host that has PostgreSQL.
Those of both kinds of client, blocking and async, run with one kind on each host of the scenario `default`,
so that each kind and each host is tried; with CHAT_WHOLE set, with both on all.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

from chatdata import repositories
from chatdata.models import Room, User
from chatdata.repositories import Rooms, Users
from chatdata.settings import Settings

from ..molecule.runs import PROJECT, Environment
from .redis_tier import redis_tier, stores

__all__ = ["redis_tier", "stores"]

INVENTORY = PROJECT / os.environ.get("CHATDATA_INVENTORY", "molecule/default/inventory")
LEFT_OUT = {"bookworm": "sync", "trixie": "async", "valkey": "sync"}
HOSTS = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["containers"]["hosts"]


@dataclass(frozen=True)
class Tier:
    """One host of the environment, with everything on it, and the contract that it was given."""

    environment: Environment
    name: str
    settings: Settings

    def postgresql(self, **overrides: Any) -> dict[str, Any]:
        """What libpq and psycopg need to connect through PgBouncer."""
        return self.settings.postgresql(**overrides)

    def shell(self, command: str) -> str:
        """What a command prints as root on the host."""
        return self.environment.shell(self.name, command)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tier" in metafunc.fixturenames:
        hosts = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["postgresql"]["hosts"]
        metafunc.parametrize("tier", list(hosts), indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if {"tier", "redis_tier"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("tier")
    if not os.environ.get("CHAT_WHOLE"):
        left_out = [item for item in items if _is_left_out(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_left_out(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None) and item.callspec.params.values()
    words = {value for value in parameters or () if isinstance(value, str)}
    return any({host, kind} <= words for host, kind in LEFT_OUT.items())


class HostByHost(LoadScopeScheduling):
    """Hosts side by side (pytest -n 2), and on each of them one test after the other."""

    def _split_scope(self, nodeid: str) -> str:
        parameters = nodeid.partition("[")[2]
        return next((host for host in HOSTS if host in parameters), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return HostByHost(config, log)


@pytest.fixture(scope="session")
def tier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tier:
    """The provisioned host."""
    variables = yaml.safe_load((INVENTORY / "group_vars/containers.yml").read_text())
    environment = Environment(INVENTORY, variables["containers_network"], (request.param,))
    packed = b64decode(environment.shell(request.param, "tar -C /etc/chat-data-tier -c . | base64"))
    folder = tmp_path_factory.mktemp("contract")
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    settings = Settings.load(folder).model_copy(update={"ca_path": folder / "ca.pem"})
    return Tier(environment, request.param, settings)


@pytest.fixture
def connection(tier: Tier) -> Iterator[psycopg.Connection[Any]]:
    """The application's connection through PgBouncer, by the contract."""
    with psycopg.connect(**tier.postgresql()) as opened:
        yield opened


class Repositories:
    """All repositories on one connection of either kind; the async ones' methods are run to their end."""

    def __init__(self, connection: Any, run: Callable[[Any], Any], prefix: str) -> None:
        self.connection = connection
        self._run = run
        for name in ("Users", "Rooms", "RoomUsers", "Messages"):
            attribute = "members" if name == "RoomUsers" else name.lower()
            setattr(self, attribute, self._blocking(getattr(repositories, prefix + name)(connection)))

    def _blocking(self, repository: Any) -> Any:
        methods = {name: getattr(repository, name) for name in dir(repository) if not name.startswith("_")}
        return SimpleNamespace(**{name: self._called(method) for name, method in methods.items()})

    def _called(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *values, **named: self._run(method(*values, **named))


@pytest.fixture(params=["sync", "async"])
def chat(request: pytest.FixtureRequest, tier: Tier) -> Iterator[Any]:
    """The repositories, of both kinds, on a connection of the application's through PgBouncer."""
    if request.param == "sync":
        with psycopg.connect(**tier.postgresql()) as opened:
            yield Repositories(opened, lambda result: result, "")
    else:
        with asyncio.Runner() as runner:
            opened_async = runner.run(psycopg.AsyncConnection.connect(**tier.postgresql()))
            yield Repositories(opened_async, runner.run, "Async")
            runner.run(opened_async.close())


@pytest.fixture
def make_user(connection: psycopg.Connection[Any]) -> Iterator[Any]:
    """Makes users with names by chance, who go after the test: make_user()."""
    made: list[User] = []

    def make(**values: Any) -> User:
        name = f"user-{uuid4()}"
        given = {"email": f"{name}@example.net", "username": name, "password_hash": "hash", **values}
        made.append(Users(connection).create(**given))
        return made[-1]

    yield make
    connection.execute("DELETE FROM users WHERE id = ANY(%s)", [[user.id for user in made]])


@pytest.fixture
def user(make_user: Any) -> User:
    made: User = make_user()
    return made


@pytest.fixture
def room(connection: psycopg.Connection[Any], user: User) -> Iterator[Room]:
    """A room of `user`'s, who owns it; it goes after the test with all its messages."""
    yield Rooms(connection).create(user.id, name="lobby")
    connection.execute("DELETE FROM rooms WHERE created_by = %s", [user.id])
