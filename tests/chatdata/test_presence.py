"""Who is online, on the provisioned Redis `realtime`."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import contextmanager
from uuid import uuid4

import pytest

from chatdata.errors import Unavailable
from chatdata.stores import AsyncPresence, Change, Presence

from .redis_tier import PATIENCE_S, until


@pytest.fixture
def make(stores):
    return lambda **options: stores.make("Presence", stores.client("presence"), **options)


@contextmanager
def watching(stores, user_ids, **options):
    """The changes of these users, as they come, from an iterator of either kind in a thread of its own."""
    seen: queue.Queue[Change] = queue.Queue()
    stopping = threading.Event()
    client = stores.tier.client(stores.kind, "presence", size=3)

    def note(change):
        if change.user_id in user_ids:
            seen.put(change)

    async def watch():
        async def run():
            async for change in AsyncPresence(client).changes(**options):
                note(change)

        task = asyncio.create_task(run())
        await asyncio.to_thread(stopping.wait)
        task.cancel()
        await asyncio.wait([task])
        await client.aclose()

    def watch_blocking():
        for change in Presence(client).changes(**options):
            note(change)
            if stopping.is_set():
                break
        client.close()

    thread = threading.Thread(
        target=watch_blocking if stores.kind == "sync" else lambda: asyncio.run(watch())
    )
    thread.start()
    try:
        yield lambda: seen.get(timeout=PATIENCE_S)
    finally:
        stopping.set()
        if stores.kind == "sync":  # which ends at its next change
            Presence(stores.tier.client("sync", "presence")).touch(uuid4(), "last")
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_user_is_online_while_any_socket_is(make):
    user = uuid4()
    store = make()
    assert not store.is_online(user)
    assert store.connect(user, "a")
    assert not store.connect(user, "b")
    assert not store.touch(user, "a")
    assert store.is_online(user)
    assert not store.disconnect(user, "a")
    assert store.is_online(user)
    assert store.disconnect(user, "b")
    assert not store.is_online(user)
    assert not store.disconnect(user, "b")


def test_many_are_asked_for_at_once(make):
    here, gone = [uuid4() for _ in range(3)], [uuid4() for _ in range(3)]
    store = make()
    for user in here:
        store.connect(user, "a")
    assert store.online(here + gone) == set(here)
    assert store.online([]) == set()
    assert set(here) <= store.everybody()
    for user in here:
        store.disconnect(user, "a")


def test_seeds_key_lives_for_30_seconds(make, redis_tier):
    user = uuid4()
    store = make()
    store.touch(user, "a")
    value, ttl = redis_tier.ask("presence", f"GET presence:{user}", f"PTTL presence:{user}")
    assert value == "online"
    assert 0 < int(ttl) <= 30_000
    store.disconnect(user, "a")
    keys = [f"presence:{user}", f"presence:{user}:sockets"]
    assert redis_tier.ask("presence", *(f"EXISTS {key}" for key in keys)) == ["0", "0"]


def test_presence_ends_unless_it_is_renewed(make, redis_tier):
    user = uuid4()
    store = make(ttl_s=2)
    store.touch(user, "a")
    assert store.is_online(user)
    until(lambda: not store.is_online(user))
    assert user not in store.everybody()
    until(lambda: redis_tier.ask("presence", f"EXISTS presence:{user}") == ["0"])
    assert make(ttl_s=60).touch(user, "a")
    assert redis_tier.ask("presence", f"ZRANGE presence:{user}:sockets 0 -1") == ["a"]


def test_socket_that_fell_silent_does_not_hold_its_user(make):
    user = uuid4()
    long, short = make(ttl_s=60), make(ttl_s=0.2)
    short.connect(user, "silent")
    long.connect(user, "a")
    until(lambda: short.disconnect(user, "a") or long.connect(user, "a"))
    long.disconnect(user, "a")
    assert not long.is_online(user)


def test_socket_that_fell_silent_is_forgotten(make, redis_tier):
    user = uuid4()
    long, short = make(ttl_s=60), make(ttl_s=0.2)
    short.connect(user, "silent")
    long.connect(user, "a")

    def forgotten():
        long.touch(user, "a")
        return redis_tier.ask("presence", f"ZRANGE presence:{user}:sockets 0 -1") == ["a"]

    until(forgotten)
    assert long.disconnect(user, "a")


def test_user_without_the_socket_that_lasts_longest_goes_when_the_others_do(make):
    user = uuid4()
    long, short = make(ttl_s=60), make(ttl_s=3)
    long.connect(user, "long")
    short.connect(user, "short")
    assert not long.disconnect(user, "long")
    assert long.is_online(user)
    until(lambda: not long.is_online(user))


def test_connect_amid_a_disconnect_is_not_lost(make, stores):
    user = uuid4()
    store = make()
    store.connect(user, "old")
    other = stores.tier.client("sync", "presence")
    intruder = Presence(other)
    original = store._store._redis.transaction

    def interrupted(remove, *watches, **options):
        came = []

        def once(pipeline):
            if not came:
                came.append(intruder.connect(user, "new"))
            return remove(pipeline)

        return original(once, *watches, **options)

    store._store._redis.transaction = interrupted
    # Between the reading of the sockets and the writing; the intruder itself needs no transaction().
    assert not store.disconnect(user, "old")
    assert store.is_online(user)
    other.close()


def test_changes_tell_who_is_online_and_who_comes_and_goes(stores, make):
    early, late = uuid4(), uuid4()
    store = make()
    store.connect(early, "a")
    with watching(stores, {early, late}, reconcile_s=60) as change:
        assert change() == Change(early, online=True)
        store.connect(late, "a")
        assert change() == Change(late, online=True)
        store.touch(late, "a")
        store.disconnect(early, "a")
        assert change() == Change(early, online=False)
        store.disconnect(late, "a")
        assert change() == Change(late, online=False)


def test_changes_tell_of_expiry_without_a_reconciliation(stores, make):
    first, user = uuid4(), uuid4()
    with watching(stores, {first, user}, reconcile_s=600) as change:
        make().connect(first, "a")
        assert change() == Change(first, online=True)  # it listens
        make(ttl_s=2).connect(user, "a")
        assert change() == Change(user, online=True)
        assert change() == Change(user, online=False)


def test_offline_is_told_though_its_announcement_was_lost(stores, make, redis_tier):
    user = uuid4()
    store = make()
    with watching(stores, {user}, reconcile_s=0.2) as change:
        store.connect(user, "a")
        assert change() == Change(user, online=True)
        redis_tier.ask("presence", f"ZREM presence:expiries {user}")  # nothing is announced
        assert change() == Change(user, online=False)


def test_changes_go_on_after_a_restart(stores, make, redis_tier):
    user = uuid4()
    store = make()
    with watching(stores, {user}, reconcile_s=600) as change:
        store.connect(user, "a")
        assert change() == Change(user, online=True)
        redis_tier.systemctl("stop", "presence")
        try:
            with pytest.raises(Unavailable):
                store.touch(user, "a")
        finally:
            redis_tier.systemctl("start", "presence")
        assert change() == Change(user, online=False)

        def touched():
            try:
                return store.touch(user, "a")
            except Unavailable:
                return False

        until(touched)
        assert change() == Change(user, online=True)
        store.disconnect(user, "a")
        assert change() == Change(user, online=False)
