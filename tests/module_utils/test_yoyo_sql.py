from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from module_utils.yoyo_sql import line_of, locate, refusal, statements

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
    "-- comment; with ' quote\r",
    "E'a' -- ; it's\n -- ' ;\r\n '\\'; still'",
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
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; END",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS end; SELECT x.end FROM x; END",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 case; SELECT 2 end; /* ; */ END",
        "CREATE FUNCTION f() RETURNS void BEGIN /* ; */ ATOMIC END",
        "CREATE /* x; */ OR REPLACE -- ;\n FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
        "create or replace procedure p() begin atomic insert into t values (1); end",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; END; $f$",
        "DO $$ BEGIN COMMIT; END $$",
    ],
)
def test_a_statement_with_semicolons_inside_is_one(script: str) -> None:
    assert texts(f"{script};\nSELECT 'next';") == [script, "SELECT 'next'"]
    assert refusal(f"{script};".encode(), transactional=True) is None
    assert refusal(f"{script}; COMMIT".encode(), transactional=True) is not None


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
        ("Rollback", "ROLLBACK"),
        ("ROLLBACK AND CHAIN", "ROLLBACK"),
        ("END", "END"),
        ("ABORT WORK", "ABORT"),
        ("PREPARE\n TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("PREPARE /* */ TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("SELECT E'x'\t\n'\\'y'; COMMIT", "COMMIT"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("transactional", [True, False])
def test_what_would_end_the_transaction_is_refused_with_its_line(
    statement: str, keyword: str, line_end: str, transactional: bool
) -> None:
    script = f"SELECT 1;\n-- why\n{statement};".replace("\n", line_end)
    found = refusal(script.encode(), transactional=transactional)
    assert found
    line, message = found
    assert line == (4 if "SELECT" in statement else 3)
    assert message.startswith(f"{keyword} ")
    assert ("each statement is its own transaction" in message) is not transactional


@pytest.mark.parametrize("statement", ["BEGIN", "begin work", "START /**/ TRANSACTION READ ONLY"])
def test_only_a_non_transactional_migration_may_not_begin_a_transaction(statement: str) -> None:
    script = f"SELECT 1;\n{statement};".encode()
    assert refusal(script, transactional=True) is None
    found = refusal(script, transactional=False)
    assert found
    assert found[0] == 2
    assert "non-transactional" in found[1]


def test_only_a_non_transactional_migration_may_end_what_was_prepared_elsewhere() -> None:
    for script in (b"COMMIT  PREPARED 'x'", b"ROLLBACK PREPARED 'x'"):
        assert refusal(script, transactional=False) is None
        assert refusal(script, transactional=True) is not None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("COPY t FROM STDIN", "COPY FROM STDIN"),
        ('copy "to" (a, b) from /* ; */ stdin with (format csv)', "COPY FROM STDIN"),
        ("COPY (SELECT 1 FROM t) TO STDOUT", "COPY TO STDOUT"),
        ("\\restrict AbC\n\nSET x = 1", "\\restrict"),
        ("\\.\n", "\\."),
    ],
)
@pytest.mark.parametrize("transactional", [True, False])
def test_what_only_psql_can_do_is_refused(statement: str, said: str, transactional: bool) -> None:
    found = refusal(f"SELECT 1;\n{statement};".encode(), transactional=transactional)
    assert found
    assert (found[0], said in found[1]) == (2, True)


@pytest.mark.parametrize(
    "statement", ["COPY t FROM '/a/file'", "COPY (SELECT 1 FROM stdin) TO '/a/file'", "SELECT 1 FROM stdin"]
)
def test_a_copy_on_the_server_is_left_alone(statement: str) -> None:
    assert refusal(f"{statement}; SELECT 1".encode(), transactional=True) is None


@pytest.mark.parametrize(
    "statement",
    [
        "ROLLBACK TO s",
        "rollback work to savepoint s",
        "ROLLBACK /*x*/ TO s",
        "ROLLBACK /*x*/ TRANSACTION -- x\r TO s",
        "PREPARE p AS SELECT 1",
        "SELECT 'COMMIT'",
        "SAVEPOINT s",
        "endless",
        "COMMITTED",
    ],
)
def test_what_only_looks_like_the_end_of_the_transaction_is_left_alone(statement: str) -> None:
    assert refusal(f"SELECT 1;{statement};".encode(), transactional=True) is None


@given(st.text(st.sampled_from("aß😀\n\r"), max_size=40), st.integers(0, 40))
def test_a_position_in_characters_becomes_line_and_column(text: str, at: int) -> None:
    at = min(at, len(text))
    assume(text[at - 1 : at + 1] != "\r\n")
    line, column = locate(text.encode(), at + 1)
    lines = re.split(r"\r\n|\r|\n", text[:at])
    assert (line, column) == (len(lines), len(lines[-1]) + 1)
    assert line_of(text.encode(), len(text[:at].encode())) == line
