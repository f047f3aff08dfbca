"""How often the application waits for the network, through PgBouncer and TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretBytes

from benchmarks.chatdata.round_trips import counted, round_trips
from chatdata.errors import Unavailable
from chatdata.repositories import Messages

CALLS: dict[str, Callable[[Any, UUID, UUID], Any]] = {
    "post": lambda chat, room, user: chat.messages.post(room, user, "hello"),
    "post with an id": lambda chat, room, user: chat.messages.post(room, user, "hello", id=uuid4()),
    "latest page": lambda chat, room, _: chat.messages.latest(room),
    "page after": lambda chat, room, _: chat.messages.after(room, 0),
    "my rooms": lambda chat, _, user: chat.rooms.of_user(user),
    "mark read": lambda chat, room, user: chat.messages.mark_read(room, user, 1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_call_is_one_round_trip(chat: Any, room: Any, user: Any, tier: Any, call: Callable[..., Any]):
    connection = chat.connection.pgconn
    trips = [round_trips(connection, lambda: call(chat, room.id, user.id)) for _ in range(8)]
    if tier.settings.prepare_threshold is None:
        assert trips == [1] * 8
    else:  # the sixth prepares the statement, once for a connection
        assert trips == [1] * 5 + [2] + [1] * 2


def test_transaction_costs_two_more(tier: Any, room: Any, user: Any):
    with psycopg.connect(**tier.postgresql()) as connection:

        def post_two() -> None:
            with connection.transaction():
                Messages(connection).post(room.id, user.id, "hello")
                Messages(connection).post(room.id, user.id, "hello again")

        assert round_trips(connection.pgconn, post_two) == 1 + 2 + 1  # BEGIN, the posts, COMMIT


def test_refresh_is_one_evalsha(stores: Any):
    client = stores.client("tokens")
    sent = counted(client)
    tokens = stores.make(
        "RefreshTokens", client, [SecretBytes(b"0123456789abcdef0123456789abcdef")], replicas=0
    )
    token = tokens.rotate(tokens.issue(uuid4(), "phone").value)  # connected; the scripts are in Redis
    sent.clear()
    tokens.rotate(token.value)
    assert [words.split(b"\r\n")[2] for words in sent] == [b"EVALSHA"]
    tokens.revoke_all(token.user_id)


def test_refresh_that_asks_replicas_is_one_round_trip_where_redis_lacks_the_script(
    stores: Any, redis_tier: Any
):
    client = stores.client("tokens")
    sent = counted(client)
    keys = [SecretBytes(b"0123456789abcdef0123456789abcdef")]
    tokens = stores.make("RefreshTokens", client, keys, replicas=1, replicas_timeout_s=0.001)
    for _ in range(2):  # the second time it is connected
        sent.clear()
        redis_tier.ask("tokens", "SCRIPT FLUSH")
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            tokens.issue(uuid4(), "phone")
    (words,) = [packed.split(b"\r\n") for packed in sent]
    assert (words[2], b"WAIT" in words) == (b"EVAL", True)
