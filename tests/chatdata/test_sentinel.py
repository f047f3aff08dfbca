"""Who is master, by what several Sentinels say, and when a connection is given up."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError

from chatdata._async import sentinel as asynchronous
from chatdata._sync import sentinel as blocking

OLD, NEW = ("192.0.2.1", 6380), ("192.0.2.2", 6380)


class Sentinel:
    """One that answers so, or not at all; a blocking one and an asynchronous one."""

    def __init__(self, epoch: int, master: tuple[str, int] | None, *, down: bool = False) -> None:
        self.asked = 0
        self._answer = master and {
            "ip": master[0],
            "port": master[1],
            "config-epoch": epoch,
            "is_master": True,
            "is_sdown": down,
            "is_odown": down,
            "num-other-sentinels": 2,
        }

    def sentinel_masters(self) -> dict[str, Any]:
        self.asked += 1
        if self._answer is None:
            raise ConnectionLost
        return {"sessions": self._answer}


class AsyncSentinel(Sentinel):
    async def sentinel_masters(self) -> dict[str, Any]:  # type: ignore[override]
        return super().sentinel_masters()


def done(result: Any) -> Any:
    """The result of a method, awaited where it is asynchronous."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.fixture(params=["blocking", "asynchronous"])
def twin(request: pytest.FixtureRequest) -> tuple[type[Any], type[Any], type[Sentinel], Any]:
    """MasterFinder, MasterConnection, what a Sentinel is like, and redis-py's own module."""
    if request.param == "blocking":
        return blocking.MasterFinder, blocking.MasterConnection, Sentinel, redis.sentinel
    return (
        asynchronous.AsyncMasterFinder,
        asynchronous.AsyncMasterConnection,
        AsyncSentinel,
        redis.asyncio.sentinel,
    )


def finder(twin: Any, *sentinels: tuple[Any, ...], down: tuple[int, ...] = ()) -> Any:
    made = twin[0]([("192.0.2.9", 26379)])
    made.sentinels = [twin[2](*known, down=at in down) for at, known in enumerate(sentinels)]
    return made


def test_newest_failover_counts_and_not_the_first_sentinel(twin):
    assert done(finder(twin, (1, OLD), (2, NEW), (2, NEW)).discover_master("sessions")) == NEW
    assert done(finder(twin, (1, OLD), (2, NEW), (0, None)).discover_master("sessions")) == NEW


def test_majority_is_enough_and_the_silent_one_is_asked_last(twin):
    found = finder(twin, (0, None), (2, NEW), (2, NEW))
    silent = found.sentinels[0]
    assert done(found.discover_master("sessions")) == NEW
    assert found.sentinels[-1] is silent
    assert done(found.discover_master("sessions")) == NEW
    assert silent.asked == 1


def test_master_that_is_down_is_none(twin):
    down = finder(twin, (1, OLD), (1, OLD), (1, OLD), down=(0, 1, 2))
    with pytest.raises(ConnectionLost, match="name no master of sessions"):
        done(down.discover_master("sessions"))


def test_most_sentinels_decide_whether_a_master_is_down(twin):
    found = finder(twin, (1, OLD), (1, OLD), (1, OLD), down=(0, 2))
    with pytest.raises(ConnectionLost, match="name no master of sessions"):
        done(found.discover_master("sessions"))
    assert done(finder(twin, (1, OLD), (1, OLD), (1, OLD), down=(1,)).discover_master("sessions")) == OLD
    assert done(finder(twin, (1, OLD), (2, NEW), (1, OLD), down=(0, 2)).discover_master("sessions")) == NEW


def test_silent_sentinel_is_not_waited_for_once_most_say_that_the_master_is_down(twin):
    found = finder(twin, (1, OLD), (1, OLD), (0, None), down=(0, 1))
    with pytest.raises(ConnectionLost):
        done(found.discover_master("sessions"))
    assert found.sentinels[2].asked == 0


def test_command_that_is_tried_again_goes_to_the_new_master(twin, monkeypatch):
    _, connection_class, sentinel_class, module = twin
    steps = []

    def noted(step: str) -> Any:
        async def later(*_: Any, **__: Any) -> None:
            steps.append(step)

        return later if sentinel_class is AsyncSentinel else lambda *_, **__: steps.append(step)

    base = module.SentinelManagedSSLConnection
    monkeypatch.setattr(base, "_connect_retry", noted("asks who is master"))
    monkeypatch.setattr(base, "send_packed_command", noted("sends"))
    connection = connection_class.__new__(connection_class)
    done(connection.send_packed_command(b"PING"))
    assert steps == ["asks who is master", "sends"]


def test_connection_that_timed_out_is_closed(twin, monkeypatch):
    _, connection_class, sentinel_class, module = twin
    given = []

    async def read_later(*_: Any, **options: Any) -> None:
        given.append(options)

    read = read_later if sentinel_class is AsyncSentinel else lambda *_, **options: given.append(options)
    monkeypatch.setattr(module.SentinelManagedSSLConnection, "read_response", read)
    connection = connection_class.__new__(connection_class)
    done(connection.read_response())
    done(connection.read_response(disconnect_on_error=False))
    assert [options["disconnect_on_error"] for options in given] == [True, False]


@pytest.mark.parametrize(
    ("said", "given_up"), [("NOREPLICAS Not enough good replicas to write.", True), ("WRONGTYPE no", False)]
)
def test_connection_to_a_master_without_replicas_is_given_up(twin, monkeypatch, said, given_up):
    _, connection_class, sentinel_class, module = twin
    disconnected = []

    def refuse(*_: Any, **__: Any) -> None:
        raise ResponseError(said)

    async def refuse_later(*_: Any, **__: Any) -> None:
        raise ResponseError(said)

    async def disconnect_later(*_: Any, **__: Any) -> None:
        disconnected.append(True)

    later = sentinel_class is AsyncSentinel
    base = module.SentinelManagedSSLConnection
    monkeypatch.setattr(base, "read_response", refuse_later if later else refuse)
    monkeypatch.setattr(
        base, "disconnect", disconnect_later if later else lambda *_, **__: disconnected.append(True)
    )
    connection = connection_class.__new__(connection_class)  # kept: it disconnects as it is thrown away
    with pytest.raises(ConnectionLost if given_up else ResponseError, match=said.split()[0]):
        done(connection.read_response())
    assert bool(disconnected) == given_up
