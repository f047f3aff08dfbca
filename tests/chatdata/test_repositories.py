"""What a chat server does with the repositories, of either kind, through PgBouncer."""

from __future__ import annotations

import pickle
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from chatdata.errors import AlreadyExists, ChatDataError, NotFound
from chatdata.repositories import Messages

NOBODY = UUID(int=0)


def test_users_are_found_whatever_the_capitals(chat, make_user):
    name = f"Ann-{uuid4()}"
    ann = make_user(username=name, email=f"{name}@Example.net", avatar_url="https://a.net/a.png")
    assert ann.id == chat.users.by_username(name.swapcase()).id
    assert chat.users.by_email(ann.email.swapcase()) == chat.users.by_id(ann.id) == ann
    other = make_user()
    assert chat.users.by_ids([ann.id, other.id, NOBODY]) == {ann.id: ann, other.id: other}


def test_nobody_is_not_found(chat):
    for find in (chat.users.by_id, chat.rooms.by_id, chat.rooms.delete, chat.messages.by_id):
        with pytest.raises(NotFound):
            find(NOBODY)
    for find in (chat.users.by_email, chat.users.by_username):
        with pytest.raises(NotFound):
            find("nobody")
    with pytest.raises(NotFound):
        chat.users.update(NOBODY, avatar_url=None)
    with pytest.raises(NotFound):
        chat.rooms.edit(NOBODY, name="hall")


@pytest.mark.parametrize("field", ["email", "username"])
@pytest.mark.parametrize("change", [str, str.upper])
def test_taken_field_is_named(chat, make_user, field, change):
    ann, bob = make_user(), make_user()
    taken = {field: change(getattr(ann, field))}
    with pytest.raises(AlreadyExists) as refused:
        chat.users.create(**{"email": "c@example.net", "username": "c", "password_hash": "hash", **taken})
    assert (refused.value.field, refused.value.sqlstate) == (field, "23505")
    with pytest.raises(AlreadyExists) as refused:
        chat.users.update(bob.id, **taken)
    assert refused.value.field == field


def test_update_changes_what_is_given(chat, make_user):
    ann = make_user(avatar_url="https://a.net/a.png")
    changed = chat.users.update(ann.id, password_hash="new")
    assert changed.model_copy(update={"password_hash": "hash", "updated_at": ann.updated_at}) == ann
    assert changed.updated_at > ann.updated_at
    assert chat.users.update(ann.id) == changed
    assert chat.users.update(ann.id, avatar_url=None).avatar_url is None
    with pytest.raises(ValidationError, match="id"):
        chat.users.update(ann.id, id=NOBODY)


def test_creator_owns_the_room(chat, user):
    room = chat.rooms.create(user.id, name="lobby", description="all", is_private=True)
    assert chat.members.membership(room.id, user.id).role == "owner"
    assert chat.rooms.by_id(room.id) == room
    assert (room.created_by, room.description, room.is_private, room.last_seq) == (user.id, "all", True, 0)
    assert chat.rooms.edit(room.id) == room
    hall = chat.rooms.edit(room.id, name="hall", description=None)
    assert (hall.name, hall.description, hall.is_private) == ("hall", None, True)
    chat.rooms.delete(room.id)
    with pytest.raises(NotFound):
        chat.rooms.by_id(room.id)


def test_room_of_nobody_leaves_nothing(chat, connection):
    name = f"room-{uuid4()}"
    with pytest.raises(NotFound, match="user"):
        chat.rooms.create(NOBODY, name=name)
    assert connection.execute("SELECT FROM rooms WHERE name = %s", [name]).rowcount == 0


def test_members_come_once_change_their_role_and_go(chat, room, user, make_user):
    ann, bob = make_user(), make_user()
    chat.messages.post(room.id, user.id, "before")
    assert chat.members.add(room.id, ann.id) is True
    assert chat.members.add(room.id, ann.id, role="owner") is False
    (new,) = chat.members.add_many(room.id, [ann.id, bob.id, user.id, bob.id])
    assert (new.user_id, new.role, new.last_read_seq) == (bob.id, "member", 1)
    assert chat.members.set_role(room.id, bob.id, "moderator").role == "moderator"
    members = chat.members.members(room.id)
    assert {member.user_id: member.role for member in members} == {
        user.id: "owner", ann.id: "member", bob.id: "moderator",
    }  # fmt: skip
    first = chat.members.members(room.id, limit=2)
    assert first + chat.members.members(room.id, after=first[-1].user_id) == members
    assert chat.members.remove(room.id, bob.id) is True
    assert chat.members.remove(room.id, bob.id) is False
    assert chat.members.is_member(room.id, ann.id) is True
    assert chat.members.is_member(room.id, bob.id) is False
    assert chat.members.membership(room.id, bob.id) is None
    with pytest.raises(NotFound):
        chat.members.set_role(room.id, bob.id, "owner")


