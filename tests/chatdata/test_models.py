"""The models beside the live catalogue, and what they take and refuse."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chatdata import models
from chatdata.models import Message, Room, RoomUser, User, checks

TABLES = {"users": User, "rooms": Room, "room_users": RoomUser, "messages": Message}
CATALOGUE = """
SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull
FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
NEVER = "1 of no kind"


def column_type(field: dict[str, Any]) -> str:
    """The column's type that a field's JSON schema stands for."""
    match field:
        case {"format": "uuid"}:
            return "uuid"
        case {"format": "date-time"}:
            return "timestamp with time zone"
        case {"type": "boolean"}:
            return "boolean"
        case {"type": "integer", "minimum": 0, "maximum": 9223372036854775807}:
            return "bigint"
        case {"enum": ["member", "moderator", "owner"]}:
            return "character varying(20)"
        case {"type": "string", "maxLength": 10_000}:
            return "text"  # with a check of that length
        case {"type": "string", "maxLength": length}:
            return f"character varying({length})"
    raise AssertionError(field)


def columns(model: Any) -> list[tuple[str, str, bool]]:
    """Name, type and whether it may be null, of each field."""
    found = []
    for name, field in model.model_json_schema()["properties"].items():
        kinds = field.get("anyOf", [field])
        given = [kind for kind in kinds if kind != {"type": "null"}]
        found.append((name, column_type(given[0]), len(given) < len(kinds)))
    return found


@pytest.mark.parametrize("table", TABLES)
def test_model_is_the_table(connection, table):
    assert columns(TABLES[table]) == connection.execute(CATALOGUE, [table]).fetchall()


def test_limits_beside_the_types_are_the_checks(connection):
    checks = dict(
        connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'"
        ).fetchall()
    )
    assert "<= 10000" in checks["messages_content_length"]
    assert ">= 1" in checks["messages_content_length"]
    roles = models.Role.__args__
    assert all(f"'{role}'" in checks["room_users_role_known"] for role in roles)
    assert checks["room_users_role_known"].count("::character varying") == len(roles)


@pytest.mark.parametrize("model", [*TABLES.values(), models.MyRoom, models.Member])
def test_models_are_frozen(model):
    assert model.model_config["frozen"]


# Field by field: what it takes, its limit in words, and whether it may be empty.
LIMITS = [
    (models.NewRoom, "name", 1, 100),
    (models.NewRoom, "description", 0, 500),
    (models.NewUser, "password_hash", 1, 255),
    (models.NewMessage, "content", 1, 10_000),
]
VALID: dict[Any, dict[str, Any]] = {
    models.NewUser: {"email": "a@example.net", "username": "a", "password_hash": "hash"},
    models.NewRoom: {"name": "lobby"},
    models.NewMessage: {"user_id": UUID(int=1), "content": "hello"},
}
TEXT = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


def errors(model: Any, **values: Any) -> list[Any]:
    """What is wrong with the values; none if nothing is."""
    try:
        checks(model)({**VALID[model], **values})
    except ValidationError as error:
        return error.errors()
    return []


@pytest.mark.parametrize(("model", "field", "least", "most"), LIMITS)
@given(data=st.data())
def test_text_within_its_limits_is_taken_as_it_is(model, field, least, most, data):
    text = data.draw(st.text(TEXT, min_size=least, max_size=min(most, 600)))
    taken = checks(model)({**VALID[model], field: text})
    assert taken[field] == text


@pytest.mark.parametrize(("model", "field", "least", "most"), LIMITS)
@given(character=TEXT)
def test_limit_counts_characters_as_postgresql_does(model, field, least, most, character):
    assert errors(model, **{field: character * most}) == []
    (error,) = errors(model, **{field: character * (most + 1)})
    assert (error["loc"], error["type"], error["ctx"]) == ((field,), "string_too_long", {"max_length": most})
    assert error["msg"] == f"String should have at most {most} characters"
    assert least == 0 or errors(model, **{field: ""})[0]["type"] == "string_too_short"


@given(before=st.text(TEXT, max_size=20), after=st.text(TEXT, max_size=20))
def test_what_postgresql_cannot_keep_is_refused(before, after):
    (error,) = errors(models.NewMessage, content=f"{before}\0{after}")
    assert error["loc"] == ("content",)
    assert "U+0000" in error["msg"]
    assert errors(models.NewMessage, content=f"{before}\ud800{after}")[0]["type"] == "string_unicode"


@given(
    local=st.text("abcxyz.+-_äé0", min_size=1, max_size=60),
    domain=st.from_regex(r"\A[a-z]{1,9}\.[a-z]{2,5}\Z"),
)
def test_addresses_are_taken(local, domain):
    assert errors(models.NewUser, email=f"{local}@{domain}") == []
    for wrong in (f"{local}{domain}", f"{local}@", f"@{domain}", f"{local} @{domain}", f"{local}@{domain}@"):
        assert [error["loc"] for error in errors(models.NewUser, email=wrong)] == [("email",)]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"username": " ann"}, "username"),
        ({"username": ""}, "username"),
        ({"username": "a" * 51}, "username"),
        ({"username": None}, "username"),
        ({"email": "a" * 250 + "@a.net"}, "email"),
        ({"avatar_url": "javascript:alert(1)"}, "avatar_url"),
        ({"avatar_url": "https://a.net/" + "a" * 490}, "avatar_url"),
        ({"avatar": NEVER}, "avatar"),
        ({"password_hash": 1}, "password_hash"),
    ],
)
def test_error_names_the_field(values, field):
    assert [error["loc"] for error in errors(models.NewUser, **values)] == [(field,)]


@pytest.mark.parametrize("changes", [models.UserChanges, models.RoomChanges])
def test_nothing_need_change_and_null_is_no_change(changes):
    check = checks(changes)
    assert check({}) == {}
    required = [name for name in changes.__annotations__ if "None" not in str(changes.__annotations__[name])]
    assert required
    for name in required:
        with pytest.raises(ValidationError, match=name):
            check({name: None})


def test_errors_and_representations_do_not_show_secrets(user_row):
    assert NEVER not in repr(User(**user_row))
    with pytest.raises(ValidationError) as refused:
        User(**{**user_row, "id": NEVER})
    assert NEVER not in str(refused.value)
    with pytest.raises(ValidationError, match="at most 255") as refused:
        checks(models.NewUser)({**VALID[models.NewUser], "password_hash": NEVER * 50})
    assert NEVER not in str(refused.value)


@pytest.fixture
def user_row() -> dict[str, Any]:
    times = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z")
    return {
        "id": UUID(int=1), "email": "a@example.net", "username": "a",
        "password_hash": NEVER, "avatar_url": None, **times,
    }  # fmt: skip


def test_only_a_deleted_message_is_empty():
    row = {
        "id": UUID(int=1), "room_id": UUID(int=2), "seq": 1, "user_id": None, "content": "",
        "created_at": "2026-01-01T00:00:00Z", "edited_at": None, "deleted_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert Message(**row).content == ""
    with pytest.raises(ValidationError, match="at least 1 character"):
        Message(**{**row, "deleted_at": None})
