"""The client manager for Socket.IO's servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import socketio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.retry import Retry

from chatdata.socketio import async_redis_manager, redis_manager

PAGE = (Path(__file__).parents[2] / "docs/reference/connecting.md").read_text()


@pytest.mark.parametrize(
    ("make", "kind"),
    [(async_redis_manager, "AsyncRedisManager"), (redis_manager, "RedisManager")],
)
def test_options_are_those_of_the_contract(make, kind, monkeypatch):
    made = []
    for name in ("AsyncRedisManager", "RedisManager"):
        monkeypatch.setattr(
            socketio, name, lambda *args, name=name, **options: made.append((name, args, options))
        )
    contract = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], contract)  # noqa: S102  our own page's code
    for more in ({}, {"port": 1, "user": "u", "ca": "c", "health_check_interval": 1}):
        contract["redis_manager"]("host", "password", **more)
        make("host", "password", **more)
        (_, *expected), (name, *found) = made[-2:]
        assert name == kind
        assert found == expected


@pytest.mark.parametrize(
    ("make", "kind", "retry"),
    [(async_redis_manager, "AsyncRedisManager", AsyncRetry), (redis_manager, "RedisManager", Retry)],
)
def test_options_of_sentinel_are_those_of_the_contract(make, kind, retry, monkeypatch):
    made = []
    for name in ("AsyncRedisManager", "RedisManager"):
        monkeypatch.setattr(
            socketio,
            name,
            lambda url, name=name, **options: made.append((name, url, options["redis_options"])),
        )
    section = PAGE.partition("### Sentinel from Python")[2]
    contract = {}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], contract)  # noqa: S102  our own page's code
    access = {"user": "chat_socketio", "password": "password", "ca": "ca.pem"}
    contract["sentinel_manager"]("a:1,b:2", "realtime", sentinel_password="secret", **access)
    login = {"username": "chat_sentinel_client", "password": "secret"}
    make("nobody", sentinels=[("a", 1), ("b", 2)], sentinel_login=login, service="realtime", **access)
    (_, expected_url, expected), (name, url, found) = made
    assert (name, url) == (kind, expected_url)
    once = found["sentinel_kwargs"].pop("retry")
    assert (type(once), once.get_retries()) == (retry, expected["sentinel_kwargs"].pop("retry").get_retries())
    assert found == expected


def test_manager_is_python_socketios():
    assert isinstance(async_redis_manager("host", "password", ca="ca.pem"), socketio.AsyncRedisManager)
    assert isinstance(redis_manager("host", "password", ca="ca.pem"), socketio.RedisManager)
