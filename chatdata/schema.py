"""The models for other languages, and the command `chatdata models`."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from chatdata import models

_KINDS: dict[JsonSchemaMode, tuple[Any, ...]] = {
    "serialization": (
        models.User, models.Room, models.RoomUser, models.Message, models.MyRoom, models.Member
    ),
    "validation": (
        models.NewUser, models.UserChanges, models.NewRoom, models.RoomChanges, models.NewMessage,
        models.ChangedMessage,
    ),
}  # fmt: skip


class _WithoutTitlesOfFields(GenerateJsonSchema):
    """A title would become a type of its own for each field."""

    def field_title_should_be_set(self, _: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of any model's JSON: rows as they are written, changes as they are read."""
    adapters = [(kind.__name__, mode, TypeAdapter(kind)) for mode, kinds in _KINDS.items() for kind in kinds]
    references, schema = TypeAdapter.json_schemas(
        adapters, title="AnyModel", description="Times are ISO 8601.", schema_generator=_WithoutTitlesOfFields
    )
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "anyOf": [references[name, mode] for name, mode, _ in adapters],
    }


def typescript() -> str:
    """TypeScript's types of the same; bin/make-typescript makes the file from json_schema()."""
    return files("chatdata").joinpath("models.ts").read_text(encoding="utf-8")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `chatdata models`."""
    parser = commands.add_parser("models", help="print the models' JSON Schema, or their TypeScript types")
    parser.add_argument("--typescript", action="store_true", help="TypeScript's types instead")
    parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace) -> int:
    sys.stdout.write(typescript() if arguments.typescript else json.dumps(json_schema(), indent=2) + "\n")
    return 0
