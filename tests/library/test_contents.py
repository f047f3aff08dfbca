"""Files of every size and spelling."""

from __future__ import annotations

import os
import resource
import shutil

import pytest
from yoyo_support import Database, Folder, Runner, listed, stock_yoyo


def test_unicode_ids_and_sql_work_under_lc_all_c(run: Runner, database: Database, folder: Folder) -> None:
    id = "001_größe_Ж_日本_😀"
    folder.write(id, 'CREATE TABLE "größe" (t text); INSERT INTO "größe" VALUES (\'日本😀\');')
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run.start(process={"env": {**environment, **ascii_only}}).result()
    assert result.ids() == [id] == database.recorded()
    assert database.query('SELECT t FROM "größe"') == ["日本😀"]
    assert listed(stock_yoyo(database, folder, "list")) == {id: "A"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a uid that nobody has")
def test_a_uid_without_a_passwd_entry_can_migrate(run: Runner, database: Database, folder: Folder) -> None:
    folder.tables("001_users")
    public = database.cluster.folder / "migrations"
    shutil.copytree(folder.path, public)
    process = {
        "user": 54321,
        "group": 54321,
        "extra_groups": [],
        "cwd": "/",
        "env": {**os.environ, "HOME": "/nonexistent"},
    }
    try:
        assert run.start(process=process, sources=[str(public)]).result().ids() == ["001_users"]
    finally:
        shutil.rmtree(public)


def test_a_byte_order_mark_is_not_sent_and_does_not_hide_the_header(run: Runner, folder: Folder) -> None:
    folder.write("001_late", b"\xef\xbb\xbf-- depends: 002_early\nSELECT 1;")
    folder.write("002_early", b"\xef\xbb\xbfCREATE TABLE t (n int);")
    assert run().ids() == ["002_early", "001_late"]


@pytest.mark.parametrize("check", [True, False])
def test_a_latin_1_file_is_refused_with_file_and_byte(
    run: Runner, database: Database, folder: Folder, check: bool
) -> None:
    folder.tables("001_users")
    path = folder.write("002_latin", "-- héllo".encode() + b"\nSELECT 'gr\xf6\xdfe';")
    failed = run.fails(check=check)
    assert str(path) in failed["msg"]
    assert "0xf6" in failed["msg"]
    assert "offset 20" in failed["msg"]
    assert database.recorded() == []


def test_a_20_mb_file_is_applied(run: Runner, database: Database, folder: Folder) -> None:
    row = "INSERT INTO t VALUES (" + "'x'" * 1 + ", '" + "y" * 2000 + "');\n"
    folder.write("001_big", "CREATE TABLE t (a text, b text);\n" + row * (20_000_000 // len(row)))
    assert run().ids() == ["001_big"]
    assert database.query("SELECT count(*) FROM t") == [20_000_000 // len(row)]


def test_a_file_of_50_000_statements_is_applied(run: Runner, database: Database, folder: Folder) -> None:
    folder.write("001_many", "CREATE TABLE t (n int);\n" + "INSERT INTO t VALUES (1);\n" * 50_000)
    assert run().ids() == ["001_many"]
    assert database.query("SELECT count(*) FROM t") == [50_000]


def test_a_select_of_many_megabytes_does_not_take_as_much_memory(run: Runner, folder: Folder) -> None:
    folder.write("001", "SELECT repeat('x', 1000000) FROM generate_series(1, 800);")
    limit = 600 * 1024 * 1024

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    assert run.start(process={"preexec_fn": limited}).result().ids() == ["001"]


def test_a_client_encoding_of_the_migration_s_own_does_not_garble_the_record(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_表", "SET client_encoding = 'LATIN1'; SELECT 1;")
    assert run().ids() == database.recorded() == ["001_表"]


def test_a_select_that_returns_json_does_not_disturb_the_result(run: Runner, folder: Folder) -> None:
    folder.write("001_json", """SELECT '{"failed": true, "changed": false}'::json; SELECT 1;""")
    result = run()
    assert result.ids() == ["001_json"]
    assert not result.get("failed")


def test_a_role_that_creates_a_schema_of_its_own_name_re_runs_as_a_no_op(
    run: Runner, database: Database, folder: Folder
) -> None:
    role = f"chat_{database.name}"
    database.query(f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}")
    database.query(f"GRANT CREATE ON DATABASE {database.name} TO {role}")
    folder.write("001_schema", f"CREATE SCHEMA {role}; CREATE TABLE {role}.users (n int);")
    assert run(login_user=role).ids() == ["001_schema"]
    assert run(login_user=role)["changed"] is False
    database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_bookkeeping_schema_of_its_own_is_made_and_the_stock_command_finds_it(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    run(bookkeeping_schema="Book keeping")
    assert database.recorded(schema='"Book keeping"') == ["001_users"]
    assert run(bookkeeping_schema="Book keeping")["changed"] is False
    run(bookkeeping_schema="meta", on_missing="ignore", state="baselined")
    assert listed(stock_yoyo(database, folder, "list", schema="meta")) == {"001_users": "A"}


def test_only_comments_is_a_migration_too(run: Runner, folder: Folder) -> None:
    folder.write("001_nothing", "-- nothing to do here\n", rollback="")
    assert run().ids() == ["001_nothing"]
    assert run(state="rolled_back", count=1).ids("rolled_back") == ["001_nothing"]
