"""Two runs at once, runs that are killed, and the locks that keep them apart."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import zlib

import psycopg
import pytest
from yoyo_support import Database, Folder, Runner, listed, stock_yoyo

KILLS = int(os.environ.get("YOYO_MIGRATE_KILLS", "100"))

SESSIONS = (
    "SELECT FROM pg_stat_activity WHERE application_name = 'yoyo_migrate' AND datname = current_database()"
)
BUSY = f"{SESSIONS} AND state = 'active' AND query ~ 'pg_sleep'"


def test_of_two_controllers_at_once_the_second_waits_and_reports_ok(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    folder.write("002_gated", "LOCK TABLE gate; CREATE TABLE gated (n int);")
    database.query("CREATE TABLE gate ()")
    with database.connect() as gate:
        gate.execute("BEGIN; LOCK TABLE gate")
        first = run.start(lock_timeout_ms=0)
        database.wait_until(f"{SESSIONS} AND wait_event_type = 'Lock'")
        second = run.start()
        database.wait_until(f"{SESSIONS} AND query ~ 'pg_stat_activity'")  # it asks who holds the lock
        gate.execute("ROLLBACK")
    waited = second.result()
    assert (first.result()["changed"], waited["changed"]) == (True, False)
    assert waited["lock"]["waited_ms"] > 0
    assert waited["lock"]["holder"]["application"] == "yoyo_migrate"
    assert database.recorded() == ["001_users", "002_gated"]


def test_of_two_controllers_at_once_neither_hangs_on_a_concurrent_index(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_users", "CREATE TABLE users (n int);")
    folder.write("002_slow", "SELECT pg_sleep(0.5);")
    folder.write("003_index", "-- transactional: false\nCREATE INDEX CONCURRENTLY i ON users (n);")
    started = [run.start() for _controller in range(2)]
    changed = sorted(process.result(timeout_s=30)["changed"] for process in started)
    assert changed == [False, True]
    assert database.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == [True]


def test_a_run_that_cannot_get_the_lock_names_the_holder(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_slow", "SELECT pg_sleep(60);")
    first = run.start()
    database.wait_until(BUSY)
    failed = run.fails(lock_wait_s=0)
    assert failed["lock"]["holder"]["pid"] == database.query(BUSY.replace("SELECT", "SELECT pid"))[0]
    assert str(failed["lock"]["holder"]["pid"]) in failed["msg"]
    first.kill(signal.SIGTERM)


def test_after_kill_9_at_random_moments_applied_equals_recorded_and_no_step_by_hand_is_needed(
    run: Runner, database: Database, folder: Folder
) -> None:
    seed = int(os.environ.get("YOYO_MIGRATE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"YOYO_MIGRATE_SEED={seed}")
    random_moment = random.Random(seed).uniform
    ids = [f"{number:03}_t" for number in range(40)]
    for id in ids:
        folder.write(id, f'CREATE TABLE "{id}" (n int); INSERT INTO "{id}" SELECT generate_series(1, 2000);')
    whole_s = run().took_s
    mid_run = 0
    for kill in range(KILLS):
        database.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        process = run.start()
        time.sleep(random_moment(0.5, 1.0) * whole_s)
        process.kill(signal.SIGKILL)
        database.wait_until(f"SELECT WHERE NOT EXISTS ({SESSIONS})")
        applied = [table.split('"')[1] for table in database.tables()]
        mid_run += 0 < len(applied) < len(ids)
        assert applied == database.recorded(), f"kill {kill} of seed {seed}"
        assert run().ids() == ids[len(applied) :], f"kill {kill} of seed {seed}"
    print(f"{mid_run} of {KILLS} kills came between the first migration and the last")
    assert mid_run


def test_after_sigterm_in_a_migration_the_next_run_waits_for_no_lock(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    slow = folder.write("002_slow", "CREATE TABLE slow (n int); SELECT pg_sleep(60);")
    process = run.start()
    database.wait_until(BUSY)
    process.popen.send_signal(signal.SIGTERM)
    stopped = process.result(timeout_s=30)
    assert stopped["failed"]
    assert "SIGTERM" in stopped["msg"]
    assert stopped["database_state"] == "earlier_migrations_kept"
    assert database.query("SELECT count(*) FROM yoyo_lock") == [0]
    slow.write_text("CREATE TABLE slow (n int);")
    result = run(lock_wait_s=0)
    assert (result.ids(), result["lock"]["waited_ms"]) == (["002_slow"], 0)


def test_sigterm_amid_a_flood_of_notices_stops_the_run(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_loud", "DO $$ BEGIN FOR i IN 1..200000 LOOP RAISE NOTICE 'n'; END LOOP; END $$;")
    folder.tables("002_users")
    # On standard error the driver says that it has swallowed an exception.
    process = run.start(process={"stderr": subprocess.DEVNULL})
    database.wait_until("SELECT FROM pg_stat_activity WHERE query ~ '^DO .* RAISE NOTICE'")
    process.popen.send_signal(signal.SIGTERM)
    stopped = process.result(timeout_s=30)
    assert stopped["failed"], stopped.output[-300:]
    assert "SIGTERM" in stopped["msg"]
    assert "002_users" not in database.recorded()
    assert stopped.ids() == database.recorded()
    assert database.query("SELECT count(*) FROM yoyo_lock") == [0]


def test_two_first_runs_at_once_make_one_bookkeeping_schema(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.tables("001_users")
    key = f"{int.from_bytes(b'yoyo', 'big')}, {zlib.crc32(b'meta') - (1 << 32)}"
    with database.connect() as holder:
        holder.execute(f"SELECT pg_advisory_lock({key})")
        runs = [run.start(bookkeeping_schema="meta") for _ in range(2)]
        database.wait_until(
            "SELECT FROM pg_stat_activity WHERE application_name = 'yoyo_migrate'"
            " AND query ~ 'pg_locks|pg_try_advisory_lock' HAVING count(*) = 2"
        )
        holder.execute(f"SELECT pg_advisory_unlock({key})")
    results = [process.result() for process in runs]
    assert [result for result in results if result.get("failed")] == []
    assert sorted(result.ids() for result in results) == [[], ["001_users"]]


def test_after_kill_9_in_a_long_statement_the_server_lets_go_within_seconds(
    run: Runner, database: Database, folder: Folder
) -> None:
    slow = folder.write("001_slow", "SELECT pg_sleep(60);")
    process = run.start()
    database.wait_until(BUSY)
    process.kill(signal.SIGKILL)
    slow.write_text("SELECT 1;")
    assert run(lock_wait_s=10).ids() == ["001_slow"]


@pytest.fixture
def killed_stock_yoyo(database: Database, folder: Folder) -> int:
    """The pid that a stock yoyo, killed in its only migration, has left in the lock table."""
    migration = folder.write("001_slow", "SELECT pg_sleep(5)")
    command = [
        sys.executable,
        "-m",
        "yoyo",
        "apply",
        "--batch",
        "--no-config-file",
        "--database",
        database.uri(),
    ]
    stock = subprocess.Popen([*command, str(folder.path)], cwd=folder.path.parent, stdout=subprocess.DEVNULL)
    database.wait_until(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query ~ 'pg_sleep\\(5'"
    )
    stock.kill()
    stock.wait()
    migration.write_text("SELECT 1;")
    return stock.pid


def test_a_row_left_by_a_killed_stock_yoyo_fails_within_lock_wait_naming_pid_and_age(
    run: Runner, killed_stock_yoyo: int
) -> None:
    failed = run.fails(lock_wait_s=1)
    assert failed["lock"]["holder"]["pid"] == killed_stock_yoyo
    assert str(killed_stock_yoyo) in failed["msg"]
    assert failed["lock"]["holder"]["age_s"] >= 1


@pytest.mark.usefixtures("killed_stock_yoyo")
def test_a_row_left_by_a_killed_stock_yoyo_is_broken_on_demand(run: Runner, database: Database) -> None:
    assert run(lock_wait_s=0, stale_lock="break").ids() == ["001_slow"]
    assert database.query("SELECT count(*) FROM yoyo_lock") == [0]


def test_the_stock_command_waits_for_a_run(run: Runner, database: Database, folder: Folder) -> None:
    folder.write("001_slow", "SELECT pg_sleep(1);")
    process = run.start()
    database.wait_until(BUSY)
    started = time.monotonic()
    assert listed(stock_yoyo(database, folder, "list")) == {"001_slow": "A"}
    assert time.monotonic() - started > 0.5
    process.result()


def test_a_migration_that_releases_the_lock_stops_the_run(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_release", "SELECT pg_advisory_unlock_all();")
    folder.tables("002_next")
    failed = run.fails()
    assert "lock" in failed["msg"]
    assert failed["database_state"] == "earlier_migrations_kept"
    assert database.recorded() == ["001_release"]
    assert run().ids() == ["002_next"]


def test_a_row_left_by_a_killed_run_is_known_as_ours_and_removed(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001_slow", "SELECT pg_sleep(60);")
    process = run.start()
    database.wait_until(BUSY)
    process.kill(signal.SIGKILL)
    database.wait_until(f"SELECT WHERE NOT EXISTS ({SESSIONS})")
    assert database.query("SELECT count(*) FROM yoyo_lock") == [1]
    folder.write("001_slow", "SELECT 1;")
    assert run(lock_wait_s=0).ids() == ["001_slow"]
    assert database.query("SELECT count(*) FROM yoyo_lock") == [0]


def test_a_deadlock_is_retried(run: Runner, database: Database, folder: Folder) -> None:
    database.query("CREATE TABLE a (n int); CREATE TABLE b (n int)")
    folder.write("001_locks", "LOCK TABLE a; SELECT pg_sleep(0.3); LOCK TABLE b; CREATE TABLE c (n int);")
    with database.connect() as other:
        other.execute("SET deadlock_timeout = '60s'; BEGIN; LOCK TABLE b")
        process = run.start(lock_timeout_ms=0)
        database.wait_until(BUSY)
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            other.execute("LOCK TABLE a")
        other.execute("ROLLBACK")
    assert process.result().ids() == ["001_locks"]
