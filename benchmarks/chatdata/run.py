"""The repositories and stores beside their drivers alone and beside SQLAlchemy Core, as chat_app by TLS.

python benchmarks/chatdata/run.py [-i INVENTORY] [--host NAME] [--rounds N] [--calls N]
make bench runs it on its own host; docs/explanation/figures.md says how to read it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import redis
import sqlalchemy as sa
from psycopg.rows import class_row, dict_row, namedtuple_row, tuple_row
from pydantic import SecretBytes

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.chatdata.round_trips import round_trips
from chatdata._redis import Script, milliseconds
from chatdata.models import Message, MyRoom, Room
from chatdata.repositories import Messages, Rooms, Users
from chatdata.stores import RefreshTokens
from chatdata.tokens import RefreshTokenKeys

PROJECT = Path(__file__).resolve().parents[2]
ROOMS, MESSAGES, PAGE = 20, 1000, 50
POST, PAGING, MY_ROOMS = "post", "page of 50", "my rooms (20)"
CONTENT = "What a message of middling length looks like, with a second thought at its end."
OURS, SQLALCHEMY = "chatdata", "SQLAlchemy Core"
# What psycopg alone makes of a row, from the least to what chatdata gives, an instance of the model.
ROWS: dict[str, Any] = {
    "psycopg, tuples": tuple_row,
    "psycopg, named tuples": namedtuple_row,
    "psycopg, dicts": dict_row,
    "psycopg, models": class_row(Message),
}

Call = Callable[[], Any]
Comparison = dict[str, Call]  # contestant -> the same thing done its way

TABLES = sa.MetaData()
MESSAGE = sa.Table(
    "messages", TABLES,
    *(sa.Column(name, sa.Uuid) for name in ("id", "room_id", "user_id")),
    *(sa.Column(name, sa.DateTime(timezone=True)) for name in ("created_at", "edited_at", "deleted_at")),
    sa.Column("seq", sa.BigInteger), sa.Column("content", sa.Text),
)  # fmt: skip
ROOM = sa.Table(
    "rooms", TABLES,
    *(sa.Column(name, sa.Uuid) for name in ("id", "created_by")),
    *(sa.Column(name, sa.DateTime(timezone=True)) for name in ("created_at", "updated_at")),
    *(sa.Column(name, sa.Text) for name in ("name", "description")),
    sa.Column("is_private", sa.Boolean), sa.Column("last_seq", sa.BigInteger),
)  # fmt: skip
MEMBER = sa.Table(
    "room_users", TABLES,
    *(sa.Column(name, sa.Uuid) for name in ("room_id", "user_id")),
    sa.Column("role", sa.Text), sa.Column("last_read_seq", sa.BigInteger),
)  # fmt: skip


class Keeping(psycopg.Cursor[Any]):
    """Keeps the last statement and its values on the connection: psycopg alone is to send the very same."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        vars(self.connection)["last"] = query, params
        return super().execute(query, params, **options)


def contract(inventory: Path, host: str | None) -> dict[str, Any]:
    """The host's variables; of the inventory's first host where none is named."""
    listed = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "-i", inventory, "--list"],
        cwd=PROJECT, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    hosts: dict[str, dict[str, Any]] = json.loads(listed.stdout)["_meta"]["hostvars"]
    return hosts[host or next(iter(hosts))] | {"ca": str(inventory / "ca.pem")}


def postgresql(variables: dict[str, Any]) -> dict[str, Any]:
    """What all contestants connect with."""
    return {
        "host": variables["ansible_host"],
        "port": 6432,
        "dbname": "chat",
        "user": "chat_app",
        "password": variables["vault_postgresql_chat_app_password"],
        "sslmode": "verify-full",
        "sslrootcert": variables["ca"],
        "prepare_threshold": 5 if variables["containers_release"] != "bookworm" else None,
        "autocommit": True,
    }


