"""Rolling back, baselining, repairing, and the hooks after an apply."""

from __future__ import annotations

from yoyo_support import Database, Folder, Runner, listed, stock_yoyo


def test_rollback_to_a_target_undoes_exactly_the_later_ones_and_check_shows_the_plan(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_a", "002_b", "003_c", "004_d")
    run()
    options = {"state": "rolled_back", "target": "002_b"}
    predicted = run(check=True, diff=True, **options)
    assert predicted.ids("rolled_back") == ["004_d", "003_c"]
    assert 'DROP TABLE "004_d"' in predicted["diff"][1]["after"]
    assert database.recorded() == ["001_a", "002_b", "003_c", "004_d"]
    assert run(**options).ids("rolled_back") == ["004_d", "003_c"]
    assert database.recorded() == ["001_a", "002_b"]
    assert database.tables() == ['public."001_a"', 'public."002_b"']
    assert run(**options)["changed"] is False


def test_rollback_goes_in_reverse_of_the_recorded_order_not_of_the_names(run: Runner, folder: Folder) -> None:
    folder.write("001_late", "-- depends: 002_early\nSELECT 1;", rollback="SELECT 1;")
    folder.tables("002_early")
    run()
    assert run(state="rolled_back", count=1).ids("rolled_back") == ["001_late"]


def test_an_irreversible_migration_in_the_range_is_refused_before_any_sql(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_a")
    folder.write("002_b", "CREATE TABLE b (n int);")
    folder.tables("003_c")
    run()
    options = {"state": "rolled_back", "target": "001_a"}
    assert run.fails(check=True, **options)["msg"] == run.fails(**options)["msg"]
    assert "002_b" in run.fails(**options)["msg"]
    assert database.recorded() == ["001_a", "002_b", "003_c"]
    assert run(allow_irreversible=True, **options).ids("rolled_back") == ["003_c", "002_b"]
    assert database.tables() == ['public."001_a"', "public.b"]


def test_a_rollback_that_fails_is_rolled_back_and_those_before_it_are_kept(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_a", "CREATE TABLE a (n int);", rollback="DROP TABLE a;\nDROP TABLE nowhere;")
    folder.tables("002_b")
    run()
    failed = run.fails(state="rolled_back", count=2)
    assert failed["error"]["file"].endswith("001_a.rollback.sql")
    assert failed["error"]["line"] == 2
    assert failed["database_state"] == "earlier_migrations_kept"
    assert (failed["current"], database.recorded(), database.tables()) == ("001_a", ["001_a"], ["public.a"])


def test_a_rolled_back_state_without_a_range_is_refused(run: Runner) -> None:
    assert "target" in run.fails(state="rolled_back")["msg"]


def test_baselined_on_an_existing_schema_marks_runs_nothing_and_is_idempotent(
    run: Runner, database: Database, folder: Folder
) -> None:
    database.query("CREATE TABLE users (n int)")
    folder.write("001_users", "CREATE TABLE users (n int);")
    folder.tables("002_rooms")
    result = run(state="baselined", target="001_users")
    assert (result.ids("marked"), result.ids("applied")) == (["001_users"], [])
    assert run(state="baselined", target="001_users")["changed"] is False
    assert run().ids() == ["002_rooms"]
    folder.write("001_users", "edited")
    assert [item["id"] for item in run.fails()["drift"]] == ["001_users"]


def test_repaired_adopts_what_the_stock_command_applied_and_accepts_drift(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_a", "002_b")
    stock_yoyo(database, folder, "apply")
    folder.write("001_a", "SELECT 'edited while its sum was unknown';")
    assert run()["drift"] == []
    assert run(state="repaired").ids("repaired") == ["001_a", "002_b"]
    assert run(state="repaired")["changed"] is False
    folder.tables("001_a", "002_b")
    folder.write("002_b", "SELECT 'edited';")
    assert len(run.fails()["drift"]) == 2
    assert run(state="repaired", target="001_a").ids("repaired") == ["001_a"]
    assert [item["id"] for item in run.fails()["drift"]] == ["002_b"]


def test_a_sum_recorded_before_the_stock_command_rolled_back_and_reapplied_does_not_count(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_a")
    run()
    stock_yoyo(database, folder, "rollback")
    folder.write("001_a", "SELECT 'another content';")
    stock_yoyo(database, folder, "apply")
    assert run()["drift"] == []


def test_a_failed_post_apply_hook_is_retried_on_the_next_run(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_a")
    hook = folder.write("post-apply", "SELECT nonsense;")
    failed = run.fails()
    assert failed.ids() == ["001_a"]
    assert failed["error"]["id"] == "post-apply"
    assert failed["database_state"] == "earlier_migrations_kept"
    hook.write_text("CREATE TABLE IF NOT EXISTS hooked (n int);")
    assert run(check=True).ids("post_apply") == ["post-apply"]
    again = run()
    assert (again.ids("post_apply"), again.ids(), again["changed"]) == (["post-apply"], [], True)
    assert run()["changed"] is False
    folder.tables("002_b")
    assert run().ids("post_apply") == ["post-apply"]
    assert listed(stock_yoyo(database, folder, "list")) == {"001_a": "A", "002_b": "A"}


def test_the_stock_rollback_undoes_what_the_module_applied(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_a", "002_b")
    run()
    stock_yoyo(database, folder, "rollback", "--all")
    assert (database.tables(), database.recorded()) == ([], [])
    assert run().ids() == ["001_a", "002_b"]


def test_the_log_tells_every_operation(run: Runner, database: Database, folder: Folder) -> None:
    folder.tables("001_a", "002_b")
    run(count=1)
    run(state="rolled_back", count=1)
    run(state="baselined")
    log = database.query("SELECT operation, migration_id FROM _yoyo_log ORDER BY created_at_utc")
    assert log == [("apply", "001_a"), ("rollback", "001_a"), ("mark", "001_a"), ("mark", "002_b")]
