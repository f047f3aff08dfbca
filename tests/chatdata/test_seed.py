"""`chatdata seed` on a provisioned host: what it adds, and what a killed run leaves."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from chatdata.errors import AlreadyExists
from chatdata.passwords import verify_password
from chatdata.plan import Counts, Plan, Rows
from chatdata.repositories import Messages, Rooms, RoomUsers, Users
from chatdata.seed import seed

from ..molecule.runs import PROJECT

# Small batches; dies, where it is told to, as it writes a row.
PROGRAM = """
import itertools, os, signal, sys
import psycopg
import chatdata.seed
from chatdata.cli import main

chatdata.seed.BATCH = 500
kill_at, write_row, written = int(sys.argv.pop(1)), psycopg.Copy.write_row, itertools.count(1)

def write(copy, row):
    if next(written) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    write_row(copy, row)

psycopg.Copy.write_row = write
sys.exit(main(sys.argv[1:]))
"""


class Seeding:
    """A plan of the test's own, and the command for it."""

    def __init__(self, tier: Any, connection: psycopg.Connection[Any]) -> None:
        self.plan = Plan(users=300, rooms=7, messages=3000, random_seed=random.randrange(2**63))
        print("random seed", self.plan.random_seed)
        self.rows, self.connection, self._tier = Rows(self.plan), connection, tier
        self.rooms = [row[0] for row in self.rows.rooms()]

    def start(self, *options: str, kill_at: int = 0, **more: Any) -> subprocess.Popen[str]:
        numbers = self.plan.model_dump(include={"users", "rooms", "messages", "random_seed"})
        given = [f"--{name.replace('_', '-')}={value}" for name, value in numbers.items()]
        contract = {
            f"CHAT_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in self._tier.settings
            if value is not None
        }
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(kill_at), "seed", *given, *options], cwd=PROJECT, text=True,
            env={**os.environ, **contract, "CHAT_PRODUCTION": "false"},
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )  # fmt: skip

    def run(self, *options: str, stdin: str = "") -> str:
        """What the command prints; it must succeed, and has no progress bar, as this is no terminal."""
        process = self.start(*options)
        said, complained = process.communicate(stdin)
        assert (process.returncode, complained) == (0, "")
        return said

    def stored(self) -> list[list[tuple[Any, ...]]]:
        """The rows of the plan in the database, as Rows has them."""
        ask = self.connection.execute
        users = ask(
            "SELECT id, email, username, avatar_url, created_at, updated_at FROM users WHERE id = ANY(%s)",
            [self.rows.user_ids],
        )
        rooms = ask(
            "SELECT id, name, description, is_private, created_by, created_at, updated_at FROM rooms"
            " WHERE id = ANY(%s)", [self.rooms],
        )  # fmt: skip
        messages = ask(
            "SELECT id, room_id, user_id, content, created_at, edited_at, deleted_at FROM messages"
            " WHERE room_id = ANY(%s)", [self.rooms],
        )  # fmt: skip
        members = ask(
            "SELECT room_id, user_id, role, last_read_seq, joined_at FROM room_users WHERE room_id = ANY(%s)",
            [self.rooms],
        )
        return [sorted(kind.fetchall()) for kind in (users, rooms, messages, members)]

    def wanted(self) -> list[list[tuple[Any, ...]]]:
        rows = self.rows
        return [sorted(kind) for kind in (rows.users(), rows.rooms(), rows.messages(), rows.memberships())]

    def seqs(self) -> list[tuple[Any, ...]]:
        """(room, seq, id) of all messages, in that order."""
        return self.connection.execute(
            "SELECT room_id, seq, id FROM messages WHERE room_id = ANY(%s) ORDER BY room_id, seq",
            [self.rooms],
        ).fetchall()

    def assert_sound(self) -> None:
        """Numbers have no gap and end at last_seq, whatever is there so far; nobody has read what is not."""
        wrong = self.connection.execute(
            "SELECT rooms.id, last_seq, count(seq), max(seq)"
            " FROM rooms LEFT JOIN messages ON room_id = rooms.id WHERE rooms.id = ANY(%s) GROUP BY rooms.id"
            " HAVING last_seq <> count(seq) OR last_seq <> coalesce(max(seq), 0)",
            [self.rooms],
        ).fetchall()
        ahead = self.connection.execute(
            "SELECT FROM room_users JOIN rooms ON rooms.id = room_id"
            " WHERE rooms.id = ANY(%s) AND last_read_seq > last_seq",
            [self.rooms],
        )
        assert (wrong, ahead.rowcount) == ([], 0)

    def remove(self) -> None:
        self.connection.execute("DELETE FROM rooms WHERE id = ANY(%s)", [self.rooms])
        self.connection.execute("DELETE FROM users WHERE id = ANY(%s)", [self.rows.user_ids])