def test_member_of_no_room_and_nobody_as_member_are_not_found(chat, room, user):
    with pytest.raises(NotFound, match="room"):
        chat.members.add(NOBODY, user.id)
    with pytest.raises(NotFound, match="user"):
        chat.members.add(room.id, NOBODY)


def test_wrong_role_reaches_no_row(chat, room, make_user):
    with pytest.raises(ChatDataError) as refused:
        chat.members.add(room.id, make_user().id, role="king")
    assert refused.value.sqlstate == "23514"


def test_my_rooms_show_role_unread_and_the_last_message(chat, room, user, make_user):
    ann = make_user()
    quiet = chat.rooms.create(user.id, name="quiet")
    chat.members.add(room.id, ann.id)
    posted = chat.messages.post_many(room.id, [{"user_id": user.id, "content": str(n)} for n in range(3)])
    chat.messages.mark_read(room.id, ann.id, posted[0].seq)
    (mine,) = chat.rooms.of_user(ann.id)
    assert (mine.room.id, mine.role, mine.unread, mine.last_message) == (room.id, "member", 2, posted[-1])
    owned = chat.rooms.of_user(user.id)
    assert [(one.room, one.role, one.unread) for one in owned] == [
        (chat.rooms.by_id(room.id), "owner", 3),
        (quiet, "owner", 0),
    ]
    assert owned[1].last_message is None
    deleted = chat.messages.soft_delete(posted[-1].id)
    assert chat.rooms.of_user(ann.id)[0].last_message == deleted
    assert chat.rooms.of_user(NOBODY) == []


def test_read_mark_goes_neither_back_nor_beyond_what_was_said(chat, room, user):
    chat.messages.post_many(room.id, [{"user_id": user.id, "content": str(n)} for n in range(5)])
    marks = [chat.messages.mark_read(room.id, user.id, seq).last_read_seq for seq in (3, 1, 99, -1)]
    assert marks == [3, 3, 5, 5]
    with pytest.raises(NotFound):
        chat.messages.mark_read(room.id, NOBODY, 1)


def test_post_gives_back_the_row(chat, room, user):
    first, second = (chat.messages.post(room.id, user.id, content) for content in ("hello", "ä" * 10_000))
    assert (first.seq, first.content, first.user_id) == (1, "hello", user.id)
    assert second.seq == 2
    assert chat.messages.by_id(first.id) == first
    assert first.id.version == 7
    with pytest.raises(NotFound, match="room"):
        chat.messages.post(NOBODY, user.id, "hello")
    with pytest.raises(NotFound, match="user"):
        chat.messages.post(room.id, NOBODY, "hello")
    assert chat.rooms.by_id(room.id).last_seq == 2


def test_post_with_an_id_happens_once(chat, room, user, make_user):
    id = uuid4()
    first = chat.messages.post(room.id, user.id, "hello", id=id)
    assert chat.messages.post(room.id, user.id, "hello", id=id) == first
    assert chat.rooms.by_id(room.id).last_seq == 1
    with pytest.raises(AlreadyExists) as refused:
        chat.messages.post(room.id, make_user().id, "hello", id=id)
    assert refused.value.field == "id"


@pytest.mark.parametrize("content", ["", "a" * 10_001, "\0", None])
def test_wrong_content_is_refused_before_it_is_sent(chat, room, user, content):
    message = chat.messages.post(room.id, user.id, "hello")
    for write in (
        lambda: chat.messages.post(room.id, user.id, content),
        lambda: chat.messages.post_many(room.id, [{"user_id": user.id, "content": content}]),
        lambda: chat.messages.edit(message.id, content),
    ):
        with pytest.raises(ValidationError, match="content"):
            write()


