"""Who is in which room."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from chatdata._async.repository import AsyncRepository
from chatdata._sql import ROOM_USER, columns
from chatdata.models import Member, Role, RoomUser


class AsyncRoomUsers(AsyncRepository):
    """The table `room_users`."""

    async def add(self, room_id: UUID, user_id: UUID, *, role: Role = "member") -> bool:
        """Make the user a member, who has read all that was said before; True if they were none.

        A member stays as they are, role included. Raises NotFound (the room or the user).
        """
        return bool(await self.add_many(room_id, [user_id], role=role))

    async def add_many(
        self, room_id: UUID, user_ids: Iterable[UUID], *, role: Role = "member"
    ) -> list[RoomUser]:
        """Those of the users who became members now, as `add`, in one statement."""
        return await self._all(
            RoomUser,
            # In the order of their ids, so that two such statements do not wait for each other.
            "INSERT INTO room_users (room_id, user_id, role, last_read_seq)"
            " SELECT %(room)s, id, %(role)s, coalesce((SELECT last_seq FROM rooms WHERE id = %(room)s), 0)"
            " FROM unnest(%(users)s::uuid[]) AS id ORDER BY id"
            f" ON CONFLICT (room_id, user_id) DO NOTHING RETURNING {ROOM_USER}",
            {"room": room_id, "users": list(user_ids), "role": role},
        )

    async def remove(self, room_id: UUID, user_id: UUID) -> bool:
        """End a membership; True if there was one."""
        statement = "DELETE FROM room_users WHERE room_id = %s AND user_id = %s"
        return bool(await self._count(statement, [room_id, user_id]))

    async def set_role(self, room_id: UUID, user_id: UUID, role: Role) -> RoomUser:
        """The membership with its new role. Raises NotFound."""
        return await self._one(
            RoomUser,
            f"UPDATE room_users SET role = %s WHERE room_id = %s AND user_id = %s RETURNING {ROOM_USER}",
            [role, room_id, user_id],
        )

    async def members(self, room_id: UUID, *, after: UUID | None = None, limit: int = 1000) -> list[Member]:
        """The members of a room by user id, `limit` at a time: `after` is the last id of the page before."""
        return await self._all(
            Member,
            f"SELECT {columns(Member)}"
            " FROM room_users JOIN users ON users.id = user_id"
            " WHERE room_id = %s AND user_id > %s ORDER BY user_id LIMIT %s",
            [room_id, after or UUID(int=0), limit],
        )

    async def membership(self, room_id: UUID, user_id: UUID) -> RoomUser | None:
        """The user's membership, role included; None if they are no member."""
        statement = f"SELECT {ROOM_USER} FROM room_users WHERE room_id = %s AND user_id = %s"
        found = await self._all(RoomUser, statement, [room_id, user_id])
        return found[0] if found else None

    async def is_member(self, room_id: UUID, user_id: UUID) -> bool:
        """Whether the user is a member of the room."""
        return await self.membership(room_id, user_id) is not None
