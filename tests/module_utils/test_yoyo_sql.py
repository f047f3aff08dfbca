from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils.yoyo_sql import line_of, locate, statements, transaction_control

# Stretches of SQL that a splitter may trip over; none of them ends a statement.
PIECES = [
    "SELECT 1",
    "'a;b'",
    "'it''s; fine'",
    "E'\\'; still'",
    "e'a''b\\\\'",
    '"odd;name"',
    '"a "";"" b"',
    "$$ ; $$",
    "$tag$ ; $$ ; $tag$",
    "$été$ ; $été$",
    "-- comment; with ' quote\n",
    "/* ; /* nested; */ ' */",
    "a$b$c",
    "$1",
    "type'x'",
    "été",
    "😀",
    "(1, 2)",
    "\n",
]


def texts(script: str) -> list[str]:
    content = script.encode()
    return [content[found.start : found.end].decode() for found in statements(content)]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), max_size=6))
def test_a_script_splits_at_the_semicolons_between_statements_and_nowhere_else(
    parts: list[list[str]],
) -> None:
    written = ["SELECT " + " ".join(pieces) for pieces in parts]
    found = texts(" ;\n -- between; \n".join(written))
    assert [text.split() for text in found] == [text.split() for text in written]


@pytest.mark.parametrize(
    "script",
    [
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END",
        "create or replace procedure p() begin atomic insert into t values (1); end",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; END; $f$",
        "DO $$ BEGIN COMMIT; END $$",
    ],
)
def test_a_statement_with_semicolons_inside_is_one(script: str) -> None:
    assert texts(f"{script};\nSELECT 'next';") == [script, "SELECT 'next'"]
    assert transaction_control(f"{script};".encode()) is None


@pytest.mark.parametrize("script", ["", " \n", ";;;", "-- only a comment", "/* open", "/* a */ ; -- b"])
def test_nothing_but_blanks_and_comments_holds_no_statement(script: str) -> None:
    assert texts(script) == []


@pytest.mark.parametrize(
    "script", ["SELECT 'open; SELECT 2;", "SELECT $$open; SELECT 2;", 'SELECT "open; x', "SELECT E'\\';"]
)
def test_a_quote_that_never_closes_takes_the_rest_and_leaves_the_complaint_to_the_server(script: str) -> None:
    assert texts(script) == [script]


@pytest.mark.parametrize(
    ("statement", "keyword"),
    [
        ("COMMIT", "COMMIT"),
        ("commit  prepared 'x'", "COMMIT"),
        ("Rollback", "ROLLBACK"),
        ("ROLLBACK AND CHAIN", "ROLLBACK"),
        ("END", "END"),
        ("ABORT WORK", "ABORT"),
        ("PREPARE\n TRANSACTION 'x'", "PREPARE TRANSACTION"),
    ],
)
def test_what_would_end_the_transaction_is_found_with_its_line(statement: str, keyword: str) -> None:
    assert transaction_control(f"SELECT 1;\n-- why\n{statement};".encode()) == (3, keyword)


@pytest.mark.parametrize(
    "statement",
    [
        "ROLLBACK TO s",
        "rollback work to savepoint s",
        "PREPARE p AS SELECT 1",
        "SELECT 'COMMIT'",
        "SAVEPOINT s",
        "endless",
        "COMMITTED",
    ],
)
def test_what_only_looks_like_the_end_of_the_transaction_is_left_alone(statement: str) -> None:
    assert transaction_control(f"SELECT 1;{statement};".encode()) is None


@given(st.text(st.sampled_from("aß😀\n"), max_size=40), st.integers(0, 40))
def test_a_position_in_characters_becomes_line_and_column(text: str, at: int) -> None:
    at = min(at, len(text))
    line, column = locate(text.encode(), at + 1)
    lines = text[:at].split("\n")
    assert (line, column) == (len(lines), len(lines[-1]) + 1)
    assert line_of(text.encode(), len(text[:at].encode())) == line
