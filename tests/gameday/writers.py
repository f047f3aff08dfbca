"""Clients that write all the time, by the application's contract, and remember what was acknowledged."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self
from uuid import uuid4

import psycopg
from pydantic import SecretBytes

from chatdata.errors import ChatDataError
from chatdata.pools import Pools
from chatdata.settings import Settings
from chatdata.stores import RefreshTokens
from chatdata.tokens import RefreshToken

from .nodes import Host, until

CLIENTS = 4
PAUSE_S = 0.002  # between two writes: the hosts' cores are for the hosts
REST_S = 0.2  # after a refusal
TIMEOUT_S = 3  # for one statement
TWICE_S = 3  # no two failovers are so close to each other


@dataclass(frozen=True)
class Acknowledged:
    """A write, when it was sent and answered (time.monotonic), and by which node if that is known."""

    number: int
    sent: float
    answered: float
    node: str = ""


def longest_gap_s(writes: Iterable[Acknowledged]) -> float:
    """The longest time without an acknowledged write, between the first one and the last one."""
    answered = sorted(write.answered for write in writes)
    return max((later - earlier for earlier, later in pairwise(answered)), default=0.0)


def twice(writes: Iterable[Acknowledged]) -> int:
    """How often a node acknowledged a write between two of another one that are close to each other."""
    reigns: list[list[Acknowledged]] = []  # of each node the first write and the last
    for write in sorted(writes, key=lambda write: write.answered):
        if reigns and reigns[-1][0].node == write.node:
            reigns[-1][1] = write
        else:
            reigns.append([write, write])
    return sum(
        before[1].node == after[0].node and after[0].sent - before[1].answered < TWICE_S
        for before, after in zip(reigns, reigns[2:], strict=False)
    )


class Writer:
    """Threads that write until the block ends."""

    def __init__(self) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.refused: list[str] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.flows()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def flows(self) -> None:
        """Wait until writes that begin now are acknowledged."""
        before = len(self.acknowledged)
        until(
            lambda: len(self.acknowledged) >= before + 10,
            lambda: f"{type(self).__name__} are written; the last refusals: {self.refused[-3:]}",
        )

    def gap_s(self) -> float:
        return longest_gap_s(self.acknowledged)


class Rows(Writer):
    """Rows of the table gameday: many through chatdata's pool, a few through each node's own PgBouncer.

    What was not acknowledged is not tried again: it may be there.
    """

    def __init__(self, settings: Settings, nodes: Iterable[Host], bouncer_port: int) -> None:
        super().__init__()
        self._settings = settings
        self._pools = Pools(settings)
        self.by_node: list[Acknowledged] = []
        self._busy: dict[int, tuple[float, psycopg.Connection[Any]]] = {}
        self._number = 0
        self._numbering = threading.Lock()
        self._threads = [threading.Thread(target=self._write) for _ in range(CLIENTS)]
        for node in nodes:
            way = settings.postgresql(host=node.address, port=bouncer_port)
            self._threads.append(threading.Thread(target=self._write_at, args=(node.name, way)))
        self._threads.append(threading.Thread(target=self._cut_what_hangs))

    def __enter__(self) -> Self:
        self._pools.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._pools.close()

    def lost(self) -> int:
        """How many of the acknowledged rows are not there."""
        with psycopg.connect(**self._settings.postgresql()) as connection:
            there = {number for (number,) in connection.execute("SELECT number FROM gameday")}
        return sum(write.number not in there for write in self.acknowledged + self.by_node)

    def _next(self) -> int:
        with self._numbering:
            self._number += 1
            return self._number

    def _write(self) -> None:
        while not self._over.is_set():
            try:
                with self._pools.connection() as connection:
                    self.acknowledged.append(self._insert(connection))
                self._over.wait(PAUSE_S)
            except ChatDataError as error:
                self.refused.append(str(error).strip())
                self._over.wait(REST_S)

    def _write_at(self, node: str, way: dict[str, Any]) -> None:
        while not self._over.is_set():
            with suppress(psycopg.Error), psycopg.connect(**way) as connection:
                while not self._over.is_set():
                    self.by_node.append(self._insert(connection, node))
                    self._over.wait(0.1)
            self._over.wait(REST_S)

    def _insert(self, connection: psycopg.Connection[Any], node: str = "") -> Acknowledged:
        number, sent = self._next(), time.monotonic()
        self._busy[id(connection)] = (sent, connection)
        try:
            connection.execute("INSERT INTO gameday VALUES (%s)", [number])
        finally:
            del self._busy[id(connection)]
        return Acknowledged(number, sent, time.monotonic(), node)

    def _cut_what_hangs(self) -> None:
        """A frozen host still holds its connections: whoever waits for it has to give up by himself."""
        while not self._over.wait(0.2):
            for sent, connection in list(self._busy.values()):
                if time.monotonic() - sent > TIMEOUT_S:
                    with suppress(psycopg.Error, OSError):
                        socket.socket(fileno=os.dup(connection.fileno())).shutdown(socket.SHUT_RDWR)


class Tokens(Writer):
    """Refresh tokens of users that sign in, through chatdata and Sentinel."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._redis = Pools(settings).sessions
        self._store = RefreshTokens(
            self._redis, [SecretBytes(b"k" * 32)], replicas=settings.redis_sessions_replicas
        )
        self._given: list[RefreshToken] = []
        self._threads = [threading.Thread(target=self._write)]

    def lost(self) -> int:
        """How many of the tokens that were given out are unknown now."""
        unknown = 0
        for start in range(0, len(self._given), 1000):
            with self._redis.pipeline(transaction=False) as pipeline:
                for token in self._given[start : start + 1000]:
                    pipeline.exists(f"refresh_token:{token.user_id}")
                unknown += pipeline.execute().count(0)
        return unknown

    def _write(self) -> None:
        while not self._over.is_set():
            sent = time.monotonic()
            try:
                self._given.append(self._store.issue(uuid4(), "device"))
            except ChatDataError as error:
                self.refused.append(str(error))
            else:
                self.acknowledged.append(Acknowledged(len(self._given), sent, time.monotonic()))
            self._over.wait(PAUSE_S)