@pytest.fixture
def seeding(tier: Any, connection: psycopg.Connection[Any]) -> Iterator[Seeding]:
    """A plan of its own, whose rows go after the test."""
    made = Seeding(tier, connection)
    yield made
    made.remove()


def test_adds_the_plan_and_a_second_time_nothing(seeding, room, user):
    Messages(seeding.connection).post(room.id, user.id, "the application's own")
    before = Rooms(seeding.connection).by_id(room.id)
    counts = seeding.rows.counts
    said = seeding.run()
    assert said == f"Added 300 users, 7 rooms, {counts.memberships} memberships, 3000 messages\n"
    assert seeding.stored() == seeding.wanted()
    seeding.assert_sound()
    first = seeding.seqs()
    wanted = {row[0]: place for place, row in enumerate(seeding.rows.messages())}
    for one, next_one in pairwise(first):
        assert one[0] != next_one[0] or wanted[one[2]] < wanted[next_one[2]]
    assert seeding.run() == f"Nothing to add: all {sum(counts)} rows are there already\n"
    assert (seeding.stored(), seeding.seqs()) == (seeding.wanted(), first)
    assert Rooms(seeding.connection).by_id(room.id) == before


# Users 300, rooms 7, messages 3000, memberships 600 or so: amid each, and where a transaction begins.
@pytest.mark.parametrize("kill_at", [1, 299, 304, 308, 1100, 1308, 3307, 3308, 3400])
def test_a_killed_run_leaves_sound_rows_and_the_next_adds_the_rest(seeding, kill_at):
    killed = seeding.start(kill_at=kill_at)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    seeding.assert_sound()
    users, rooms, messages, members = seeding.stored()
    assert not members or len(messages) == seeding.plan.messages
    said = seeding.run()
    assert said.startswith(f"Added {300 - len(users)} users, {7 - len(rooms)} rooms, ")
    assert said.endswith(f", {3000 - len(messages)} messages\n")
    assert seeding.stored() == seeding.wanted()
    seeding.assert_sound()


def test_what_the_application_did_meanwhile_stays(seeding, user):
    seeding.start(kill_at=1400).communicate()
    Messages(seeding.connection).post(seeding.rooms[0], user.id, "is anybody there?")
    RoomUsers(seeding.connection).add(seeding.rooms[0], user.id)
    Rooms(seeding.connection).delete(seeding.rooms[2])
    seeding.run()
    seeding.assert_sound()
    there = [set(kind) for kind in seeding.stored()]
    assert all(set(wanted) <= kind for wanted, kind in zip(seeding.wanted(), there, strict=True))
    assert sum(map(len, there)) == sum(seeding.rows.counts) + 2


def test_two_at_once_share_the_work(seeding):
    both = [seeding.start(), seeding.start()]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert seeding.stored() == seeding.wanted()
    seeding.assert_sound()


def test_users_can_log_in_only_with_a_password_that_was_given(seeding):
    seeding.run()
    somebody = Users(seeding.connection).by_id(seeding.rows.user_ids[0])
    assert not verify_password("!", somebody.password_hash)
    seeding.connection.execute("DELETE FROM users WHERE id = %s", [somebody.id])
    said = seeding.run("--password-from-stdin", stdin="correct horse\n")
    assert "299 users were there already and keep the password they had" in said
    hashes = [Users(seeding.connection).by_id(id).password_hash for id in seeding.rows.user_ids[:2]]
    assert [verify_password("correct horse", hash) for hash in hashes] == [True, False]


def test_a_name_that_somebody_else_has_is_said(seeding, make_user):
    make_user(username=next(seeding.rows.users())[2])
    with pytest.raises(AlreadyExists) as refused:
        seed(seeding.connection, seeding.plan)
    assert refused.value.field == "username"
    assert seeding.stored() == [[], [], [], []]


def test_progress_adds_up_and_batches_are_bounded(seeding, monkeypatch):
    monkeypatch.setattr("chatdata.seed.BATCH", 1000)
    steps: list[int] = []
    added = seed(seeding.connection, seeding.plan, progress=steps.append)
    assert added == Counts(*seeding.rows.counts)
    assert (sum(steps), max(steps)) == (sum(added), 1000)


def test_a_terminal_shows_progress(seeding):
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = seeding.start(stderr=end)
    os.close(end)
    process.communicate()
    assert "rows" in os.read(terminal, 100_000).decode()
    os.close(terminal)