@contextmanager
def full_rooms(options: dict[str, Any]) -> Iterator[tuple[UUID, UUID]]:
    """A user with ROOMS rooms of MESSAGES messages each, and one of the rooms; they go afterwards."""
    name = f"bench-{uuid4()}"
    with psycopg.connect(**options) as connection:
        user = Users(connection).create(email=f"{name}@example.net", username=name, password_hash=name).id
        rooms = [Rooms(connection).create(user, name=f"room {nr}").id for nr in range(ROOMS)]
        try:
            for room in rooms:
                Messages(connection).post_many(room, [{"user_id": user, "content": CONTENT}] * MESSAGES)
            yield user, rooms[0]
        finally:
            for room in rooms:
                Rooms(connection).delete(room)
            connection.execute("DELETE FROM users WHERE id = %s", [user])


def by_repository(connection: psycopg.Connection[Any], user: UUID, room: UUID) -> dict[str, Call]:
    """The operations as an application calls them; they give models."""
    messages, rooms = Messages(connection), Rooms(connection)
    return {
        POST: lambda: messages.post(room, user, CONTENT),
        PAGING: lambda: messages.before(room, MESSAGES - PAGE, limit=PAGE),
        MY_ROOMS: lambda: rooms.of_user(user),
    }


def by_psycopg(connection: psycopg.Connection[Any], statement: tuple[Any, Any]) -> Comparison:
    """The same statement sent by psycopg alone, binary as chatdata has it, with each kind of row."""

    def call(row_factory: Any) -> Call:
        return lambda: connection.cursor(row_factory=row_factory, binary=True).execute(*statement).fetchall()

    return {name: call(factory) for name, factory in ROWS.items()}


def by_sqlalchemy(connection: sa.Connection, user: UUID, room: UUID) -> dict[str, Call]:
    """The same in SQLAlchemy's words, which gives its own rows."""

    def shown() -> list[Any]:
        content = sa.case((MESSAGE.c.deleted_at.is_(None), MESSAGE.c.content), else_="").label("content")
        return [content if name == "content" else MESSAGE.c[name] for name in Message.model_fields]

    def post() -> Any:
        new = MESSAGE.insert().values(room_id=room, user_id=user, content=CONTENT).returning(*shown())
        return connection.execute(new).all()

    def page() -> Any:
        where = MESSAGE.c.room_id == room, MESSAGE.c.seq < MESSAGES - PAGE
        rows = sa.select(*shown()).where(*where).order_by(MESSAGE.c.seq.desc()).limit(PAGE)
        return connection.execute(rows).all()

    def my_rooms() -> Any:
        message = sa.select(*shown()).where(MESSAGE.c.room_id == ROOM.c.id).order_by(MESSAGE.c.seq.desc())
        last = message.limit(1).lateral()
        unread = sa.func.greatest(ROOM.c.last_seq - MEMBER.c.last_read_seq, 0)
        rows = (
            sa.select(MEMBER.c.role, unread, *(ROOM.c[name] for name in Room.model_fields), *last.c)
            .select_from(MEMBER.join(ROOM, ROOM.c.id == MEMBER.c.room_id).outerjoin(last, sa.true()))
            .where(MEMBER.c.user_id == user)
            .order_by(sa.func.coalesce(last.c.created_at, ROOM.c.created_at).desc(), ROOM.c.id)
        )
        return connection.execute(rows).all()

    return {POST: post, PAGING: page, MY_ROOMS: my_rooms}


def values(name: str, answer: Any) -> list[tuple[Any, ...]]:
    """An answer's rows as plain values, in one order, without what each post has for itself."""
    rows = answer if isinstance(answer, list) else [answer]
    if isinstance(rows[0], MyRoom):
        rows = [
            (row.role, row.unread, *vars(row.room).values(), *vars(row.last_message).values()) for row in rows
        ]
    found = [
        tuple(
            row.values() if isinstance(row, dict) else vars(row).values() if isinstance(row, Message) else row
        )
        for row in rows
    ]
    return [row[3:5] for row in found] if name == POST else sorted(found, key=lambda row: row[2])


