"""Two processes of examples/chat_server.py, and a client of Socket.IO at each."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import socketio

from chatdata.passwords import hash_password
from chatdata.repositories import Messages, Rooms

from .redis_tier import until

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "examples/chat_server.py"
PATIENCE_S = 60  # after which something counts as never come
PRESENCE_S = 20  # less than a presence lasts that is not taken back
PASSWORD = "correct horse battery staple"


@contextmanager
def server(tier: Any, keys: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of the example, and its port."""
    contract = tier.settings.ca_path.parent
    environment = {
        **os.environ,
        **keys,
        "CHATDATA_CONTRACT": str(contract),
        "CHAT_CA_PATH": str(contract / "ca.pem"),
    }
    process = subprocess.Popen(
        [sys.executable, EXAMPLE, "0"], cwd=PROJECT, text=True, stderr=subprocess.PIPE,
        env=environment | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                yield process, int(found[1])
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


class Client:
    """A client of Socket.IO that keeps what it hears, by event."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False)
        self.heard: dict[str, asyncio.Queue[Any]] = {}
        for event in ("message", "typing", "presence"):
            queue = self.heard[event] = asyncio.Queue()
            self.socket.on(event, lambda *words, queue=queue: queue.put_nowait(words))

    async def ask(self, event: str, *words: Any) -> Any:
        """The server's answer."""
        return await self.socket.call(event, words, timeout=PATIENCE_S)

    async def hear(self, event: str, *words: Any, within_s: float = PATIENCE_S) -> Any:
        """The next words of an event; where some are named, the next time that it has these."""
        while True:
            heard = await asyncio.wait_for(self.heard[event].get(), within_s)
            if not words or heard == words:
                return heard


@asynccontextmanager
async def client(port: int, **auth: str) -> Any:
    made = Client()
    await made.socket.connect(
        f"http://127.0.0.1:{port}", auth=auth or None, transports=["websocket"], wait_timeout=PATIENCE_S
    )
    try:
        yield made
    finally:
        await made.socket.disconnect()


async def converse(ports: list[int], ann: Any, bob: Any, room: Any) -> dict[str, Any]:
    """What two users at two processes say and hear; the message posted."""
    async with client(ports[0]) as a, client(ports[1]) as b:
        assert (await a.ask("rooms"))["error"] == "TokenInvalid"
        assert (await a.ask("login", ann.username, "a guess", "phone"))["error"] == "TokenInvalid"
        assert (await a.ask("login", ann.username))["error"] == "ValidationError"
        first = await a.ask("login", ann.username, PASSWORD, "phone")
        await a.hear("presence", str(ann.id), True)
        await b.ask("login", bob.username, PASSWORD, "desk")
        await a.hear("presence", str(bob.id), True)
        assert (await a.ask("post", str(room.id), str(uuid4()), "too early"))["error"] == "NotFound"
        assert await a.ask("unheard of") is None

        second = await a.ask("refresh", first["refresh_token"])
        assert second["refresh_token"] != first["refresh_token"]
        assert (await a.ask("refresh", "made up"))["error"] == "TokenUnknown"
        for one in (a, b):
            assert await one.ask("join", str(room.id)) == {"messages": [], "typing": []}

        await a.ask("typing", str(room.id))
        assert (await b.hear("typing"))[:2] == (str(room.id), str(ann.id))
        assert (await b.ask("join", str(room.id)))["typing"] == [str(ann.id)]

        id = str(uuid4())
        posted = await a.ask("post", str(room.id), id, "hello")
        assert await a.ask("post", str(room.id), id, "hello") == posted
        assert (await b.hear("message"))[0] == posted
        (mine,) = await b.ask("rooms")
        assert (mine["room"]["id"], mine["unread"], mine["last_message"]) == (str(room.id), 1, posted)
        while (await b.ask("join", str(room.id)))["typing"]:
            await asyncio.sleep(0.1)

        async with client(
            ports[1], token=second["access_token"]
        ) as other:  # another socket of hers, elsewhere
            assert len(await other.ask("rooms")) == 1
            await a.socket.disconnect()
            assert await other.ask("join", str(room.id)) == {"messages": [posted], "typing": []}
        await b.hear("presence", str(ann.id), False, within_s=PRESENCE_S)
        with pytest.raises(socketio.exceptions.ConnectionError):
            async with client(ports[0], token="made up"):
                pass
        return posted


def connections(tier: Any) -> int:
    """How many connections of the application PgBouncer and Redis have."""
    console = (
        "cd / && runuser -u postgres -- psql -XAtq -h /run/postgresql -p 6432 -U pgbouncer -d pgbouncer -c"
    )
    found = tier.shell(f"{console} 'SHOW CLIENTS'").splitlines()
    ports = "ss -Htn state established '( sport = :6380 or sport = :6381 )'"
    return sum("|chat_app|" in line for line in found) + len(tier.shell(ports).splitlines())


def test_two_processes_exchange_messages(tier, room, make_user, connection):
    ann, bob = (make_user(password_hash=hash_password(PASSWORD)) for _ in range(2))
    before = connections(tier)
    keys = {name: secrets.token_hex(32) for name in ("CHAT_ACCESS_KEY", "CHAT_REFRESH_KEY")}
    with ExitStack() as stack:
        processes, ports = zip(*(stack.enter_context(server(tier, keys)) for _ in range(2)), strict=True)
        posted = asyncio.run(converse(list(ports), ann, bob, room))
        assert connections(tier) > before
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            said = process.stderr.read()
            assert process.wait(PATIENCE_S) == 0, said
            assert "Traceback" not in said, said
            assert "Application shutdown complete" in said
    (kept,) = Messages(connection).latest(room.id)
    assert kept.model_dump(mode="json") == posted
    assert Rooms(connection).by_id(room.id).last_seq == 1
    until(lambda: connections(tier) == before)


def test_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 150