def test_many_are_posted_in_order_or_not_at_all(chat, room, user, make_user):
    ann, id = make_user(), uuid4()
    new = [{"user_id": (user, ann)[n % 2].id, "content": str(n)} for n in range(100)]
    new[7]["id"] = id
    posted = chat.messages.post_many(room.id, new)
    assert [(one.seq, one.user_id, one.content) for one in posted] == [
        (n + 1, one["user_id"], one["content"]) for n, one in enumerate(new)
    ]
    assert posted[7].id == id
    assert chat.messages.post(room.id, user.id, "next").seq == 101
    with pytest.raises(NotFound, match="user"):
        chat.messages.post_many(room.id, [*new[:3], {"user_id": NOBODY, "content": "who"}])
    with pytest.raises(AlreadyExists):
        chat.messages.post_many(room.id, new)
    with pytest.raises(NotFound, match="room"):
        chat.messages.post_many(NOBODY, new)
    assert chat.messages.post_many(room.id, []) == []
    assert chat.rooms.by_id(room.id).last_seq == 101


def test_edit_is_marked_and_deletion_hides_the_content(chat, room, user, connection):
    message = chat.messages.post(room.id, user.id, "helo")
    assert chat.messages.edit(message.id, "helo") == message
    edited = chat.messages.edit(message.id, "hello")
    assert (edited.content, edited.edited_at is None) == ("hello", False)
    deleted = chat.messages.soft_delete(message.id)
    assert (deleted.content, deleted.deleted_at is None, deleted.seq) == ("", False, 1)
    assert chat.messages.soft_delete(message.id) == chat.messages.by_id(message.id) == deleted
    assert chat.messages.latest(room.id) == [deleted]
    kept = connection.execute("SELECT content FROM messages WHERE id = %s", [message.id]).fetchone()
    assert kept == ("hello",)
    for write in (lambda: chat.messages.edit(message.id, "again"), lambda: chat.messages.soft_delete(NOBODY)):
        with pytest.raises(NotFound):
            write()


def test_pages_are_in_order_and_meet(chat, room, user):
    posted = chat.messages.post_many(room.id, [{"user_id": user.id, "content": str(n)} for n in range(120)])
    latest = chat.messages.latest(room.id)
    assert latest == posted[70:]
    assert chat.messages.before(room.id, latest[0].seq) == posted[20:70]
    assert chat.messages.before(room.id, 21) == posted[:20]
    assert chat.messages.before(room.id, 1) == []
    assert chat.messages.after(room.id, 0) == posted[:50]
    assert chat.messages.after(room.id, 110) == posted[110:]
    assert chat.messages.after(room.id, 5, limit=2) == posted[5:7]
    assert chat.messages.latest(NOBODY) == []


def test_deleted_author_leaves_the_messages(chat, room, make_user, connection):
    ann = make_user()
    chat.members.add(room.id, ann.id)
    message = chat.messages.post(room.id, ann.id, "hello")
    connection.execute("DELETE FROM users WHERE id = %s", [ann.id])
    assert chat.messages.latest(room.id) == [message.model_copy(update={"user_id": None})]
    assert ann.id not in [member.user_id for member in chat.members.members(room.id)]


def test_deleted_room_takes_its_messages_and_members_along(chat, room, user):
    message = chat.messages.post(room.id, user.id, "hello")
    chat.rooms.delete(room.id)
    assert chat.messages.latest(room.id) == chat.members.members(room.id) == chat.rooms.of_user(user.id) == []
    with pytest.raises(NotFound):
        chat.messages.by_id(message.id)
    with pytest.raises(NotFound, match="room"):
        chat.messages.post(room.id, user.id, "hello")


def test_repository_never_commits(connection, room, user):
    with connection.transaction(force_rollback=True):
        Messages(connection).post(room.id, user.id, "hello")
    assert Messages(connection).latest(room.id) == []


def test_rows_are_what_their_models_would_take(chat, room, user):
    """They are made unchecked, so that a page costs little."""
    message = chat.messages.post(room.id, user.id, "hello")
    rows = [chat.users.by_id(user.id), chat.members.membership(room.id, user.id), message]
    rows += [*chat.rooms.of_user(user.id), *chat.members.members(room.id), chat.rooms.by_id(room.id)]
    for row in rows:
        checked = type(row).model_validate(row.model_dump(), strict=True)
        assert checked == row
        assert hash(checked) == hash(row)
        assert repr(checked) == repr(row)
        assert checked.model_dump_json(exclude_unset=True) == row.model_dump_json(exclude_unset=True)
        assert pickle.loads(pickle.dumps(row)) == row  # noqa: S301  our own
