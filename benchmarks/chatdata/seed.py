"""Seeding beside a bare COPY of the same messages, on the hosts of the inventory in CHATDATA_INVENTORY.

python benchmarks/chatdata/seed.py [--messages N] [--rounds N]

  seed        the whole of it: makes its rows, adds users, rooms and members too, through PgBouncer, in
              transactions of 10,000 rows
  bare COPY   the same messages, ready-made, by one COPY on a direct connection into the real table, with its
              trigger, indexes and foreign keys: all that a loader could reach
  plain       that COPY into a table without any of these, for scale

In each round one after the other, each on a vacuumed table: what counts is the ratio within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import yaml

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from chatdata.plan import Plan, Rows  # noqa: E402  of this tree
from chatdata.seed import MESSAGES, seed  # noqa: E402
from tests.molecule.runs import Environment  # noqa: E402

INVENTORY = PROJECT / os.environ.get("CHATDATA_INVENTORY", "molecule/default/inventory")
PLAIN = "benchmark_plain"


def main() -> None:
    """Run the rounds on each host and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    groups = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    network = yaml.safe_load((INVENTORY / "group_vars/containers.yml").read_text())["containers_network"]
    environment = Environment(INVENTORY, network, tuple(groups["postgresql"]["hosts"]))
    plan = Plan(users=1000, rooms=100, messages=options.messages, random_seed=time.time_ns())
    ready = list(encoded(Rows(plan)))
    print(f"{plan.messages} messages in {plan.rooms} rooms of {plan.users} users; messages a second")
    for name in environment.hosts:
        host = Host(environment, name, plan)
        try:
            host.start()
            rates = [host.round(ready) for _ in range(options.rounds)]
        finally:
            host.clear()
        for other in ("bare COPY", "plain"):
            ratios = sorted(rate["seed"] / rate[other] for rate in rates)
            middle, spread = statistics.median(ratios), f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"{name}: seed / {other}: {middle:.2f} ({spread})")


class Host:
    """A host of the environment, with nothing of the plan in it before a round and after."""

    def __init__(self, environment: Environment, name: str, plan: Plan) -> None:
        self._environment, self._name, self._plan, rows = environment, name, plan, Rows(plan)
        self._rooms, self._users = [row[0] for row in rows.rooms()], rows.user_ids
        self._password = environment.secrets()["vault_postgresql_chat_app_password"]

    def start(self) -> None:
        """Make the plain table."""
        columns = ", ".join(f"{name} {kind}" for name, kind in MESSAGES.items())
        self._sql(f"CREATE TABLE {PLAIN} ({columns}); GRANT INSERT ON {PLAIN} TO chat_app")

    def round(self, ready: list[bytes]) -> dict[str, float]:
        """Messages a second of each contestant; printed too."""
        took = {}
        with self._connect(6432) as connection:
            took["seed"] = seconds(partial(seed, connection, self._plan))
        # The rooms keep their last_seq: the numbers of the messages stay reserved.
        self._direct("DELETE FROM messages WHERE room_id = ANY(%s)", self._rooms)
        for name, table in (("bare COPY", "messages"), ("plain", PLAIN)):
            with self._connect(5432) as connection:
                connection.execute("SET statement_timeout = 0")
                self._sql("VACUUM messages; CHECKPOINT")
                took[name] = seconds(partial(copy, connection, table, ready))
        self._remove()
        rates = {name: self._plan.messages / time_s for name, time_s in took.items()}
        print(f"{self._name}:", ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()), flush=True)
        return rates

    def clear(self) -> None:
        """Remove what a round or its interruption left."""
        self._remove()
        self._sql(f"DROP TABLE IF EXISTS {PLAIN}")

    def _remove(self) -> None:
        self._direct("DELETE FROM messages WHERE room_id = ANY(%s)", self._rooms)
        self._direct("DELETE FROM rooms WHERE id = ANY(%s)", self._rooms)
        self._direct("DELETE FROM users WHERE id = ANY(%s)", self._users)
        self._sql(f"TRUNCATE {PLAIN}; VACUUM messages, rooms, users, room_users; CHECKPOINT")

    def _direct(self, statement: str, ids: list[UUID]) -> None:
        with self._connect(5432) as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute(statement, [ids])

    def _sql(self, statements: str) -> None:
        for statement in statements.split("; "):
            self._environment.psql(self._name, statement)

    def _connect(self, port: int) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=self._environment.address(self._name), port=port, dbname="chat", user="chat_app",
            password=self._password, sslmode="verify-full", sslrootcert=str(INVENTORY / "ca.pem"),
            autocommit=True, prepare_threshold=None,
        )  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def copy(connection: psycopg.Connection[Any], table: str, blocks: list[bytes]) -> None:
    """Hand over a binary COPY as it is."""
    statement = f"COPY {table} ({', '.join(MESSAGES)}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement) as writer:
        for block in blocks:
            writer.write(block)


def encoded(rows: Rows) -> Iterator[bytes]:
    """PostgreSQL's binary COPY of the messages, in blocks of a thousand rows or so."""
    seqs: Counter[UUID] = Counter()
    block = bytearray(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    for number, row in enumerate(rows.messages()):
        seqs[row[1]] += 1
        block += struct.pack("!h", len(MESSAGES)) + b"".join(map(field, (*row, seqs[row[1]])))
        if number % 1000 == 0:
            yield bytes(block)
            block.clear()
    yield bytes(block) + b"\xff\xff"


def field(value: Any) -> bytes:
    """A value of a row: its length, itself."""
    if value is None:
        return struct.pack("!i", -1)
    if isinstance(value, UUID):
        data = value.bytes
    elif isinstance(value, str):
        data = value.encode()
    elif isinstance(value, datetime):
        data = struct.pack("!q", (value - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    else:
        data = struct.pack("!q", value)
    return struct.pack("!i", len(data)) + data


if __name__ == "__main__":
    main()
