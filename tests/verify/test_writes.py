"""What the application writes, through its own path."""

from __future__ import annotations

import time
import uuid

import psycopg
import pytest

pytestmark = pytest.mark.writes


@pytest.fixture
def room(connect):
    """(connection, room id, user id) of a room that goes again with its messages."""
    connection = connect("chat_app")
    name = uuid.uuid4().hex
    user = connection.execute(
        "INSERT INTO users (email, password_hash, username) VALUES (%s, 'hash', %s) RETURNING id",
        [f"{name}@example.com", name],
    ).fetchone()[0]
    room = connection.execute(
        "INSERT INTO rooms (name, created_by) VALUES ('verify', %s) RETURNING id", [user]
    ).fetchone()[0]
    yield connection, room, user
    connection.execute("DELETE FROM rooms WHERE id = %s", [room])
    connection.execute("DELETE FROM users WHERE id = %s", [user])


POST = "INSERT INTO messages (room_id, user_id, content) VALUES (%s, %s, %s) RETURNING seq"


def test_messages_of_a_room_are_numbered_from_one(room, saw):
    connection, room_id, user = room
    seqs = [connection.execute(POST, [room_id, user, "hello"]).fetchone()[0] for _ in range(3)]
    saw([1, 2, 3], seqs)


def test_same_email_in_capitals_is_refused(room, saw):
    connection, _, user = room
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        connection.execute(
            "INSERT INTO users (email, password_hash, username)"
            " SELECT upper(email), 'hash', 'verify-twin' FROM users WHERE id = %s",
            [user],
        )
    saw("idx_users_email_lower", refused.value.diag.constraint_name)


def test_deleted_author_leaves_the_message(room, saw):
    connection, room_id, user = room
    connection.execute(POST, [room_id, user, "hello"])
    connection.execute("DELETE FROM users WHERE id = %s", [user])
    seen = connection.execute("SELECT user_id FROM messages WHERE room_id = %s", [room_id]).fetchone()[0]
    saw(None, seen)


def test_edit_moves_updated_at_and_a_message_does_not(room, saw):
    connection, room_id, user = room

    def updated():
        return connection.execute("SELECT updated_at FROM rooms WHERE id = %s", [room_id]).fetchone()[0]

    first = updated()
    connection.execute(POST, [room_id, user, "hello"])
    after_message = updated()
    connection.execute("UPDATE rooms SET description = 'edited' WHERE id = %s", [room_id])
    saw((True, True), (after_message == first, updated() > first))


def test_refresh_token_is_kept_for_seven_days(master_connect, saw):
    client = master_connect("tokens")
    client.set("refresh_token:verify", "digest", ex=7 * 24 * 60 * 60)
    saw(
        (True, "digest"),
        (client.ttl("refresh_token:verify") > 604_000, client.getdel("refresh_token:verify")),
    )


def test_expiry_of_a_typing_indicator_is_announced(master_connect, saw):
    listener = master_connect("presence").pubsub(ignore_subscribe_messages=True)
    listener.subscribe("__keyevent@0__:expired")
    listener.get_message(timeout=5)
    master_connect("presence").set("typing:verify:me", "true", px=50)
    message = None
    deadline = time.monotonic() + 10
    while message is None and time.monotonic() < deadline:
        message = listener.get_message(timeout=1)
    saw("typing:verify:me", message and message["data"])
