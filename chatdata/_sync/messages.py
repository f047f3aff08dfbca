"""Messages."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chatdata._sql import MESSAGE, ROOM_USER
from chatdata._sync.repository import Repository
from chatdata.errors import AlreadyExists, NotFound
from chatdata.models import ChangedMessage, Content, Message, NewMessage, RoomUser, checks

_NEW = checks(NewMessage)
_MANY = checks(list[NewMessage])
_CONTENT = checks(ChangedMessage)
PAGE = 50


class Messages(Repository):
    """The table `messages`. A room's messages are read by `seq`, in whose order they become visible.

    Pages are in the order of `seq`. Deleted messages stay in them, without their content.
    """

    def post(self, room_id: UUID, user_id: UUID, content: Content, *, id: UUID | None = None) -> Message:
        """The new message, numbered.

        With an `id` of the caller's own, a post can be tried again after a lost connection: what it posted
        before is given back. Raises NotFound (the room or the user), pydantic.ValidationError,
        AlreadyExists("id") if the id is another message's or is being posted at this moment.
        """
        new = {**_NEW({"user_id": user_id, "content": content, "id": id}), "room_id": room_id}
        if id is None:
            return self._one(
                Message,
                "INSERT INTO messages (room_id, user_id, content)"
                f" VALUES (%(room_id)s, %(user_id)s, %(content)s) RETURNING {MESSAGE}",
                new,
            )
        message = self._one(
            Message,
            f"WITH known AS (SELECT {MESSAGE} FROM messages WHERE id = %(id)s),"
            " new AS (INSERT INTO messages (id, room_id, user_id, content)"
            " SELECT %(id)s, %(room_id)s, %(user_id)s, %(content)s WHERE NOT EXISTS (SELECT FROM known)"
            f" RETURNING {MESSAGE}) SELECT * FROM new UNION ALL SELECT * FROM known",
            new,
        )
        if (message.room_id, message.user_id) != (room_id, user_id):
            raise AlreadyExists("this id is another message's", field="id")
        return message

    def post_many(self, room_id: UUID, messages: Sequence[NewMessage]) -> list[Message]:
        """The new messages of one room, in the order given, with consecutive numbers: all of them, or none.

        Raises NotFound (the room or a user), pydantic.ValidationError, AlreadyExists("id").
        """
        new = _MANY(messages)
        posted = self._all(
            Message,
            "WITH room AS (UPDATE rooms SET last_seq = last_seq + cardinality(%(users)s::uuid[])"
            " WHERE id = %(room_id)s RETURNING id, last_seq - cardinality(%(users)s::uuid[]) AS before)"
            " INSERT INTO messages (id, room_id, seq, user_id, content)"
            " SELECT coalesce(new.id, uuid_v7()), room.id, room.before + nr, new.user_id, new.content"
            " FROM room, unnest(%(ids)s::uuid[], %(users)s::uuid[], %(contents)s::text[])"
            f" WITH ORDINALITY AS new (id, user_id, content, nr) RETURNING {MESSAGE}",
            {
                "room_id": room_id,
                "ids": [message.get("id") for message in new],
                "users": [message["user_id"] for message in new],
                "contents": [message["content"] for message in new],
            },
        )
        if len(posted) < len(new):
            raise NotFound("there is no such room")
        return sorted(posted, key=lambda message: message.seq)

    def by_id(self, message_id: UUID) -> Message:
        """The message, deleted or not. Raises NotFound."""
        return self._one(Message, f"SELECT {MESSAGE} FROM messages WHERE id = %s", [message_id])

    def edit(self, message_id: UUID, content: Content) -> Message:
        """The message with its new content; `edited_at` moves if it differs.

        Raises NotFound, for a deleted one too, and pydantic.ValidationError.
        """
        checked = _CONTENT({"content": content})
        return self._one(
            Message,
            "UPDATE messages SET content = %(content)s,"
            " edited_at = CASE WHEN content = %(content)s THEN edited_at ELSE now() END"
            f" WHERE id = %(id)s AND deleted_at IS NULL RETURNING {MESSAGE}",
            {**checked, "id": message_id},
        )

    def soft_delete(self, message_id: UUID) -> Message:
        """The message, deleted: its content is kept and never read again. Raises NotFound."""
        return self._one(
            Message,
            f"UPDATE messages SET deleted_at = coalesce(deleted_at, now()) WHERE id = %s RETURNING {MESSAGE}",
            [message_id],
        )

    def latest(self, room_id: UUID, *, limit: int = PAGE) -> list[Message]:
        """The last messages of a room; of a room that is not there, none."""
        return self.before(room_id, 2**63 - 1, limit=limit)

    def before(self, room_id: UUID, seq: int, *, limit: int = PAGE) -> list[Message]:
        """The messages just before number `seq`."""
        page = self._all(
            Message,
            f"SELECT {MESSAGE} FROM messages WHERE room_id = %s AND seq < %s ORDER BY seq DESC LIMIT %s",
            [room_id, seq, limit],
        )
        return page[::-1]

    def after(self, room_id: UUID, seq: int, *, limit: int = PAGE) -> list[Message]:
        """The messages just after number `seq`: what was missed, a page at a time, until one is not full."""
        return self._all(
            Message,
            f"SELECT {MESSAGE} FROM messages WHERE room_id = %s AND seq > %s ORDER BY seq LIMIT %s",
            [room_id, seq, limit],
        )

    def mark_read(self, room_id: UUID, user_id: UUID, seq: int) -> RoomUser:
        """The membership, read up to `seq`: never back, nor beyond what was said. Raises NotFound."""
        return self._one(
            RoomUser,
            "UPDATE room_users SET last_read_seq = greatest(last_read_seq,"
            " least(%(seq)s, (SELECT last_seq FROM rooms WHERE id = %(room)s)))"
            f" WHERE room_id = %(room)s AND user_id = %(user)s RETURNING {ROOM_USER}",
            {"room": room_id, "user": user_id, "seq": seq},
        )
