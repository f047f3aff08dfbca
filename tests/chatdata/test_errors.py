"""Which of psycopg's errors becomes which of ours."""

from __future__ import annotations

import psycopg
import pytest

from chatdata import errors
from chatdata.errors import ChatDataError, Conflict, Timeout, Unavailable, from_postgresql, postgresql_errors

KINDS = {
    Conflict: ["40001", "40P01"],
    Timeout: ["57014", "55P03", "25P03", "25P04"],
    Unavailable: ["08000", "08003", "08006", "08P01", "53100", "53300", "57P01", "57P02", "57P03", "25006"],
    errors.AlreadyExists: ["23505"],
    errors.NotFound: ["23503"],
    ChatDataError: ["22001", "22021", "23502", "23514", "42P01", "0A000"],
}


@pytest.mark.parametrize(
    ("kind", "sqlstate"), [(kind, code) for kind, codes in KINDS.items() for code in codes]
)
def test_sqlstate_decides(kind, sqlstate):
    known = {"sqlstate": sqlstate}
    found = from_postgresql(type("Error", (psycopg.DatabaseError,), known)("no"))
    assert (type(found), found.sqlstate) == (kind, sqlstate)


def test_lost_connection_has_no_sqlstate():
    found = from_postgresql(psycopg.OperationalError("the connection is closed"))
    assert (type(found), found.sqlstate) == (Unavailable, None)
    assert type(from_postgresql(psycopg.InterfaceError("the cursor is closed"))) is ChatDataError


def test_cause_is_kept_and_others_pass():
    with pytest.raises(ChatDataError) as refused, postgresql_errors():
        raise psycopg.DataError("no")
    assert isinstance(refused.value.__cause__, psycopg.DataError)
    with pytest.raises(KeyError), postgresql_errors():
        raise KeyError


def test_every_constraint_has_its_word(connection):
    rows = connection.execute(
        "SELECT conname, contype FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        " UNION SELECT relname, 'u' FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE indisunique AND relnamespace = 'public'::regnamespace"
    ).fetchall()
    assert {name for name, kind in rows if kind in "pu"} == set(errors._FIELDS)
    assert {name for name, kind in rows if kind == "f"} == set(errors._REFERENCES)
