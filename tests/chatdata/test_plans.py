"""What PostgreSQL does for the repositories' statements, with 100,000 messages in a room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from chatdata.repositories import Messages, Rooms, RoomUsers, Users

DEPTH = 100_000
MOST_BUFFERS = 200


class Recorded(psycopg.Cursor[Any]):
    """Keeps what was sent, for all of its connection's cursors, in the connection's `sent`."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self.connection.sent.append((query, params))
        return super().execute(query, params, **options)


class Recording(psycopg.Connection[Any]):
    sent: list[tuple[Any, Any]]


@pytest.fixture(scope="module")
def recording(tier) -> Iterator[Recording]:
    with Recording.connect(**tier.postgresql(), cursor_factory=Recorded) as connection:
        connection.sent = []
        yield connection


@pytest.fixture(scope="module")
def full(tier, recording) -> Iterator[tuple[UUID, UUID]]:
    """A room with DEPTH messages that lie among another room's, and its owner."""
    name = f"user-{uuid4()}"
    owner = Users(recording).create(email=f"{name}@example.net", username=name, password_hash="hash").id
    rooms = [Rooms(recording).create(owner, name=name).id for name in ("full", "other")]
    for start in range(0, DEPTH, 500):
        for room in rooms:
            new = [{"user_id": owner, "content": f"message {n}"} for n in range(start, start + 500)]
            Messages(recording).post_many(room, new)
    tier.environment.psql(tier.name, "ANALYZE users; ANALYZE rooms; ANALYZE room_users; ANALYZE messages")
    yield rooms[0], owner
    for room in rooms:
        Rooms(recording).delete(room)
    recording.execute("DELETE FROM users WHERE id = %s", [owner])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def explain(recording: Recording, call: Any) -> dict[str, Any]:
    """The plan of the one statement that `call` sends, as it was carried out."""
    recording.sent.clear()
    call()
    ((statement, parameters),) = recording.sent
    answer = recording.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
    plan: dict[str, Any] = answer.fetchone()[0][0]["Plan"]
    return plan


@pytest.mark.parametrize("seq", [51, DEPTH // 2, DEPTH - 50])
@pytest.mark.parametrize("page", ["before", "after", "latest"])
def test_page_is_one_index_scan_at_any_depth(full, recording, page, seq):
    room, _ = full
    where = [room] if page == "latest" else [room, seq]
    plan = explain(recording, lambda: getattr(Messages(recording), page)(*where))
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"]]
    assert [(scan["Node Type"], scan["Index Name"]) for scan in scans] == [
        ("Index Scan", "messages_room_id_seq_key")
    ]
    assert plan["Actual Rows"] == 50
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < MOST_BUFFERS


def test_my_rooms_read_one_message_a_room(full, recording):
    plan = explain(recording, lambda: Rooms(recording).of_user(full[1]))
    (scan,) = [node for node in nodes(plan) if node.get("Relation Name") == "messages"]
    assert (scan["Index Name"], scan["Actual Rows"]) == ("messages_room_id_seq_key", 1)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < MOST_BUFFERS


def test_each_call_is_one_statement(full, recording):
    room, owner = full
    messages, members = Messages(recording), RoomUsers(recording)
    posted = messages.post(room, owner, "hello")
    for call in (
        lambda: messages.post(room, owner, "hello"),
        lambda: messages.post(room, owner, "hello", id=uuid4()),
        lambda: messages.post_many(room, [{"user_id": owner, "content": "hello"}] * 10),
        lambda: messages.edit(posted.id, "hello there"),
        lambda: messages.soft_delete(posted.id),
        lambda: messages.latest(room),
        lambda: messages.mark_read(room, owner, posted.seq),
        lambda: members.add(room, owner),
        lambda: members.members(room),
        lambda: Rooms(recording).of_user(owner),
        lambda: Rooms(recording).edit(room, name="hall"),
        lambda: Users(recording).update(owner, avatar_url=None),
    ):
        recording.sent.clear()
        call()
        assert len(recording.sent) == 1
