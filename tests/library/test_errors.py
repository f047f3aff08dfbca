"""Migrations that fail: where, why, and what is left."""

from __future__ import annotations

import pytest
from yoyo_support import Database, Folder, Runner

FIVE_LINES = "-- A table\nCREATE TABLE rooms (\n    id int,\n    name text\n    owner int\n);\n"


@pytest.mark.parametrize("check", [True, False])
def test_a_syntax_error_on_line_5_is_reported_as_file_and_line_and_nothing_ran(
    run: Runner, database: Database, folder: Folder, check: bool
) -> None:
    path = folder.write("001_rooms", "CREATE TABLE before (n int);\n" + FIVE_LINES.split("\n", 1)[1])
    failed = run.fails(check=check)
    error = failed["error"]
    assert (error["id"], error["file"], error["line"], error["column"]) == ("001_rooms", str(path), 5, 5)
    assert error["sqlstate"] == "42601"
    assert f"{path}:5" in failed["msg"]
    assert failed["database_state"] == "unchanged"
    assert failed["changed"] is False
    assert (database.tables(), database.recorded()) == ([], [])


def test_check_syntax_can_be_left_out(run: Runner, folder: Folder) -> None:
    folder.write("001_rooms", FIVE_LINES)
    assert run(check=True, check_syntax=False).ids() == ["001_rooms"]


def test_positions_count_characters_not_bytes(run: Runner, folder: Folder) -> None:
    folder.write("001", "SELECT 'äöü😀';\nSELECT 'ß' FRM t;")
    for check in (True, False):
        error = run.fails(check=check)["error"]
        assert (error["line"], error["column"]) == (2, 16)


