"""What a plan's rows are, without a database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chatdata.models import Message, NewMessage, NewRoom, NewUser, RoomUser, checks
from chatdata.plan import Plan, Rows, zipf

from ..molecule.runs import PROJECT

plans = st.builds(
    Plan,
    users=st.integers(1, 60),
    rooms=st.integers(1, 12),
    messages=st.integers(0, 300),
    random_seed=st.integers(0, 2**63 - 1),
    until=st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)),
)


def everything(plan):
    rows = Rows(plan)
    return [list(kind) for kind in (rows.users(), rows.rooms(), rows.memberships(), rows.messages())]


@settings(max_examples=30)
@given(plans)
def test_the_same_plan_has_the_same_rows_as_many_as_it_counts(plan):
    made = everything(plan)
    assert made == everything(plan.model_copy())
    assert tuple(map(len, made)) == Rows(plan).counts


def test_rows_are_the_same_in_another_process():
    program = (
        "import hashlib; from chatdata.plan import *; rows = Rows(Plan(users=20, rooms=5, messages=200));"
        "made = [list(kind) for kind in (rows.users(), rows.rooms(), rows.memberships(), rows.messages())];"
        "print(hashlib.sha256(repr(made).encode()).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=PROJECT, check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }  # fmt: skip
    assert len(said) == 1


@settings(max_examples=30)
@given(plans)
def test_rows_are_what_the_application_itself_could_have_written(plan):
    users, rooms, memberships, messages = everything(plan)
    seqs: Counter[UUID] = Counter()
    last_said: Counter[tuple[UUID, UUID]] = Counter()
    joined = {membership[:2]: membership[4] for membership in memberships}
    since = {user[0]: user[4] for user in users}
    opened = {room[0]: room[5] for room in rooms}
    latest = dict(opened)
    for id, email, username, avatar, _, _ in users:
        checks(NewUser)({"email": email, "username": username, "password_hash": "!", "avatar_url": avatar})
        assert id.version == 4
    for id, name, description, private, owner, at, _ in rooms:
        checks(NewRoom)({"name": name, "description": description, "is_private": private})
        assert since[owner] < at == joined[id, owner]
    for id, room, author, content, at, edited, deleted in messages:
        seqs[room] += 1
        last_said[room, author] = seqs[room]
        checks(NewMessage)({"user_id": author, "content": content, "id": id})
        values = (id, room, seqs[room], author, content, at, edited, deleted)
        Message.model_validate(dict(zip(Message.model_fields, values, strict=True)))
        assert joined[room, author] <= at
        assert latest[room] <= at <= plan.until
        assert all(at <= later <= plan.until for later in (edited, deleted) if later)
        assert (id.version, id.int >> 80) == (7, int(at.timestamp() * 1000))
        latest[room] = at
    for membership in memberships:
        member = RoomUser(**dict(zip(RoomUser.model_fields, membership, strict=True)))
        assert last_said[member.room_id, member.user_id] <= member.last_read_seq <= seqs[member.room_id]
        assert opened[member.room_id] <= member.joined_at
    assert Counter(row[0] for row in memberships if row[2] == "owner") == dict.fromkeys(opened, 1)


@given(plans, plans)
@settings(max_examples=10)
def test_two_plans_share_no_id_and_no_name(one, other):
    if one == other:
        return
    taken = [
        {user[position] for user in Rows(plan).users() for position in (0, 1, 2)}
        | {row[0] for row in (*Rows(plan).rooms(), *Rows(plan).messages())}
        for plan in (one, other)
    ]
    assert not taken[0] & taken[1]


@given(st.integers(0, 10**7), st.integers(1, 3000))
def test_shares_add_up_and_the_nth_is_an_nth_of_the_first(total, count):
    shares = zipf(total, count)
    assert sum(shares) == total
    assert len(shares) == count
    assert shares == sorted(shares, reverse=True)
    assert all(abs(share - shares[0] / rank) <= 2 for rank, share in enumerate(shares, 1))


def test_rooms_and_authors_have_zipfs_shape_and_members_differ_in_what_they_have_read():
    rows = Rows(Plan(users=1000, rooms=50, messages=50_000))
    sizes = sorted(Counter(row[0] for row in rows.memberships()).values(), reverse=True)
    assert sizes[:4] == [800, 400, 266, 200]
    said = Counter(row[1] for row in rows.messages())
    largest = max(said, key=lambda room: said[room])
    authors = [count for _, count in Counter(m[2] for m in rows.messages() if m[1] == largest).most_common()]
    assert authors[0] == pytest.approx(2 * authors[1], rel=0.2)
    assert authors[0] == pytest.approx(10 * authors[9], rel=0.4)
    unread = [said[room] - read for room, _, _, read, _ in rows.memberships()]
    assert 0.4 < unread.count(0) / len(unread) < 0.7
    assert max(unread) > 1000
    texts = Counter(row[3] for row in rows.messages())
    assert len(texts) > 5000
    assert any(not text.isascii() for text in texts)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"users": 0}, "users"),
        ({"users": 1_000_001}, "users"),
        ({"rooms": -1}, "rooms"),
        ({"rooms": 0}, "messages"),
        ({"messages": 10_000_001}, "messages"),
        ({"random_seed": -1}, "random_seed"),
        ({"until": datetime(1999, 12, 31, tzinfo=UTC)}, "until"),
        ({"until": datetime(2025, 1, 1)}, "until"),  # without a zone
        ({"people": 1}, "people"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong, field):
    with pytest.raises(ValidationError) as refused:
        Plan(**wrong)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_users_alone_are_a_plan():
    assert Rows(Plan(users=3, rooms=0, messages=0)).counts == (3, 0, 0, 0)
