"""The provisioned Redis hosts as the stores' tests use them: their users, clients, and what operators do."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import redis
import redis.asyncio
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

import chatdata.stores
from tests.molecule.runs import PROJECT, Environment

INVENTORY = PROJECT / os.environ.get("CHATDATA_INVENTORY", "molecule/default/inventory")
INSTANCES = {"tokens": ("sessions", 6380), "presence": ("realtime", 6381), "socketio": ("realtime", 6381)}
USERS = {"tokens": "chat_app_sessions", "presence": "chat_app_realtime", "socketio": "chat_socketio"}
PATIENCE_S = 60  # after which something counts as never come; nothing is measured by it


@dataclass(frozen=True)
class RedisTier:
    """One host's Redis."""

    name: str
    address: str
    flavour: str
    environment: Environment
    passwords: dict[str, str] = field(repr=False)

    def options(self, purpose: str, **more: Any) -> dict[str, Any]:
        """What redis-py takes to connect as the application does, and to say at once that it cannot."""
        return {
            "host": self.address,
            "port": INSTANCES[purpose][1],
            "username": USERS[purpose],
            "password": self.passwords[USERS[purpose]],
            "ssl": True,
            "ssl_ca_certs": str(self.environment.inventory / "ca.pem"),
            "ssl_check_hostname": True,
            "socket_connect_timeout": PATIENCE_S,
            "socket_timeout": PATIENCE_S,
            "retry": Retry(NoBackoff(), 0),
            **more,
        }

    def client(self, kind: str, purpose: str, size: int = 5, **more: Any) -> Any:
        """A client of either kind, with a pool of its own."""
        package = redis if kind == "sync" else redis.asyncio
        options = self.options(purpose, **more)
        options.pop("ssl")
        pool = package.BlockingConnectionPool(
            connection_class=package.SSLConnection, max_connections=size, timeout=PATIENCE_S, **options
        )
        return package.Redis.from_pool(pool)

    def ask(self, purpose: str, *commands: str) -> list[str]:
        """What the host's own client answers the administrator, line by line."""
        script = "\n".join([f"AUTH chat_admin {self.passwords['chat_admin']}", *commands, ""])
        client = f"{self.flavour}-cli -s /run/{self.flavour}-{INSTANCES[purpose][0]}/redis.sock"
        return self.environment.shell(self.name, client, stdin=script).splitlines()[1:] or [""]

    def systemctl(self, verb: str, purpose: str) -> None:
        """Start, stop or restart the instance."""
        self.environment.shell(self.name, f"systemctl {verb} {self.flavour}-server@{INSTANCES[purpose][0]}")


@cache
def hosts() -> dict[str, RedisTier]:
    """Every Redis host of the inventory, by name."""
    listed = subprocess.run(
        ["ansible-inventory", "-i", INVENTORY, "--list"], cwd=PROJECT, capture_output=True, check=True
    ).stdout
    inventory = json.loads(listed)
    found = {}
    for name in inventory["redis"]["hosts"]:
        variables = inventory["_meta"]["hostvars"][name]
        found[name] = RedisTier(
            name,
            variables["ansible_host"],
            variables.get("redis_flavour", "redis"),
            Environment(INVENTORY, variables["containers_network"], ()),
            {user: variables[f"vault_redis_{user}_password"] for user in ("chat_admin", *USERS.values())},
        )
    return found


class Blocking:
    """A store of either kind, whose methods block."""

    def __init__(self, store: Any, runner: asyncio.Runner) -> None:
        self._store, self._runner = store, runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def at_once(self, times: int, name: str, *arguments: Any) -> list[Any]:
        """What so many calls of a method give, all of them under way together."""
        method = getattr(self._store, name)
        if inspect.iscoroutinefunction(method):

            async def all_of_them() -> list[Any]:
                return await asyncio.gather(*(method(*arguments) for _ in range(times)))

            return self._runner.run(all_of_them())
        with ThreadPoolExecutor(times) as threads:
            return list(threads.map(lambda _: method(*arguments), range(times)))


@dataclass(frozen=True)
class Stores:
    """Makes stores of one kind on one host."""

    tier: RedisTier
    kind: str
    runner: asyncio.Runner
    clients: list[Any]

    def client(self, purpose: str, **options: Any) -> Any:
        """A client that is closed after the test."""
        client = self.tier.client(self.kind, purpose, **options)
        self.clients.append(client)
        return client

    def make(self, name: str, client: Any, *arguments: Any, **options: Any) -> Any:
        """The store `name`, or its async source, with methods that block."""
        store = getattr(chatdata.stores, name if self.kind == "sync" else f"Async{name}")
        return Blocking(store(client, *arguments, **options), self.runner)


def until(condition: Callable[[], Any], limit_s: float = PATIENCE_S) -> Any:
    """The first true answer of `condition`, asked again and again."""
    end = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return answer


@pytest.fixture(params=yaml.safe_load((INVENTORY / "hosts.yml").read_text())["redis"]["hosts"])
def redis_tier(request: pytest.FixtureRequest) -> RedisTier:
    """Each provisioned Redis host in turn."""
    return hosts()[request.param]


@pytest.fixture(params=["async", "sync"])
def stores(request: pytest.FixtureRequest, redis_tier: RedisTier) -> Iterator[Stores]:
    """Stores of both kinds on every host."""
    with asyncio.Runner() as runner:
        found = Stores(redis_tier, request.param, runner, [])
        yield found
        for client in found.clients:
            Blocking(client, runner).aclose() if request.param == "async" else client.close()
