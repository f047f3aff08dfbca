"""Rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack
from uuid import UUID

from chatdata._sql import MESSAGE, ROOM, columns, maker
from chatdata._sync.repository import Repository
from chatdata.errors import NotFound
from chatdata.models import Message, MyRoom, NewRoom, Room, RoomChanges, checks

_NEW = checks(NewRoom)
_CHANGES = checks(RoomChanges)
_MESSAGE_AT = 2 + len(Room.model_fields)
_ROOM, _MESSAGE, _MY_ROOM = maker(Room), maker(Message), maker(MyRoom)


def _my_room(values: Sequence[Any]) -> MyRoom:
    """From the columns of `of_user`: role, unread, the room's columns, its last message's."""
    role, unread = values[:2]
    message = values[_MESSAGE_AT:]
    last = _MESSAGE(message) if message[0] else None
    made: MyRoom = _MY_ROOM((_ROOM(values[2:_MESSAGE_AT]), role, unread, last))
    return made


class Rooms(Repository):
    """The table `rooms`."""

    def create(self, created_by: UUID, **room: Unpack[NewRoom]) -> Room:
        """The new room, which its creator owns. Raises NotFound (the user), pydantic.ValidationError."""
        return self._one(
            Room,
            "WITH room AS (INSERT INTO rooms (name, description, is_private, created_by)"
            f" VALUES (%(name)s, %(description)s, %(is_private)s, %(created_by)s) RETURNING {ROOM}),"
            " owner AS (INSERT INTO room_users (room_id, user_id, role)"
            " SELECT id, created_by, 'owner' FROM room)"
            f" SELECT {ROOM} FROM room",
            {
                "description": None,
                "is_private": False,
                **_NEW(room),
                "created_by": created_by,
            },
        )

    def by_id(self, room_id: UUID) -> Room:
        """The room. Raises NotFound."""
        return self._one(Room, f"SELECT {ROOM} FROM rooms WHERE id = %s", [room_id])

    def edit(self, room_id: UUID, **changes: Unpack[RoomChanges]) -> Room:
        """The room, changed. Raises NotFound, pydantic.ValidationError."""
        checked = _CHANGES(changes)
        if not checked:
            return self.by_id(room_id)
        assignments = ", ".join(f"{name} = %({name})s" for name in checked)  # names of RoomChanges alone
        return self._one(
            Room,
            f"UPDATE rooms SET {assignments} WHERE id = %(id)s RETURNING {ROOM}",
            {**checked, "id": room_id},
        )

    def delete(self, room_id: UUID) -> None:
        """Delete the room with its messages and memberships. Raises NotFound."""
        if not self._count("DELETE FROM rooms WHERE id = %s", [room_id]):
            raise NotFound("there is no such room")

    _OF_USER = (
        f"SELECT member.role, greatest(room.last_seq - member.last_read_seq, 0), {columns(Room, 'room')},"
        f" {columns(Message, 'message')}"
        " FROM room_users AS member JOIN rooms AS room ON room.id = member.room_id LEFT JOIN LATERAL ("
        f" SELECT {MESSAGE} FROM messages WHERE room_id = room.id ORDER BY seq DESC LIMIT 1"
        ") AS message ON true WHERE member.user_id = %s"
        " ORDER BY coalesce(message.created_at, room.created_at) DESC, room.id"
    )

    def of_user(self, user_id: UUID) -> list[MyRoom]:
        """The rooms of a user with role, unread count and last message; those with the newest message first.

        The user's own messages count as unread until `mark_read`.
        """
        return self._rows(_my_room, self._OF_USER, [user_id])
