"""The models in JSON Schema and TypeScript."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from chatdata import models
from chatdata.cli import main
from chatdata.schema import json_schema, typescript

from ..molecule.runs import PROJECT

NODE = Path(sys.executable).with_name("node")
TSC = PROJECT / ".cache/typescript/node_modules/.bin/tsc"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The types, made anew."""
    file = tmp_path_factory.mktemp("typescript") / "models.ts"
    subprocess.run([sys.executable, PROJECT / "bin/make-typescript", file], check=True)
    return file


def compiled(made: Path, use: str) -> str:
    """What the compiler says about a program that uses the types; empty if nothing."""
    (made.parent / "use.ts").write_text('import type * as chat from "./models";\n' + use)
    strictly = [
        "--strict",
        "--noEmit",
        "--noUnusedLocals",
        "--exactOptionalPropertyTypes",
        "--module",
        "preserve",
    ]
    done = subprocess.run(
        [NODE, TSC, *strictly, "use.ts"], cwd=made.parent, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_types_are_made_from_the_models(made):
    assert made.read_text() == typescript(), "run bin/make-typescript"


def test_a_row_as_json_is_of_its_type(made):
    message = models.Message(
        id=uuid4(), room_id=uuid4(), seq=1, user_id=None, content="hello", created_at=NOW, edited_at=None,
        deleted_at=None,
    )  # fmt: skip
    member = models.RoomUser(
        room_id=message.room_id, user_id=uuid4(), role="owner", last_read_seq=1, joined_at=NOW
    )
    use = (
        f"export const message: chat.Message = {message.model_dump_json()};\n"
        f"export const member: chat.RoomUser = {member.model_dump_json()};\n"
        "export const time: string = message.created_at;\n"
        "export const changed: chat.RoomChanges = { description: null };\n"
    )
    assert compiled(made, use) == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("export const at = (message: chat.Message): Date => message.created_at;", "TS2322"),
        ("export const id = (user: chat.User): number => user.id;", "TS2322"),
        ('export const role: chat.RoomUser["role"] = "admin";', "TS2322"),
        ("export const author = (message: chat.Message): string => message.user_id;", "TS2322"),
        ('export const more: chat.NewRoom = { name: "a", colour: "red" };', "TS2353"),
        ("export const less: chat.NewRoom = {};", "TS2741"),
    ],
)
def test_the_compiler_refuses_another_use(made, wrong, said):
    assert said in compiled(made, wrong)


def test_every_model_and_its_fields_are_there():
    schema = json_schema()
    rows = {"User", "Room", "RoomUser", "Message", "MyRoom", "Member"}
    inputs = {"NewUser", "UserChanges", "NewRoom", "RoomChanges", "NewMessage", "ChangedMessage"}
    assert set(schema["$defs"]) == rows | inputs
    assert {reference["$ref"].removeprefix("#/$defs/") for reference in schema["anyOf"]} == rows | inputs
    for name in rows:
        assert set(schema["$defs"][name]["required"]) == set(getattr(models, name).model_fields)


def test_the_command_prints_both(capsys):
    assert main(["models"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
    assert main(["models", "--typescript"]) == 0
    assert capsys.readouterr().out == typescript()
