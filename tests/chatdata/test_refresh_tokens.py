"""Refresh tokens on the provisioned Redis `sessions`: rotation, reuse, expiry, revocation, a restart."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
import redis
import redis.asyncio
from pydantic import SecretBytes

from chatdata.errors import ChatDataError, Timeout, TokenReused, TokenUnknown, Unavailable

from .redis_tier import until

KEY, OTHER_KEY = SecretBytes(b"k" * 32), SecretBytes(b"o" * 32)


@pytest.fixture
def make(stores):
    """Makes a store on a client of its own; tokens live ten minutes unless told."""

    def made(*keys, size=5, **options):
        client = stores.client("tokens", size=size)
        return stores.make("RefreshTokens", client, keys or [KEY], **{"ttl_s": 600, "replicas": 0} | options)

    return made


def digest_of_newest(tier, user_id):
    return tier.ask("tokens", f"GET refresh_token:{user_id}")[0]


def test_seeds_key_holds_the_digest_of_the_newest_token_for_a_week(make, redis_tier):
    user_id = uuid4()
    store = make(ttl_s=7 * 24 * 60 * 60)
    token = store.issue(user_id, "phone")
    assert digest_of_newest(redis_tier, user_id) == token.digest
    token = store.rotate(token.value)
    assert digest_of_newest(redis_tier, user_id) == token.digest
    keys = [f"refresh_token:{user_id}{rest}" for rest in ("", ":sessions", f":session:{token.session_id}")]
    ttls = [int(ttl) for ttl in redis_tier.ask("tokens", *(f"TTL {key}" for key in keys))]
    assert all(604_700 < ttl <= 604_800 for ttl in ttls), ttls
    assert store.revoke_all(user_id) == 1
    assert redis_tier.ask("tokens", *(f"EXISTS {key}" for key in keys)) == ["0", "0", "0"]


def test_redis_holds_no_token(make, redis_tier):
    user_id = uuid4()
    store = make()
    first = store.issue(user_id, "phone")
    second = store.rotate(first.value)
    held = redis_tier.ask(
        "tokens",
        f"GET refresh_token:{user_id}",
        f"ZRANGE refresh_token:{user_id}:sessions 0 -1 WITHSCORES",
        f"HGETALL refresh_token:{user_id}:session:{first.session_id}",
    )
    assert {first.digest, second.digest} < set(held)
    assert not {first.value, second.value} & set(held)


def test_rotation_is_one_round_trip(make, monkeypatch):
    store = make()
    token = store.issue(uuid4(), "phone")
    sent = []
    for package in (redis, redis.asyncio):
        connection = package.connection.AbstractConnection
        original = connection.send_packed_command

        def counted(self, command, *rest, original=original, **options):
            sent.append(command)
            return original(self, command, *rest, **options)

        monkeypatch.setattr(connection, "send_packed_command", counted)
    store.rotate(token.value)
    assert len(sent) == 1


def test_50_refreshes_at_once_give_one_new_token_and_revoke_nothing(make):
    store = make(size=50, grace_s=600)
    first = store.issue(uuid4(), "phone")
    tokens = {token.value for token in store.at_once(50, "rotate", first.value)}
    assert len(tokens) == 1
    assert first.value not in tokens
    assert store.rotate(tokens.pop()).session_id == first.session_id


def test_lost_answer_can_be_had_again_within_the_grace(make):
    store = make(grace_s=60)
    first = store.issue(uuid4(), "phone")
    second = store.rotate(first.value)
    assert store.rotate(first.value) == second
    assert store.rotate(second.value).value != second.value


def test_replay_after_the_grace_revokes_the_session(make, redis_tier):
    user_id = uuid4()
    store, strict = make(grace_s=60), make(grace_s=0)
    first = store.issue(user_id, "phone")
    second = store.rotate(first.value)
    with pytest.raises(TokenReused):
        strict.rotate(first.value)
    for token in (first, second):
        with pytest.raises(TokenUnknown):
            store.rotate(token.value)
    assert store.sessions(user_id) == []
    assert digest_of_newest(redis_tier, user_id) == ""


def test_grace_ends(make):
    store = make(grace_s=0.2)
    first = store.issue(uuid4(), "phone")
    store.rotate(first.value)

    def refused():
        try:
            store.rotate(first.value)
        except TokenReused:
            return True
        return False

    until(refused)


def test_replay_of_an_older_token_revokes_even_within_the_grace(make):
    store = make(grace_s=60)
    first = store.issue(uuid4(), "phone")
    second = store.rotate(first.value)
    third = store.rotate(second.value)
    with pytest.raises(TokenReused):
        store.rotate(first.value)
    with pytest.raises(TokenUnknown):
        store.rotate(third.value)


def test_reuse_leaves_other_devices_signed_in(make, redis_tier):
    user_id = uuid4()
    store = make(grace_s=0)
    stolen, other = store.issue(user_id, "phone"), store.issue(user_id, "laptop")
    store.rotate(stolen.value)
    other = store.rotate(other.value)
    with pytest.raises(TokenReused):
        store.rotate(stolen.value)
    assert digest_of_newest(redis_tier, user_id) == other.digest
    assert [session.device for session in store.sessions(user_id)] == ["laptop"]
    store.rotate(other.value)


def test_token_expires(make, redis_tier):
    user_id = uuid4()
    store = make(ttl_s=2)
    token = store.issue(user_id, "phone")
    assert len(store.sessions(user_id)) == 1
    until(lambda: store.sessions(user_id) == [])
    with pytest.raises(TokenUnknown):
        store.rotate(token.value)
    until(lambda: redis_tier.ask("tokens", f"EXISTS refresh_token:{user_id}:sessions") == ["0"])
    assert digest_of_newest(redis_tier, user_id) == ""


def test_rotation_prolongs(make, redis_tier):
    user_id = uuid4()
    token = make(ttl_s=60).issue(user_id, "phone")
    make(ttl_s=600).rotate(token.value)
    key = f"refresh_token:{user_id}:session:{token.session_id}"
    assert int(redis_tier.ask("tokens", f"TTL {key}")[0]) > 60


def test_index_outlives_its_longest_session(make):
    user_id = uuid4()
    make(ttl_s=600).issue(user_id, "phone")
    short = make(ttl_s=0.2)
    short.issue(user_id, "laptop")
    until(lambda: [session.device for session in short.sessions(user_id)] == ["phone"])
    assert short.revoke_all(user_id) == 1


def test_expired_sessions_leave_the_index(make, redis_tier):
    user_id = uuid4()
    long = make(ttl_s=600)
    token = long.issue(user_id, "phone")
    make(ttl_s=0.2).issue(user_id, "laptop")
    until(lambda: len(long.sessions(user_id)) == 1)
    long.rotate(token.value)
    assert redis_tier.ask("tokens", f"ZCARD refresh_token:{user_id}:sessions") == ["1"]


def test_sessions_say_device_and_times(make):
    user_id = uuid4()
    store = make()
    token = store.rotate(store.issue(user_id, "Ömer's phone").value)
    (session,) = store.sessions(user_id)
    assert (session.user_id, session.id, session.device) == (user_id, token.session_id, "Ömer's phone")
    assert session.created_at <= session.rotated_at


def test_revoked_session_is_gone_and_the_others_stay(make, redis_tier):
    user_id = uuid4()
    store = make()
    phone, laptop = store.issue(user_id, "phone"), store.issue(user_id, "laptop")
    assert store.revoke(user_id, phone.session_id)
    assert not store.revoke(user_id, phone.session_id)
    assert digest_of_newest(redis_tier, user_id) == laptop.digest
    with pytest.raises(TokenUnknown):
        store.rotate(phone.value)
    held = store.read(laptop.value)
    assert store.revoke(held.user_id, held.session_id)
    assert digest_of_newest(redis_tier, user_id) == ""


def test_revoke_all_signs_out_every_device_of_this_user_alone(make):
    user_id, stranger = uuid4(), uuid4()
    store = make()
    tokens = [store.issue(user_id, f"device {number}") for number in range(5)]
    other = store.issue(stranger, "phone")
    assert store.revoke_all(user_id) == 5
    assert store.sessions(user_id) == []
    for token in tokens:
        with pytest.raises(TokenUnknown):
            store.rotate(token.value)
    store.rotate(other.value)


def test_change_of_the_server_key_keeps_everybody_signed_in(make):
    old, both, new = (make(*keys, grace_s=60) for keys in ([KEY], [OTHER_KEY, KEY], [OTHER_KEY]))
    first = old.issue(uuid4(), "phone")
    second = both.rotate(first.value)
    assert new.rotate(second.value) == both.rotate(second.value)


def test_processes_amid_a_change_of_the_server_key_give_one_successor(make):
    before, after = (make(*keys, grace_s=60) for keys in ([KEY, OTHER_KEY], [OTHER_KEY, KEY]))
    first = before.issue(uuid4(), "phone")
    assert before.rotate(first.value) == after.rotate(first.value)


def test_successor_of_a_foreign_key_is_unknown_and_revokes_nothing(make):
    both, old = make(OTHER_KEY, KEY, grace_s=60), make(KEY)
    first = old.issue(uuid4(), "phone")
    second = both.rotate(first.value)
    with pytest.raises(TokenUnknown):
        old.rotate(first.value)
    both.rotate(second.value)


def test_scripts_that_redis_forgot_are_sent_again(make, redis_tier):
    store = make()
    assert redis_tier.ask("tokens", "SCRIPT FLUSH") == ["OK"]
    token = store.issue(uuid4(), "phone")
    store.rotate(token.value)


def test_token_without_its_replicas_is_not_handed_out_and_can_be_had_again(make, redis_tier):
    store, waiting = make(grace_s=60), make(replicas=1, replicas_timeout_s=0.05)
    first = store.issue(uuid4(), "phone")
    redis_tier.ask("tokens", "SCRIPT FLUSH")
    with pytest.raises(Unavailable, match="0 of 1 replicas"):
        waiting.rotate(first.value)
    second = store.rotate(first.value)
    assert second.value != first.value
    assert store.rotate(second.value).value


def test_restart_in_mid_traffic_gives_typed_errors_and_then_the_session_goes_on(make, redis_tier):
    user_id = uuid4()
    store = make(grace_s=60)
    token = store.issue(user_id, "phone")
    session_id = token.session_id

    def served():
        nonlocal token
        try:
            token = store.rotate(token.value)
        except (Unavailable, Timeout):  # the same token again: its answer may have been lost
            return False
        return True

    stopping = threading.Thread(target=redis_tier.systemctl, args=("stop", "tokens"))
    stopping.start()
    try:
        until(lambda: not served())
        stopping.join()
    finally:
        redis_tier.systemctl("start", "tokens")
    until(served)
    assert store.sessions(user_id)[0].id == session_id
    assert store.revoke_all(user_id) == 1


def test_refused_command_is_no_outage(stores):
    client = stores.client("presence")
    store = stores.make("RefreshTokens", client, [KEY], replicas=0)
    with pytest.raises(ChatDataError) as caught:
        store.issue(uuid4(), "phone")
    assert not isinstance(caught.value, Unavailable)
