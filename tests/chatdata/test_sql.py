"""What the repositories make of rows."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import ValidationError

from chatdata._sql import maker
from chatdata.models import Message

ROW = uuid4(), uuid4(), 1, None, "hello", datetime.now(UTC), None, None


def test_made_model_is_as_a_validated_one():
    made = maker(Message)(ROW)
    validated = Message.model_validate(dict(zip(Message.model_fields, ROW, strict=True)))
    assert made == validated
    assert hash(made) == hash(validated)
    assert repr(made) == repr(validated)
    assert made.model_fields_set == validated.model_fields_set
    assert made.model_dump_json() == validated.model_dump_json()
    assert made.model_copy() == made


def test_made_model_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        maker(Message)(ROW).content = "bye"


@pytest.mark.parametrize("row", [ROW[:-1], (*ROW, None)])
def test_row_of_another_width_is_refused(row):
    with pytest.raises(ValueError, match="values to unpack"):
        maker(Message)(row)
