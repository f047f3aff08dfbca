"""The client manager for Socket.IO's servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import socketio

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


def test_manager_is_python_socketios():
    assert isinstance(async_redis_manager("host", "password", ca="ca.pem"), socketio.AsyncRedisManager)
    assert isinstance(redis_manager("host", "password", ca="ca.pem"), socketio.RedisManager)
