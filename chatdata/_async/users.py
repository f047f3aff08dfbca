"""Users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack
from uuid import UUID

from chatdata._async.repository import AsyncRepository
from chatdata._sql import USER
from chatdata.models import NewUser, User, UserChanges, checks

_NEW = checks(NewUser)
_CHANGES = checks(UserChanges)


class AsyncUsers(AsyncRepository):
    """The table `users`. Addresses and names are the same whatever their capitals."""

    async def create(self, **user: Unpack[NewUser]) -> User:
        """The new user. Raises AlreadyExists("email" or "username"), pydantic.ValidationError."""
        return await self._one(
            User,
            "INSERT INTO users (email, password_hash, username, avatar_url)"
            f" VALUES (%(email)s, %(password_hash)s, %(username)s, %(avatar_url)s) RETURNING {USER}",
            {"avatar_url": None, **_NEW(user)},
        )

    async def by_id(self, user_id: UUID) -> User:
        """The user. Raises NotFound."""
        return await self._one(User, f"SELECT {USER} FROM users WHERE id = %s", [user_id])

    async def by_ids(self, user_ids: Iterable[UUID]) -> dict[UUID, User]:
        """Those of the users that are there, by id: the authors of a page, in one statement."""
        found = await self._all(User, f"SELECT {USER} FROM users WHERE id = ANY(%s)", [list(user_ids)])
        return {user.id: user for user in found}

    async def by_email(self, email: str) -> User:
        """The user with this address. Raises NotFound."""
        return await self._one(User, f"SELECT {USER} FROM users WHERE lower(email) = lower(%s)", [email])

    async def by_username(self, username: str) -> User:
        """The user with this name. Raises NotFound."""
        return await self._one(
            User, f"SELECT {USER} FROM users WHERE lower(username) = lower(%s)", [username]
        )

    async def update(self, user_id: UUID, **changes: Unpack[UserChanges]) -> User:
        """The user, changed. Raises NotFound, AlreadyExists as `create`, pydantic.ValidationError."""
        checked = _CHANGES(changes)
        if not checked:
            return await self.by_id(user_id)
        assignments = ", ".join(f"{name} = %({name})s" for name in checked)  # names of UserChanges alone
        return await self._one(
            User,
            f"UPDATE users SET {assignments} WHERE id = %(id)s RETURNING {USER}",
            {**checked, "id": user_id},
        )
