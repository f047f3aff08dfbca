"""What the repositories share: the columns of a model, and the model of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

from chatdata.models import Message, Room, RoomUser, User

Row = TypeVar("Row", bound=BaseModel)


def columns(model: type[BaseModel], table: str = "") -> str:
    """The model's columns for a statement; `*` would change under a prepared statement."""
    return ", ".join(f"{table}.{name}" if table else name for name in model.model_fields)


@cache
def maker(model: type[Row]) -> Callable[[Sequence[Any]], Row]:
    """A function that makes the model of `columns(model)`'s values, unchecked: the table has checked them.

    It does what model_construct does for a model without defaults, aliases and private attributes, in a
    tenth of the time: rows are most of what a page costs beside its round trip. So it is written out for
    the model's fields and compiled, as dataclasses and namedtuple do with theirs.
    """
    source = f"""
def make(values):
    row = new(model)
    fields = row.__dict__
    {", ".join(f"fields[{name!r}]" for name in model.model_fields)}, = values
    set_given(row, given)
    set_extra(row, None)
    set_private(row, None)
    return row
"""
    parts: dict[str, Any] = {
        "model": model,
        "new": model.__new__,
        "given": set(model.model_fields),
        "set_given": BaseModel.__dict__["__pydantic_fields_set__"].__set__,
        "set_extra": BaseModel.__dict__["__pydantic_extra__"].__set__,
        "set_private": BaseModel.__dict__["__pydantic_private__"].__set__,
    }
    exec(source, parts)  # noqa: S102  nothing but the names of a model's fields goes into it
    made: Callable[[Sequence[Any]], Row] = parts["make"]
    return made


USER, ROOM, ROOM_USER = columns(User), columns(Room), columns(RoomUser)
# Nobody reads what was deleted.
MESSAGE = columns(Message).replace(
    "content", "CASE WHEN deleted_at IS NULL THEN content ELSE '' END AS content"
)