def test_a_runtime_error_inside_plpgsql_keeps_and_lists_earlier_migrations(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    path = folder.write(
        "002_fails",
        "CREATE TABLE t (n int);\n\nDO $$\nBEGIN\n  PERFORM 1 / 0;\nEND $$;\nCREATE TABLE u (n int);\n",
    )
    folder.tables("003_never")
    failed = run.fails()
    error = failed["error"]
    assert (error["id"], error["file"], error["line"], error["sqlstate"]) == (
        "002_fails",
        str(path),
        3,
        "22012",
    )
    assert "PL/pgSQL" in error["context"]
    assert "line 3 at PERFORM" in error["context"]
    assert failed["database_state"] == "earlier_migrations_kept"
    assert failed.ids() == ["001_users"] == database.recorded()
    assert (failed["changed"], failed["current"]) == (True, "001_users")
    assert database.tables() == ['public."001_users"']


def test_an_error_without_position_has_the_line_of_its_statement(run: Runner, folder: Folder) -> None:
    folder.write(
        "001",
        "CREATE TABLE t (n int PRIMARY KEY); -- ; not\n/* nor; /* this; */ */\nINSERT INTO t VALUES (1);\n"
        "SELECT 'it''s; $$', E'\\'; ', $x$ ; $x$;\n\n  -- why\n  INSERT INTO t VALUES (1);\n",
    )
    error = run.fails()["error"]
    assert (error["line"], error["sqlstate"]) == (7, "23505")
    assert "already exists" in error["detail"]


def test_a_table_locked_elsewhere_is_retried_and_then_55p03_names_the_blocker(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    run()
    folder.write("002_alter", 'ALTER TABLE "001_users" ADD m int;')
    with database.connect(application_name="the blocker") as blocker:
        blocker.execute('BEGIN; LOCK TABLE "001_users"')
        pid = blocker.info.backend_pid
        failed = run.fails(lock_timeout_ms=2000, lock_retries=2)
    assert failed["error"]["sqlstate"] == "55P03"
    assert f"pid {pid}" in failed["msg"]
    assert "the blocker" in failed["msg"]
    assert "tried 3 times" in failed["msg"]
    assert failed["database_state"] == "unchanged"


def test_a_lock_that_goes_away_in_time_is_only_a_delay(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    run()
    folder.write("002_alter", 'ALTER TABLE "001_users" ADD m int;')
    with database.connect() as blocker:
        blocker.execute('BEGIN; LOCK TABLE "001_users"')
        process = run.start(lock_timeout_ms=200, lock_retries=20)
        database.wait_until(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'ALTER'"
        )
        blocker.execute("ROLLBACK")
    assert process.result().ids() == ["002_alter"]


@pytest.mark.parametrize(
    "keyword", ["COMMIT", "ROLLBACK", "END", "ABORT", "commit and chain", "PREPARE TRANSACTION 'x'"]
)
@pytest.mark.parametrize("check", [True, False])
def test_a_commit_inside_a_file_is_refused_with_its_line(
    run: Runner, database: Database, folder: Folder, keyword: str, check: bool
) -> None:
    path = folder.write(
        "001", f"CREATE TABLE t (n int);\n-- COMMIT;\n/* ; */ {keyword};\nCREATE TABLE u (n int);"
    )
    failed = run.fails(check=check, check_syntax=False)
    assert (failed["error"]["file"], failed["error"]["line"]) == (str(path), 3)
    assert keyword.split(maxsplit=1)[0].upper() in failed["msg"]
    assert database.tables() == []


# With backslash escapes on, the server sees the string end where a reader of standard SQL sees it go on.
HIDDEN = "CREATE TABLE t (n int);\nSELECT 'x\\'' ; {} --'\n"


@pytest.mark.parametrize("rest", ["COMMIT; SELECT 1 / 0;", "COMMIT; BEGIN;", "COMMIT;"])
def test_a_commit_that_went_unseen_is_reported_as_partial(
    run: Runner, database: Database, folder: Folder, rest: str
) -> None:
    database.query(f"ALTER DATABASE {database.name} SET standard_conforming_strings = off")
    folder.write("001", HIDDEN.format(rest))
    failed = run.fails()
    assert (failed["database_state"], failed["changed"]) == ("partial", True)
    assert "ended the transaction" in failed["msg"]
    assert "state=baselined target=001" in failed["msg"]
    assert (database.tables(), database.recorded()) == (["public.t"], [])


def test_a_rollback_that_went_unseen_is_not_recorded_as_applied(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query(f"ALTER DATABASE {database.name} SET standard_conforming_strings = off")
    folder.write("001", HIDDEN.format("ROLLBACK; BEGIN;"))
    failed = run.fails()
    assert failed["database_state"] == "unchanged"
    assert "rolled back the transaction" in failed["msg"]
    assert (database.tables(), database.recorded()) == ([], [])


@pytest.mark.parametrize("commands", ["COMMIT", "COMMIT; BEGIN"])
def test_a_python_migration_that_commits_is_reported_as_partial(
    run: Runner, database: Database, folder: Folder, commands: str
) -> None:
    folder.write(
        "001.py",
        "from yoyo import step\nstep('CREATE TABLE t (n int)')\n"
        f"step(lambda connection: connection.cursor().execute({commands!r}))\n",
    )
    failed = run.fails(allow_python=True)
    assert failed["database_state"] == "partial"
    assert (database.tables(), database.recorded()) == (["public.t"], [])


@pytest.mark.parametrize("statement", ["VACUUM", "CREATE INDEX CONCURRENTLY i ON t (n)"])
def test_what_cannot_run_in_a_transaction_comes_with_the_header_that_it_needs(
    run: Runner, database: Database, folder: Folder, statement: str
) -> None:
    folder.write("001", f"CREATE TABLE t (n int);\n{statement};")
    error = run.fails()["error"]
    assert (error["sqlstate"], error["line"]) == ("25001", 2)
    assert "-- transactional: false" in error["hint"]
    assert database.tables() == []


def test_a_python_file_that_cannot_be_imported_keeps_what_came_before(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    folder.write("002.py", "from yoyo import stepp\n")
    failed = run.fails(allow_python=True)
    assert (failed["error"]["id"], failed["database_state"]) == ("002", "earlier_migrations_kept")
    assert "Nothing was changed" not in failed["msg"]
    assert failed.ids() == database.recorded() == ["001_users"]


def test_the_isolation_level_is_the_migration_s_to_choose(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write(
        "001",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\n"
        "CREATE TABLE t AS SELECT current_setting('transaction_isolation') AS level;",
    )
    run()
    assert database.query("SELECT level FROM t") == ["serializable"]


def test_an_error_that_is_not_about_a_lock_names_no_blocker(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query("CREATE TABLE t (n int)")
    folder.write("001", "ALTER TABLE t ADD m int; SELECT 1 / 0;")
    with database.connect() as blocker:
        blocker.execute("BEGIN; LOCK TABLE t")
        process = run.start(lock_timeout_ms=4000)
        # The watch has asked for the blocker.
        database.wait_until("SELECT FROM pg_stat_activity WHERE query ~ 'ANY .pg_blocking_pids.[$]1'")
        blocker.execute("ROLLBACK")
    failed = process.result()
    assert failed["error"]["sqlstate"] == "22012"
    assert "blocked by" not in failed["msg"]


def test_a_rollback_to_a_savepoint_and_keywords_inside_bodies_are_not_refused(
    run: Runner, folder: Folder
) -> None:
    folder.write(
        "001",
        "SAVEPOINT s; SELECT 1; ROLLBACK TO SAVEPOINT s; RELEASE s;\n"
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END;\n"
        "DO $$ BEGIN NULL; END $$;\nSELECT '\n;COMMIT;';",
    )
    assert run().ids() == ["001"]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("header", ["", "-- transactional: false"])
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("COPY t FROM STDIN", "COPY FROM STDIN"),
        ("COPY t TO STDOUT", "COPY TO STDOUT"),
        ("\\restrict x", "\\restrict is a command for psql"),
    ],
)
def test_what_only_psql_can_do_is_refused_before_anything_runs(
    run: Runner, database: Database, folder: Folder, header: str, statement: str, said: str, check: bool
) -> None:
    folder.write("001", f"{header}\nCREATE TABLE t (n int);\n{statement};\n")
    failed = run.fails(check=check)
    assert said in failed["msg"]
    assert (failed["error"]["line"], failed["database_state"]) == (3, "unchanged")
    assert (database.tables(), database.recorded()) == ([], [])


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("-- why", "the transaction is the module's"),
        ("-- transactional: false", "each statement is its own transaction here"),
    ],
)
def test_check_and_run_refuse_in_the_same_words_for_each_kind(
    run: Runner, folder: Folder, header: str, said: str, check: bool
) -> None:
    folder.write("001", f"{header}\nSELECT 1;\nCOMMIT;")
    failed = run.fails(check=check)
    assert said in failed["error"]["message"]
    assert failed["error"]["line"] == 3


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_comment_ends_with_the_line_whatever_its_end(
    run: Runner, database: Database, folder: Folder, line_end: str
) -> None:
    lines = ["-- transactional: false", "CREATE TABLE t (n int);", "INSERT INTO t VALUES (1);", ""]
    folder.write("001", line_end.join(lines))
    assert run()["applied"][0]["transactional"] is False
    assert database.query("SELECT n FROM t") == [1]
    folder.write("002", line_end.join(["-- why", "SELECT 1;", "SELEC 2;"]))
    for check in (True, False):
        error = run.fails(check=check)["error"]
        assert (error["line"], error["column"]) == (3, 1)
