"""Who types, on the provisioned Redis `realtime`."""

from __future__ import annotations

from uuid import uuid4

import pytest

from .redis_tier import until


@pytest.fixture
def make(stores):
    return lambda **options: stores.make("TypingStatus", stores.client("presence"), **options)


def test_typing_is_seen_in_its_room_alone(make):
    room, user, other = uuid4(), uuid4(), uuid4()
    store = make()
    assert store.start(room, user)
    assert not store.start(room, user)
    assert store.start(room, other)
    assert store.who(room) == {user, other}
    assert store.who(uuid4()) == set()
    assert store.stop(room, user)
    assert not store.stop(room, user)
    assert store.who(room) == {other}


def test_seeds_key_lives_for_five_seconds(make, redis_tier):
    room, user = uuid4(), uuid4()
    store = make()
    key = f"typing:{room}:{user}"

    def remaining_ms():
        store.start(room, user)
        value, ttl = redis_tier.ask("presence", f"GET {key}", f"PTTL {key}")
        return int(ttl) if value == "true" else 0

    assert 0 < until(remaining_ms) <= 5000
    store.stop(room, user)
    assert redis_tier.ask("presence", f"EXISTS {key}", f"EXISTS typing:{room}") == ["0", "0"]


def test_typing_ends_unless_it_is_renewed(make, redis_tier):
    room, idle, busy = uuid4(), uuid4(), uuid4()
    long, store = make(ttl_s=60), make(ttl_s=2)
    long.start(room, busy)
    store.start(room, idle)
    assert store.who(room) == {idle, busy}
    until(lambda: store.who(room) == {busy})
    until(lambda: redis_tier.ask("presence", f"EXISTS typing:{room}:{idle}") == ["0"])
    assert store.start(room, idle)
    assert store.who(room) == {idle, busy}


def test_room_is_kept_as_long_as_anybody_types(make):
    room, user = uuid4(), uuid4()
    make(ttl_s=60).start(room, user)
    make(ttl_s=0.1).start(room, uuid4())
    until(lambda: make().who(room) == {user})
