"""Applying: what runs, what is recorded, what check mode says, and what the stock command makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from yoyo_support import Database, Folder, Runner, listed, stock_yoyo


def test_an_empty_database_gets_all_and_the_stock_list_agrees(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users", "002_rooms", "003_messages")
    result = run()
    assert result["changed"] is True
    assert result.ids() == ["001_users", "002_rooms", "003_messages"]
    assert result["current"] == "003_messages"
    assert database.tables() == ['public."001_users"', 'public."002_rooms"', 'public."003_messages"']
    assert listed(stock_yoyo(database, folder, "list")) == dict.fromkeys(
        ["001_users", "002_rooms", "003_messages"], "A"
    )


def test_a_second_run_is_ok_with_no_catalog_write_and_no_error_in_the_server_log(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users", "002_rooms")
    run()
    catalog = "SELECT array_agg(xmin::text ORDER BY oid), max(pg_current_wal_lsn()::text) FROM pg_class"
    before, log_before = database.query(catalog), len(database.server_log())
    result = run()
    assert result["changed"] is False
    assert result.ids() == []
    assert database.query(catalog) == before
    assert "ERROR" not in database.server_log()[log_before:]


def test_check_and_diff_on_an_empty_database_show_the_sql_make_no_table_and_import_no_python(
    run: Runner, database: Database, folder: Folder, tmp_path: Path
) -> None:
    folder.tables("001_users")
    witness = tmp_path / "imported"
    python = f"open({str(witness)!r}, 'w')\nfrom yoyo import step\n__depends__ = {{'001_users'}}\n"
    folder.write("002_python.py", python + "step('SELECT 1')\n")
    result = run(check=True, diff=True, allow_python=True)
    assert result["changed"] is True
    assert 'CREATE TABLE "001_users"' in result["diff"][1]["after"]
    assert result["diff"][0]["after"] == "001_users\n002_python\n"
    assert not witness.exists()
    assert database.query("SELECT relname FROM pg_class WHERE relname ~ 'yoyo|users'") == []
    run(allow_python=True)
    assert witness.exists()


def test_check_then_run_give_the_same_ids_and_the_same_changed(run: Runner, folder: Folder) -> None:
    folder.tables("001_users", "002_rooms")
    folder.write("post-apply", "SELECT 1;")
    for options in (
        {},
        {},
        {"state": "rolled_back", "count": 1},
        {"state": "baselined"},
        {"state": "repaired"},
    ):
        predicted, happened = run(check=True, **options), run(**options)
        for key in ("applied", "rolled_back", "marked", "repaired", "post_apply"):
            assert predicted.ids(key) == happened.ids(key), (options, key)
        for key in ("changed", "pending", "current", "diff"):
            assert predicted.get(key) == happened.get(key), (options, key)


def test_dependencies_go_before_names_as_with_the_stock_command(run: Runner, folder: Folder) -> None:
    folder.write("001_late", "-- depends: 003_early\nSELECT 1;")
    folder.tables("002_middle", "003_early")
    assert run().ids() == ["002_middle", "003_early", "001_late"]


def test_a_migration_that_arrives_by_dependency_order_is_not_out_of_order(
    run: Runner, folder: Folder
) -> None:
    folder.write("001_late", "-- depends: 003_early\nSELECT 1;")
    folder.tables("002_middle", "003_early")
    assert run(count=2).ids() == ["002_middle", "003_early"]
    assert run().ids() == ["001_late"]


@pytest.mark.parametrize(
    ("options", "expected"), [({"target": "002_b"}, ["001_a", "002_b"]), ({"count": 1}, ["001_a"])]
)
def test_target_and_count_bound_what_is_applied(
    run: Runner, folder: Folder, options: dict[str, object], expected: list[str]
) -> None:
    folder.tables("001_a", "002_b", "003_c")
    assert run(check=True, **options).ids() == expected
    assert run(**options).ids() == expected


def test_a_target_that_is_no_exact_id_is_refused(run: Runner, folder: Folder) -> None:
    folder.tables("001_a")
    assert "002" in run.fails(target="002")["msg"]


def test_migration_and_bookkeeping_belong_to_the_session_role(
    run: Runner, database: Database, folder: Folder
) -> None:
    role = f"owner_of_{database.name}"
    database.query(f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}")
    folder.tables("001_users")
    folder.write("002_other_role", "SET ROLE postgres; CREATE TABLE mine (n int);")
    folder.write("003_back_again", "CREATE TABLE theirs (n int);")
    run(session_role=role)
    owners = dict(database.query("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'"))
    assert owners["001_users"] == owners["theirs"] == owners["_yoyo_migration"] == role
    assert owners["mine"] == "postgres"
    database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_session_state_does_not_leak_into_the_next_migration(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query("CREATE SCHEMA app; CREATE SCHEMA trap")
    folder.write(
        "001", "SET search_path = trap; SET lock_timeout = 1; CREATE TEMP TABLE t (n int); LISTEN x;"
    )
    folder.write("002", "CREATE TABLE t (n int);")
    run(search_path=["app"])
    assert database.tables() == ["app.t"]


def test_python_migrations_need_consent_and_run_in_their_transaction(
    run: Runner, database: Database, folder: Folder
) -> None:
    code = "from yoyo import step\nprint('noise')\nstep('CREATE TABLE p (n int)', 'DROP TABLE p')\n"
    code += "step(lambda connection: connection.execute('INSERT INTO p VALUES (1)'), 'DELETE FROM p')\n"
    folder.write("001_python.py", code)
    assert "allow_python" in run.fails()["msg"]
    run(allow_python=True)
    assert database.query("SELECT n FROM p") == [1]
    folder.write(
        "002_python.py", code.replace("TABLE p", "TABLE q").replace("INSERT INTO p", "INSERT INTO nowhere")
    )
    failed = run.fails(allow_python=True)
    assert failed["error"]["sqlstate"] == "42P01"
    assert database.tables() == ["public.p"]
    (folder.path / "002_python.py").unlink()
    assert run(state="rolled_back", count=1, allow_python=True).ids("rolled_back") == ["001_python"]
    assert database.tables() == []


def test_notices_are_returned(run: Runner, folder: Folder) -> None:
    folder.write("001", "DO $$ BEGIN RAISE WARNING 'look here'; END $$;")
    assert run()["notices"] == ["WARNING: look here"]


def test_the_info_module_reports_the_record_and_what_is_pending(run: Runner, folder: Folder) -> None:
    folder.tables("001_a", "002_b")
    run(count=1)
    arguments = {
        key: run.arguments[key] for key in ("sources", "login_unix_socket", "login_user", "login_db")
    }
    run.arguments = arguments
    info = run.start("yoyo_migrate_info").result()
    assert (info.ids(), info["pending"], info["current"], info["changed"]) == (
        ["001_a"],
        ["002_b"],
        "001_a",
        False,
    )
    folder.write("001_a", "SELECT 'edited';")
    info = run.start("yoyo_migrate_info").result()
    assert [item["id"] for item in info["drift"]] == ["001_a"]
    assert len(info["problems"]) == 1