def refresh(variables: dict[str, Any], user: UUID, calls: int) -> Comparison:
    """A session's rotations by the store, and by redis-py alone, whose digests were made beforehand."""
    client = redis.Redis(
        host=variables["ansible_host"], port=6380, username="chat_app_sessions",
        password=variables["vault_redis_chat_app_sessions_password"], ssl=True, ssl_ca_certs=variables["ca"],
    )  # fmt: skip
    keys = [SecretBytes(os.urandom(32))]
    store, tokens = RefreshTokens(client, keys, replicas=0, ttl_s=600), RefreshTokenKeys(keys)
    ours, token, sha = store.issue(user, "phone"), store.issue(user, "desk"), Script.load("rotate").sha
    newest = f"refresh_token:{user}"
    names = [newest, f"{newest}:sessions", f"{newest}:session:{token.session_id}"]
    digests = [token.digest]
    for _ in range(calls):
        token = tokens.successors(token)[0]
        digests.append(token.digest)
    chain = iter(pairwise(digests))

    def rotate() -> Any:
        nonlocal ours
        ours = store.rotate(ours.value)
        return 1

    def alone() -> Any:
        before, after = next(chain)
        words = str(token.session_id), before, milliseconds(600), 10_000, after
        return client.evalsha(sha, 3, *names, *words)

    return {OURS: rotate, "redis-py": alone}


def measure(comparison: Comparison, calls: int) -> dict[str, float]:
    """Microseconds of each contestant's call: medians of `calls` that take turns in an order by chance.

    In a fixed order the one behind the heaviest would always find the caches cold.
    """
    taken: dict[str, list[int]] = {name: [] for name in comparison}
    gc.collect()
    for nr in range(calls):
        order = list(comparison.items())
        random.Random(nr).shuffle(order)  # noqa: S311  an order, not a secret
        for name, call in order:
            began = time.perf_counter_ns()
            call()
            taken[name].append(time.perf_counter_ns() - began)
    return {name: statistics.median(times) / 1000 for name, times in taken.items()}


def spread(figures: list[float], form: str) -> str:
    return " ".join(f"{figure:{form}}" for figure in (min(figures), statistics.median(figures), max(figures)))


def compare(name: str, comparison: Comparison, rounds: int, calls: int) -> None:
    """Measure and print a row for each contestant."""
    for _ in range(10):  # prepared, compiled, the rows in memory
        answers = [call() for call in comparison.values()]
    if name != "refresh" and any(values(name, answer) != values(name, answers[0]) for answer in answers):
        raise SystemExit(f"{name}: the contestants' answers differ")
    found = [measure(comparison, calls) for _ in range(rounds)]
    for contestant in comparison:
        times = [figures[contestant] for figures in found]
        ratios = [figures[OURS] / figures[contestant] for figures in found]
        beside = "" if contestant == OURS else f"   {OURS} takes {spread(ratios, '5.2f')} x"
        print(f"{name:14} {contestant:22} {spread(times, '7.0f')} us{beside}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-i", "--inventory", type=Path, default=PROJECT / "benchmarks/inventory")
    parser.add_argument("--host", help="the inventory's first where none is named")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=100, help="of each contestant in a round")
    told = parser.parse_args()
    variables = contract(told.inventory, told.host)
    options = postgresql(variables)
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**options), isolation_level="AUTOCOMMIT"
    )
    with (
        full_rooms(options) as (user, room),
        psycopg.connect(**options, cursor_factory=Keeping) as connection,
        engine.connect() as theirs,
    ):
        ours, sqlalchemy, sent = by_repository(connection, user, room), by_sqlalchemy(theirs, user, room), {}
        for name, call in ours.items():
            call()
            sent[name] = vars(connection)["last"]
        connection.cursor_factory = psycopg.Cursor
        print("microseconds a call: least, median, most of the rounds; autocommit, so no BEGIN and no COMMIT")
        for name, call in ours.items():
            alone = by_psycopg(connection, sent[name])
            if name == MY_ROOMS:  # two tables share names of columns: only tuples hold them all
                alone = dict(list(alone.items())[:1])
            compare(name, {OURS: call, **alone, SQLALCHEMY: sqlalchemy[name]}, told.rounds, told.calls)
            print(f"{name:14} {OURS}: {round_trips(connection.pgconn, call)} round trip")
        compare(
            "refresh",
            refresh(variables, user, (told.rounds + 1) * (told.calls + 10)),
            told.rounds,
            told.calls,
        )


if __name__ == "__main__":
    main()
