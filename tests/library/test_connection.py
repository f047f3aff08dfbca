"""Reaching the database, losing it, and what is said when it says no."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from yoyo_proxy import PORT_FILE, Proxy
from yoyo_support import Cluster, Database, Folder, Runner

SLEEPING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'yoyo_migrate' AND query ~ 'pg_sleep'"
PASSWORD = "wrong#/@%word"
CONNECTION = ("login_unix_socket", "login_user", "login_db")
BY_DSN = dict.fromkeys(CONNECTION)


def test_a_connection_terminated_in_a_migration_is_rolled_back_reported_and_repeatable(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    slow = folder.write("002_slow", "CREATE TABLE slow (n int); SELECT pg_sleep(60);")
    process = run.start()
    database.wait_until(SLEEPING)
    database.query(f"SELECT pg_terminate_backend(pid) FROM ({SLEEPING}) AS s")
    failed = process.result()
    assert failed["failed"]
    assert failed["database_state"] == "earlier_migrations_kept"
    assert "rolled back" in failed["msg"]
    assert failed["error"]["id"] == "002_slow"
    assert database.tables() == ['public."001_users"']
    slow.write_text("CREATE TABLE slow (n int);")
    assert run().ids() == ["002_slow"]


@pytest.mark.parametrize("hang_up", ["before", "after"])
def test_a_connection_lost_at_commit_gives_the_true_outcome(
    run: Runner, database: Database, folder: Folder, hang_up: str
) -> None:
    folder.tables("001_users", "002_rooms")
    with Proxy(database.cluster.folder, hang_up=hang_up) as proxy:  # type: ignore[arg-type]
        result = run.attempt(login_unix_socket=str(proxy.folder))
    assert result.ids() == database.recorded() == [table.split('"')[1] for table in database.tables()]
    if hang_up == "after":
        assert not result.get("failed")
        assert database.recorded() == ["001_users", "002_rooms"]
    else:
        assert result["failed"]
        assert database.recorded() == []
        assert run().ids() == ["001_users", "002_rooms"]


def test_a_connection_lost_while_the_server_still_commits_gives_the_true_outcome(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write(
        "001_deferred",
        "CREATE TABLE t (n int);"
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER s AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow();"
        "INSERT INTO t VALUES (1);",
    )
    with Proxy(database.cluster.folder, hang_up="after") as proxy:
        result = run.attempt(login_unix_socket=str(proxy.folder))
    assert result.ids() == database.recorded()
    assert bool(result.get("failed")) == (database.recorded() == [])


def test_a_connection_lost_at_commit_with_no_patience_gives_the_true_outcome(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    with Proxy(database.cluster.folder, hang_up="after") as proxy:
        result = run(login_unix_socket=str(proxy.folder), lock_wait_s=0)
    assert result.ids() == database.recorded() == ["001_users"]


def test_a_connection_lost_at_the_commit_of_a_hook_gives_the_true_outcome(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    hook = folder.write("post-apply", "SELECT 1 / 0;")
    run.fails()
    hook.write_text("CREATE TABLE hooked (n int);")
    with Proxy(database.cluster.folder, hang_up="after") as proxy:
        result = run(login_unix_socket=str(proxy.folder))
    assert result.ids("post_apply") == ["post-apply"]
    assert "public.hooked" in database.tables()


def test_an_outcome_that_nobody_can_be_asked_about_is_called_unknown(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    with Proxy(database.cluster.folder, hang_up="after", for_good=True) as proxy:
        failed = run.fails(login_unix_socket=str(proxy.folder))
    assert failed["database_state"] == "unknown"
    assert "unchanged" not in failed["msg"]
    assert "Nothing was changed" not in failed["msg"]
    assert "run again" in failed["msg"]
    assert run()["changed"] is (database.recorded() == [])


def test_timeouts_of_idle_sessions_do_not_end_a_run_that_waits(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query("CREATE TABLE t (n int)")
    for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        database.query(f"ALTER DATABASE {database.name} SET {setting} = '200ms'")
    folder.write("001", "ALTER TABLE t ADD m int;")
    with database.connect(options="-c idle_in_transaction_session_timeout=0") as blocker:
        blocker.execute("BEGIN; LOCK TABLE t")
        process = run.start(lock_timeout_ms=600, lock_retries=20)
        database.wait_until("SELECT FROM pg_locks WHERE NOT granted")
        database.wait_until("SELECT WHERE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        database.wait_until("SELECT FROM pg_locks WHERE NOT granted")  # it has slept, and is back
        blocker.execute("ROLLBACK")
    assert process.result().ids() == ["001"]


def test_an_unreachable_database_fails_within_connect_timeout_without_the_password(
    run: Runner, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:  # accepts, and never says a word
        silent.bind(str(tmp_path / PORT_FILE))
        silent.listen()
        process = run.start(login_unix_socket=str(tmp_path), login_password=PASSWORD, connect_timeout=2)
        failed = process.result(timeout_s=30)  # without a limit it would wait for ever
    assert "timeout" in failed["msg"]
    assert failed["database_state"] == "unchanged"
    _assert_not_leaked(failed.output)


def test_no_server_at_all_fails_at_once(run: Runner, tmp_path: Path) -> None:
    failed = run.start(login_unix_socket=str(tmp_path), connect_timeout=600).result(timeout_s=60)
    assert str(tmp_path) in failed["msg"]


@pytest.fixture
def secretive(database: Database) -> None:
    """The role that needs a password."""
    database.query("DROP ROLE IF EXISTS secretive; CREATE ROLE secretive LOGIN PASSWORD 'right'")


@pytest.mark.parametrize("dsn", [False, True])
@pytest.mark.usefixtures("secretive")
def test_a_wrong_password_with_odd_characters_is_28p01_and_not_leaked(
    run: Runner, database: Database, dsn: bool
) -> None:
    uri = f"postgresql://secretive:{quote(PASSWORD, safe='')}@/{database.name}?host={database.cluster.folder}"
    options = {"dsn": uri, **BY_DSN} if dsn else {"login_user": "secretive", "login_password": PASSWORD}
    failed = run.fails(**options)
    assert failed["error"]["sqlstate"] == "28P01"
    _assert_not_leaked(failed.output)


@pytest.mark.usefixtures("secretive")
def test_the_right_password_of_a_dsn_lets_in(run: Runner, database: Database) -> None:
    uri = f"postgresql://secretive:right@/{database.name}?host={database.cluster.folder}"
    assert run(dsn=uri, **BY_DSN)["changed"] is False


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{PASSWORD}@nowhere.invalid/d",
        "postgresql://u:wr#ng/w@rd@nowhere.invalid/d",
        f"host=/x password '{PASSWORD}'",
    ],
)
def test_a_dsn_with_an_unencoded_password_is_refused_without_showing_it(run: Runner, dsn: str) -> None:
    failed = run.fails(dsn=dsn, connect_timeout=2, **BY_DSN)
    _assert_not_leaked(failed.output)
    assert [piece for piece in ("wr#ng", "w@rd", "rd@") if piece in failed.output] == []
    assert "Percent-encode" in failed["msg"]
    assert failed["applied"] == []


def test_a_login_role_that_switches_to_the_owner_by_itself_can_migrate(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    owner, app = f"owner_{database.name}", f"app_{database.name}"
    database.query(
        f"CREATE ROLE {owner}; CREATE ROLE {app} LOGIN NOINHERIT IN ROLE {owner};"
        f"ALTER ROLE {app} SET role = {owner}; GRANT ALL ON SCHEMA public TO {owner}"
    )
    assert run(login_user=app).ids() == ["001_users"]
    assert run(login_user=app)["changed"] is False
    database.query(f"DROP OWNED BY {owner}; DROP ROLE {app}, {owner}")


def test_without_the_right_to_read_the_record_it_names_the_grant(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    run()
    role = f"blind_{database.name}"
    database.query(f"CREATE ROLE {role} LOGIN")
    for check in (True, False):
        failed = run.fails(login_user=role, check=check)
        assert failed["error"]["sqlstate"] == "42501"
        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON public._yoyo_log" in failed["msg"]
    database.query(f"DROP ROLE {role}")


def test_a_search_path_that_lets_the_catalog_be_shadowed_is_refused(run: Runner) -> None:
    assert "pg_catalog" in run.fails(search_path=["app", "pg_catalog"])["msg"]


def test_a_database_that_is_read_only_by_default_is_refused_in_check_mode_too(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    database.query(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    for check in (True, False):
        assert "read-only" in run.fails(check=check)["msg"]


def test_without_the_create_right_it_fails_under_a_second_and_names_the_grant(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    role = f"weak_{database.name}"
    database.query(f"CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    run.fails(login_user=role)  # warm caches: what is timed is the refusal
    failed = run.fails(login_user=role)
    assert f"GRANT USAGE, CREATE ON SCHEMA public TO {role}" in failed["msg"]
    assert failed["msg"] == run.fails(check=True, login_user=role)["msg"]
    assert failed["lock"]["waited_ms"] == 0
    assert "GRANT CREATE ON DATABASE" in run.fails(login_user=role, bookkeeping_schema="elsewhere")["msg"]
    run()
    folder.tables("002_rooms")
    database.query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON" in run.fails(login_user=role)["msg"]
    database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_on_a_standby_check_works_apply_refuses_and_a_multi_host_dsn_finds_the_primary(
    cluster: Cluster, run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    with cluster.standby() as standby:
        on_standby = {"login_unix_socket": str(standby.folder)}
        assert run(check=True, **on_standby).ids() == ["001_users"]
        refused = run.fails(**on_standby)
        assert "standby" in refused["msg"]
        assert refused["lock"]["waited_ms"] == 0
        # A standby takes no transaction of that kind.
        isolation = f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'serializable'"
        database.query(isolation)
        setting = "SELECT FROM pg_db_role_setting WHERE setconfig[1] ~ 'serializable'"
        Database(standby, database.name).wait_until(
            setting, options=r"-c default_transaction_isolation=read\ committed"
        )
        assert run(check=True, **on_standby).ids() == ["001_users"]
        hosts = f"{standby.folder},{cluster.folder}"
        dsn = f"host={hosts} user=postgres dbname={database.name} target_session_attrs=read-write"
        assert run(dsn=dsn, **BY_DSN).ids() == ["001_users"]


def _assert_not_leaked(output: str) -> None:
    for form in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "word"):
        assert form not in output.replace("password", "").replace("PASSWORD", ""), output
