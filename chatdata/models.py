"""What the tables hold, what queries return beside that, and what may be written.

The models of rows match their tables: names, types, lengths, what may be null. What is to be written is
checked more strictly; pydantic.ValidationError names the field, the kind of value that it takes and the
limit, and never shows the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NotRequired, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
    with_config,
)
from pydantic_core import CoreConfig, SchemaValidator
from typing_extensions import TypedDict  # pydantic needs this TypedDict before Python 3.12

Role = Literal["member", "moderator", "owner"]
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("String should not hold the character U+0000, which PostgreSQL cannot keep")
    return text


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class User(_Row):
    """A row of `users`."""

    id: UUID
    email: Annotated[str, Field(max_length=255)]
    password_hash: Annotated[str, Field(max_length=255, repr=False)]
    username: Annotated[str, Field(max_length=50)]
    avatar_url: Annotated[str, Field(max_length=500)] | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Room(_Row):
    """A row of `rooms`; `last_seq` is the number that was given to a message last, 0 before the first."""

    id: UUID
    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=500)] | None
    is_private: bool
    created_by: UUID | None
    last_seq: Number
    created_at: AwareDatetime
    updated_at: AwareDatetime


class RoomUser(_Row):
    """A row of `room_users`: a member of a room, who has read up to `last_read_seq`."""

    room_id: UUID
    user_id: UUID
    role: Role
    last_read_seq: Number
    joined_at: AwareDatetime


class Message(_Row):
    """A row of `messages`, the `seq`th of its room; a deleted one has an empty `content`.

    `user_id` is None once the author is deleted.
    """

    id: UUID
    room_id: UUID
    seq: Number
    user_id: UUID | None
    content: Annotated[str, Field(max_length=10_000)]
    created_at: AwareDatetime
    edited_at: AwareDatetime | None
    deleted_at: AwareDatetime | None

    @model_validator(mode="after")
    def _only_a_deleted_one_is_empty(self) -> Self:
        if not self.content and self.deleted_at is None:
            raise ValueError("content: String should have at least 1 character unless deleted_at is set")
        return self


class MyRoom(_Row):
    """A room as one of its members sees it; `unread` counts the messages behind what they have read."""

    room: Room
    role: Role
    unread: Number
    last_message: Message | None


class Member(_Row):
    """A member of a room as the others see them."""

    user_id: UUID
    username: str
    avatar_url: str | None
    role: Role
    last_read_seq: Number
    joined_at: AwareDatetime


_Text = AfterValidator(_without_nul)
# An address is proven by a letter to it, not by a pattern.
Email = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^@\s]+@[^@\s]+$"), _Text]
Username = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=r"^\S(.*\S)?$"), _Text]
PasswordHash = Annotated[str, StringConstraints(min_length=1, max_length=255), _Text]
AvatarUrl = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://\S+$"), _Text]
RoomName = Annotated[str, StringConstraints(min_length=1, max_length=100), _Text]
Description = Annotated[str, StringConstraints(max_length=500), _Text]
Content = Annotated[str, StringConstraints(min_length=1, max_length=10_000), _Text]


_as_input = with_config(ConfigDict(extra="forbid"))

Input = TypeVar("Input")


def checks(kind: type[Input]) -> Callable[[object], Input]:
    """A function that gives back what it was given, as `kind`, or raises pydantic.ValidationError."""
    # A TypedDict's own hide_input_in_errors has no effect: it has to be the validator's.
    validator = SchemaValidator(TypeAdapter(kind).core_schema, CoreConfig(hide_input_in_errors=True))
    return validator.validate_python


@_as_input
class NewUser(TypedDict):
    """What a user is made of."""

    email: Email
    password_hash: PasswordHash
    username: Username
    avatar_url: NotRequired[AvatarUrl | None]


@_as_input
class UserChanges(TypedDict, total=False):
    """What may change of a user; what is left out stays."""

    email: Email
    password_hash: PasswordHash
    username: Username
    avatar_url: AvatarUrl | None


@_as_input
class NewRoom(TypedDict):
    """What a room is made of."""

    name: RoomName
    description: NotRequired[Description | None]
    is_private: NotRequired[bool]


@_as_input
class RoomChanges(TypedDict, total=False):
    """What may change of a room; what is left out stays."""

    name: RoomName
    description: Description | None
    is_private: bool


@_as_input
class NewMessage(TypedDict):
    """What a message is made of; with an `id` of the writer's own it can be posted again without harm."""

    user_id: UUID
    content: Content
    id: NotRequired[UUID | None]


@_as_input
class ChangedMessage(TypedDict):
    """What may change of a message."""

    content: Content
