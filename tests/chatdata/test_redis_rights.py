"""Redis's users may do what the stores do, and nothing that they do not: each right is taken away once."""

from __future__ import annotations

import secrets
from uuid import uuid4

import pytest
from pydantic import SecretBytes
from redis.exceptions import NoPermissionError

from chatdata.errors import ChatDataError, TokenReused, Unavailable
from chatdata.stores import Presence, RefreshTokens, TypingStatus
from filter_plugins.redis_acl import PRESENCE, TOKENS

USERS = {"tokens": "chat_app_sessions", "presence": "chat_app_realtime"}
RIGHTS = {
    "tokens": (*TOKENS, "~refresh_token:*"),
    "presence": (
        *PRESENCE,
        *("~presence:*", "~typing:*", "&presence:changes", "&__keyevent@0__:expired"),
    ),
}


def use_tokens(client):
    """All that the store does."""
    user, keys = uuid4(), [SecretBytes(b"k" * 32)]
    store = RefreshTokens(client, keys, replicas=0, ttl_s=60, grace_s=0)
    first = store.issue(user, "phone")
    store.rotate(first.value)
    with pytest.raises(TokenReused):
        store.rotate(first.value)
    store.issue(user, "laptop")
    assert len(store.sessions(user)) == 1
    store.revoke_all(user)
    with pytest.raises(Unavailable):
        RefreshTokens(client, keys, ttl_s=60, replicas=1, replicas_timeout_s=0.001).issue(uuid4(), "phone")


def use_presence(client):
    """All that the stores do, and a reader that knows the seed's keys alone."""
    user, room = uuid4(), uuid4()
    presence, typing = Presence(client), TypingStatus(client)
    presence.connect(user, "a")
    presence.connect(user, "b")
    assert client.get(f"presence:{user}") == b"online"
    changes = presence.changes()
    assert next(changes).online
    changes.close()
    presence.disconnect(user, "a")
    presence.disconnect(user, "b")
    assert not presence.is_online(user)
    with pytest.raises(ZeroDivisionError):  # a disconnect that fails halfway
        client.transaction(lambda _: 1 / 0, f"presence:{user}:sockets")
    typing.start(room, user)
    assert typing.who(room) == {user}
    typing.stop(room, user)


USES = {"tokens": use_tokens, "presence": use_presence}


@pytest.fixture
def use(redis_tier):
    """Do all that a purpose's stores do, as a user that lacks a right."""
    name, password, purposes = f"lacking-{uuid4()}", secrets.token_urlsafe(), set()

    def used(purpose, without):
        purposes.add(purpose)
        (line,) = (
            line for line in redis_tier.ask(purpose, "ACL LIST") if line.startswith(f"user {USERS[purpose]} ")
        )
        connection = [word for word in ("+client|setinfo", "+client|setname", "+ping") if word in line]
        rights = ["resetchannels", "-@all", *connection, *(r for r in RIGHTS[purpose] if r != without)]
        added = redis_tier.ask(
            purpose, f"ACL SETUSER {name} reset on >{password} {' '.join(rights)}", "SCRIPT FLUSH"
        )
        assert added == ["OK", "OK"]
        with redis_tier.client("sync", purpose, username=name, password=password) as client:
            USES[purpose](client)

    yield used
    for purpose in purposes:
        redis_tier.ask(purpose, f"ACL DELUSER {name}")


@pytest.mark.parametrize("purpose", USES)
def test_rights_suffice(use, purpose):
    use(purpose, without=None)


@pytest.mark.parametrize("purpose", USES)
def test_application_has_these_rights(redis_tier, purpose):
    with redis_tier.client("sync", purpose) as client:
        USES[purpose](client)


@pytest.mark.parametrize(("purpose", "right"), [(p, right) for p in USES for right in RIGHTS[p]])
def test_right_is_needed(use, purpose, right):
    # In the words of Redis 8, of a script on 7.0, and where MULTI was refused.
    refused = "permission|can't run this command|EXEC without MULTI"
    with pytest.raises((ChatDataError, NoPermissionError), match=refused):
        use(purpose, without=right)
