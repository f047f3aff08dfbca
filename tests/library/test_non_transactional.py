"""Migrations that run statement by statement, and what is left of those that stop in the middle."""

from __future__ import annotations

import signal

import pytest
from yoyo_support import Database, Folder, Runner

SLEEPING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'yoyo_migrate' AND query ~ '^SELECT pg_sleep'"
)


def test_a_non_transactional_migration_that_fails_at_its_second_statement_leaves_the_rest_intact(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query("CREATE TABLE old (n int); INSERT INTO old SELECT 1 FROM generate_series(1, 1000)")
    path = folder.write(
        "001_index",
        "-- transactional: false\nCREATE TABLE IF NOT EXISTS new (n int);\n"
        "CREATE UNIQUE INDEX CONCURRENTLY dup ON old (n);\n",
        rollback="DROP TABLE old;\nDROP INDEX dup;",
    )
    failed = run.fails()
    error = failed["error"]
    assert (error["file"], error["line"], error["sqlstate"]) == (str(path), 3, "23505")
    assert failed["database_state"] == "partial"
    assert failed["invalid_indexes"] == ["public.dup"]
    assert "public.dup" in failed["msg"]
    assert failed["finished_statements"] == ["CREATE TABLE IF NOT EXISTS new (n int)"]
    assert database.query("SELECT count(*) FROM old") == [1000]
    for check in (True, False):
        again = run.fails(check=check)
        assert "state=repaired" in again["msg"]
        assert "1 of 2" in again["msg"]
    database.query("DROP INDEX dup; TRUNCATE old")
    assert run(state="repaired").ids("repaired") == ["001_index"]
    assert run().ids() == ["001_index"]


def test_an_unfinished_migration_that_was_finished_by_hand_is_baselined(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_index", "-- transactional: false\nCREATE TABLE t (n int);\nSELECT 1 / 0;\n")
    run.fails()
    assert run(state="baselined", target="001_index").ids("marked") == ["001_index"]
    assert run()["changed"] is False
    assert database.recorded() == ["001_index"]


def test_a_non_transactional_migration_whose_first_statement_is_refused_needs_no_repair(
    run: Runner, folder: Folder
) -> None:
    path = folder.write("001_index", "-- transactional: false\nCREATE TABEL t (n int);\n")
    failed = run.fails()
    assert (failed["database_state"], failed["error"]["line"]) == ("unchanged", 2)
    path.write_text("-- transactional: false\nCREATE TABLE t (n int);\n")
    assert run().ids() == ["001_index"]


def test_sigterm_between_its_statements_leaves_the_intent_and_says_how_far_it_got(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001", "-- transactional: false\nCREATE TABLE t (n int);\nSELECT pg_sleep(60);\n")
    process = run.start()
    database.wait_until(SLEEPING)
    process.popen.send_signal(signal.SIGTERM)
    stopped = process.result(timeout_s=10)
    assert "SIGTERM" in stopped["msg"]
    assert (stopped["database_state"], stopped["changed"]) == ("partial", True)
    assert stopped["finished_statements"] == ["CREATE TABLE t (n int)"]
    assert "1 of 2" in run.fails(lock_wait_s=0)["msg"]


def test_a_connection_lost_between_its_statements_leaves_the_intent(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001", "-- transactional: false\nCREATE TABLE t (n int);\nSELECT pg_sleep(60);\n")
    process = run.start()
    database.wait_until(SLEEPING)
    database.query(f"SELECT pg_terminate_backend(pid) FROM ({SLEEPING}) AS s")
    failed = process.result()
    assert (failed["database_state"], failed["error"]["line"]) == ("partial", 3)
    assert "1 of 2" in run.fails()["msg"]


def test_kill_9_between_its_statements_leaves_the_intent(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001", "-- transactional: false\nCREATE TABLE t (n int);\nSELECT pg_sleep(60);\n")
    process = run.start()
    database.wait_until(SLEEPING)
    process.kill(signal.SIGKILL)
    for check in (True, False):
        assert "state=repaired target=001" in run.fails(check=check)["msg"].replace("\n", " ")


def test_a_run_that_waits_behind_one_in_progress_does_not_take_it_for_unfinished(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001", "-- transactional: false\nSELECT pg_sleep(1);\n")
    process = run.start()
    database.wait_until(SLEEPING)
    assert run()["changed"] is False
    assert process.result().ids() == ["001"]


def test_its_bookkeeping_survives_a_change_of_role(run: Runner, database: Database, folder: Folder) -> None:
    role = f"other_{database.name}"
    database.query(f"CREATE ROLE {role}; GRANT ALL ON SCHEMA public TO {role}")
    folder.write("001", f"-- transactional: false\nSET ROLE {role};\nCREATE TABLE t (n int);\n")
    assert run().ids() == ["001"]
    assert database.query("SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [role]
    database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("check", [True, False])
def test_it_may_not_open_a_transaction(run: Runner, database: Database, folder: Folder, check: bool) -> None:
    folder.write("001", "-- transactional: false\nBEGIN;\nCREATE TABLE t (n int);\n")
    failed = run.fails(check=check)
    assert "BEGIN in a non-transactional migration" in failed["msg"]
    assert (failed["error"]["line"], failed["database_state"]) == (2, "unchanged")
    assert database.tables() == []


def test_a_python_migration_may_be_one(run: Runner, database: Database, folder: Folder) -> None:
    code = (
        "from yoyo import step\n__transactional__ = False\nstep('CREATE TABLE t (n int)', 'DROP TABLE t')\n"
    )
    folder.write(
        "001.py", code + "step('CREATE INDEX CONCURRENTLY i ON t (n)', 'DROP INDEX CONCURRENTLY i')\n"
    )
    assert run(allow_python=True).ids() == ["001"]
    assert run(allow_python=True, state="rolled_back", count=1).ids("rolled_back") == ["001"]
    assert database.tables() == []


def test_a_rollback_may_be_one_and_fail_in_the_middle(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write(
        "001", "-- transactional: false\nCREATE TABLE t (n int);", rollback="DROP TABLE t;\nDROP TABLE u;\n"
    )
    run()
    failed = run.fails(state="rolled_back", count=1)
    assert failed["database_state"] == "partial"
    assert failed["error"]["file"].endswith("001.rollback.sql")
    assert database.recorded() == ["001"]
    assert "rollback of 001" in run.fails()["msg"]
    assert "Finish it by hand" in failed["msg"]
    assert run(state="repaired").ids("repaired") == ["001"]
    assert database.recorded() == []


def test_a_lock_that_its_first_statement_did_not_get_needs_no_repair(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query("CREATE TABLE t (n int)")
    folder.write("001", "-- transactional: false\nALTER TABLE t ADD m int;\n")
    with database.connect() as blocker:
        blocker.execute("BEGIN; LOCK TABLE t")
        failed = run.fails(lock_timeout_ms=3000)
        assert f"blocked by pid {blocker.info.backend_pid}" in failed["msg"]
    assert (failed["error"]["sqlstate"], failed["database_state"]) == ("55P03", "unchanged")
    assert run().ids() == ["001"]


def test_its_own_lock_timeout_outlasts_a_concurrent_statement(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write(
        "001",
        "-- transactional: false\nCREATE TABLE t (n int, seen text);\nSET lock_timeout = '1234ms';\n"
        "CREATE INDEX CONCURRENTLY i ON t (n);\nINSERT INTO t VALUES (1, current_setting('lock_timeout'));\n",
    )
    run()
    assert database.query("SELECT seen FROM t") == ["1234ms"]


def test_a_password_in_a_finished_statement_is_not_shown(
    run: Runner, database: Database, folder: Folder
) -> None:
    role = f"role_{database.name}"
    folder.write("001", f"-- transactional: false\nCREATE ROLE {role} PASSWORD 's3cret';\nSELECT 1 / 0;\n")
    failed = run.fails()
    assert failed["finished_statements"] == [f"CREATE ROLE {role} PASSWORD"]
    assert "s3cret" not in failed.output
    database.query(f"DROP ROLE {role}")
