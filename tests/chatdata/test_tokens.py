"""Access tokens, and what refresh tokens are made of."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes

from chatdata.errors import TokenInvalid, TokenUnknown
from chatdata.tokens import AccessTokens, RefreshTokenKeys

OLD, NEW = SecretBytes(b"o" * 32), SecretBytes(b"n" * 64)
USER = uuid4()


def _raw(value):
    return base64.urlsafe_b64decode(value + "=")


def signed(key=NEW, algorithm="HS256", kid="new", without="", **changed):
    """A token as AccessTokens makes it, but for what is named."""
    now = datetime.now(UTC)
    claims = {"sub": str(USER), "jti": str(uuid4()), "iat": now, "exp": now + timedelta(minutes=1)} | changed
    claims.pop(without, None)
    return jwt.encode(claims, key and key.get_secret_value(), algorithm, headers={"kid": kid} if kid else {})


def test_signed_token_says_whose_it_is_and_its_times():
    tokens = AccessTokens({"new": NEW}, "new", ttl_s=60)
    checked = tokens.check(tokens.sign(USER))
    assert checked.user_id == USER
    assert checked.expires_at - checked.issued_at == timedelta(seconds=60)
    assert checked.id != tokens.check(tokens.sign(USER)).id


def test_former_key_still_verifies_and_the_new_one_signs():
    former = AccessTokens({"old": OLD}, "old").sign(USER)
    both = AccessTokens({"old": OLD, "new": NEW}, "new")
    assert both.check(former).user_id == USER
    assert jwt.get_unverified_header(both.sign(USER))["kid"] == "new"
    with pytest.raises(TokenInvalid, match="kid"):
        AccessTokens({"new": NEW}, "new").check(former)


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "jti"])
def test_claim_is_required(claim):
    with pytest.raises(TokenInvalid, match=claim):
        AccessTokens({"new": NEW}, "new").check(signed(without=claim))


@pytest.mark.parametrize(
    "token",
    [
        signed(key=OLD),
        signed(kid=None),
        signed(kid="unheard of"),
        signed(algorithm="HS512"),
        signed(key=None, algorithm="none"),
        signed(sub="no uuid"),
        signed()[:-2],
        "no token",
        "",
    ],
    ids=["key", "no kid", "kid", "algorithm", "unsigned", "subject", "cut", "words", "empty"],
)
def test_foreign_token_is_refused(token):
    with pytest.raises(TokenInvalid):
        AccessTokens({"new": NEW}, "new").check(token)


def test_expired_token_is_refused_after_the_leeway():
    past = datetime.now(UTC) - timedelta(seconds=30)
    assert AccessTokens({"new": NEW}, "new", leeway_s=60).check(signed(exp=past)).user_id == USER
    with pytest.raises(TokenInvalid, match="expired"):
        AccessTokens({"new": NEW}, "new", leeway_s=10).check(signed(exp=past))


def test_signing_key_has_to_be_among_the_keys():
    with pytest.raises(ValueError, match="'new'"):
        AccessTokens({"old": OLD}, "new")


@pytest.mark.parametrize(
    "make", [lambda key: AccessTokens({"k": key}, "k"), lambda key: RefreshTokenKeys([key])]
)
def test_short_key_is_refused_and_not_shown(make):
    with pytest.raises(ValueError, match="31 bytes; at least 32") as caught:
        make(SecretBytes(b"x" * 31))
    assert "xxx" not in str(caught.value)


def test_refresh_tokens_need_a_key():
    with pytest.raises(ValueError, match="server key"):
        RefreshTokenKeys([])


@given(st.uuids(), st.uuids())
def test_refresh_token_carries_user_and_session(user_id, session_id):
    keys = RefreshTokenKeys([NEW])
    token = keys.new(user_id, session_id)
    assert keys.read(token.value) == token
    assert (token.user_id, token.session_id) == (user_id, session_id)
    assert len(token.value) == 107
    assert token.value not in repr(token)
    assert keys.new(user_id, session_id) != token


def test_successor_is_the_same_each_time_and_another_for_each_token_and_key():
    keys, old = RefreshTokenKeys([NEW]), RefreshTokenKeys([OLD])
    first, other = keys.new(USER, UUID(int=1)), keys.new(USER, UUID(int=1))
    (successor,) = keys.successors(first)
    assert keys.successors(first) == [successor]
    assert keys.read(successor.value) == successor
    assert len({successor.value, keys.successors(other)[0].value, old.successors(first)[0].value}) == 3
    assert RefreshTokenKeys([OLD, NEW]).successors(first) == [*old.successors(first), successor]


@given(st.integers(0, 106), st.sampled_from("ABCDwxyz0189-_"))
def test_refresh_token_with_another_character_is_unknown(place, character):
    keys = RefreshTokenKeys([NEW])
    value = keys.new(USER, UUID(int=1)).value
    changed = value[:place] + character + value[place + 1 :]
    if changed != value:
        with pytest.raises(TokenUnknown):
            keys.read(changed)


def test_refresh_token_has_one_spelling():
    keys = RefreshTokenKeys([NEW])
    value = keys.new(USER, UUID(int=1)).value
    spellings = [
        value[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    ]
    alike = [one for one in spellings if base64.urlsafe_b64decode(one + "=") == _raw(value)]
    assert len(alike) == 4
    for other in {*alike, value + "="} - {value}:
        with pytest.raises(TokenUnknown):
            keys.read(other)


@given(st.one_of(st.text(), st.binary(max_size=100).map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_what_we_never_issued_is_unknown(value):
    with pytest.raises(TokenUnknown):
        RefreshTokenKeys([NEW]).read(value)


def test_refresh_token_of_a_former_key_is_read_and_of_a_foreign_one_is_not():
    token = RefreshTokenKeys([OLD]).new(USER, UUID(int=1))
    assert RefreshTokenKeys([NEW, OLD]).read(token.value) == token
    with pytest.raises(TokenUnknown):
        RefreshTokenKeys([NEW]).read(token.value)
