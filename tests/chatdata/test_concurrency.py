"""What several connections do at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from chatdata.errors import AlreadyExists, Conflict, Timeout, Unavailable
from chatdata.models import Message
from chatdata.repositories import Messages, Rooms, RoomUsers

WRITERS, POSTS = 8, 250
PATIENCE_S = 30  # after which a condition counts as never met; nothing is measured by it


@pytest.fixture
def connect(tier) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Opens connections of the application's, closed after the test: connect(autocommit=False)."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(psycopg.connect(**tier.postgresql(**more)))


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def wait_for_a_waiter(connection: psycopg.Connection[Any], holder: psycopg.Connection[Any]) -> None:
    """Wait until another connection waits for a lock that `holder`, in a transaction, has."""
    statement = "SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    pid = holder.execute("SELECT pg_backend_pid()").fetchone()[0]
    deadline = time.monotonic() + PATIENCE_S
    while connection.execute(statement, [pid]).rowcount == 0:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.02)


def test_forward_reader_misses_none_of_eight_writers(connect, room, user, background):
    written = threading.Event()

    def write(nr: int) -> list[UUID]:
        connection = connect()
        ids = []
        for n in range(POSTS):
            with connection.transaction():  # so that some time passes between the number and the commit
                ids.append(Messages(connection).post(room.id, user.id, f"{nr}: {n}").id)
        return ids

    def read() -> list[Message]:
        messages, seen = Messages(connect()), []
        while True:
            last_look = written.is_set()
            page = messages.after(room.id, seen[-1].seq if seen else 0)
            seen += page
            if not page:
                if last_look:
                    return seen
                written.wait(0.005)

    reader = background.submit(read)
    try:
        posted = [id for ids in background.map(write, range(WRITERS)) for id in ids]
    finally:
        written.set()
    seen = reader.result()
    assert sorted(message.id for message in seen) == sorted(posted)
    assert [message.seq for message in seen] == list(range(1, WRITERS * POSTS + 1))


def test_member_added_twice_at_once_is_new_once(connect, room, make_user, background, connection):
    ann, first, second = make_user(), connect(), connect()
    with first.transaction():
        assert RoomUsers(first).add(room.id, ann.id) is True
        other = background.submit(RoomUsers(second).add, room.id, ann.id)
        wait_for_a_waiter(connection, first)
    assert other.result() is False
    assert [member.user_id for member in RoomUsers(second).members(room.id)].count(ann.id) == 1


def test_same_id_posted_twice_at_once_is_one_message(connect, room, user, background, connection):
    id, first, second = uuid4(), connect(), connect()
    with first.transaction():
        message = Messages(first).post(room.id, user.id, "hello", id=id)
        other = background.submit(Messages(second).post, room.id, user.id, "hello", id=id)
        wait_for_a_waiter(connection, first)
    with pytest.raises(AlreadyExists) as refused:
        other.result()
    assert refused.value.field == "id"
    assert Messages(second).post(room.id, user.id, "hello", id=id) == message
    assert Rooms(second).by_id(room.id).last_seq == 1


@pytest.mark.parametrize(("limit", "sqlstate"), [("lock_timeout", "55P03"), ("statement_timeout", "57014")])
def test_limit_that_runs_out_is_a_timeout(connect, room, user, limit, sqlstate):
    first, second = connect(), connect(autocommit=False)
    second.execute(f"SET LOCAL {limit} = '50ms'")
    with first.transaction():
        Messages(first).post(room.id, user.id, "hello")
        with pytest.raises(Timeout) as refused:
            Messages(second).post(room.id, user.id, "hello")
    assert refused.value.sqlstate == sqlstate


def test_deadlock_is_a_conflict_for_one_of_two(connect, room, user, background):
    other = Rooms(connect()).create(user.id, name="hall")
    met = threading.Barrier(2)

    def post(connection: psycopg.Connection[Any], rooms: list[UUID]) -> str | None:
        try:
            with connection.transaction():
                Messages(connection).post(rooms[0], user.id, "hello")
                met.wait(PATIENCE_S)
                Messages(connection).post(rooms[1], user.id, "hello")
        except Conflict as error:
            return error.sqlstate
        return None

    orders = [room.id, other.id], [other.id, room.id]
    pair = [connect(), connect()]
    ends = list(map(background.submit, [post, post], pair, orders))
    assert sorted(str(end.result()) for end in ends) == ["40P01", "None"]


def test_failed_serialization_is_a_conflict(connect, room, user):
    first, second = connect(), connect(autocommit=False)
    second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    Rooms(second).by_id(room.id)
    Messages(first).post(room.id, user.id, "hello")
    with pytest.raises(Conflict) as refused:
        Messages(second).post(room.id, user.id, "hello")
    assert refused.value.sqlstate == "40001"


def test_lost_connection_is_unavailable(connect, room, connection):
    lost = connect(autocommit=False)
    pid = lost.execute("SELECT pg_backend_pid()").fetchone()[0]
    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    for _ in range(2):  # as it is cut, and closed
        with pytest.raises(Unavailable):
            Rooms(lost).by_id(room.id)
