"""What does not fit between the folder and the record, and what is done about it."""

from __future__ import annotations

import pytest
from yoyo_support import Database, Folder, Runner


def test_an_edited_applied_file_fails_before_any_sql(run: Runner, database: Database, folder: Folder) -> None:
    folder.tables("001_users")
    run()
    edited = folder.write("001_users", "CREATE TABLE users (n bigint);")
    folder.tables("002_rooms")
    failed = run.fails()
    (drift,) = failed["drift"]
    assert drift["id"] == "001_users"
    assert drift["path"] == str(edited)
    for part in (str(edited), drift["recorded"], drift["found"], drift["applied_at"][:10]):
        assert part in failed["msg"]
    assert failed["msg"] == run.fails(check=True)["msg"]
    assert database.recorded() == ["001_users"]
    warned = run(on_drift="warn")
    assert warned.ids() == ["002_rooms"]
    assert "edited" in warned.warnings()[0]
    assert run(on_drift="ignore").warnings() == []


def test_a_change_of_line_ends_or_a_byte_order_mark_alone_is_no_drift(run: Runner, folder: Folder) -> None:
    folder.write("001_users", "CREATE TABLE users (\n n int\n);\n")
    run()
    folder.write("001_users", "CREATE TABLE users (\r\n n int\r\n);\r\n")
    assert run()["drift"] == []
    folder.write("001_users", b"\xef\xbb\xbfCREATE TABLE users (\n n int\n);\n")
    assert run()["drift"] == []


def test_a_missing_applied_file_is_dealt_with_per_on_missing(run: Runner, folder: Folder) -> None:
    folder.tables("001_users", "002_rooms")
    run()
    (folder.path / "001_users.sql").unlink()
    (folder.path / "001_users.rollback.sql").unlink()
    failed = run.fails()
    assert failed["missing"] == ["001_users"]
    assert "001_users" in failed["msg"]
    warned = run(on_missing="warn")
    assert "001_users" in warned.warnings()[0]
    assert warned["missing"] == ["001_users"]
    assert run(on_missing="ignore").warnings() == []
    assert "001_users" in run.fails(state="rolled_back", count=2)["msg"]
    assert run(state="rolled_back", count=1).ids("rolled_back") == ["002_rooms"]


def test_an_older_id_that_arrives_late_is_dealt_with_per_on_out_of_order(run: Runner, folder: Folder) -> None:
    folder.tables("001_users", "003_messages")
    run()
    folder.tables("002_rooms", "004_tokens")
    failed = run.fails()
    assert failed["out_of_order"] == ["002_rooms"]
    assert "002_rooms" in failed["msg"]
    warned = run(check=True, on_out_of_order="warn")
    assert "002_rooms" in warned.warnings()[0]
    assert run(on_out_of_order="ignore").ids() == ["002_rooms", "004_tokens"]


def test_a_missing_source_fails_and_an_empty_one_warns(
    run: Runner, database: Database, folder: Folder
) -> None:
    for check in (True, False):
        failed = run.fails(check=check, sources=[str(folder.path / "nowhere")])
        assert "nowhere" in failed["msg"]
        result = run(check=check)
        assert result["changed"] is False
        assert str(folder.path) in result.warnings()[0]
    assert database.query("SELECT relname FROM pg_class WHERE relname ~ 'yoyo'") == []


@pytest.mark.parametrize("check", [True, False])
def test_a_cycle_a_duplicate_id_and_an_unknown_dependency_are_all_named(
    run: Runner, database: Database, folder: Folder, check: bool
) -> None:
    folder.write("001_a", "-- depends: 003_c\nSELECT 1;")
    folder.write("002_b", "-- depends: 001_a\nSELECT 1;")
    folder.write("003_c", "-- depends: 002_b\nSELECT 1;")
    folder.write("004_d", "-- depends: 099_nowhere\nSELECT 1;")
    folder.write("005_e", "SELECT 1;")
    folder.write("005_e.py", "__depends__ = {'004_d'}")
    message = run.fails(check=check, allow_python=True)["msg"]
    assert "001_a -> 003_c -> 002_b -> 001_a" in message or "cycle: " in message
    assert "005_e.sql" in message
    assert "005_e.py" in message
    assert "099_nowhere" in message
    assert "004_d.sql" in message
    assert database.recorded() == []


def test_duplicate_ids_across_sources_are_named(run: Runner, folder: Folder) -> None:
    folder.tables("001_a")
    twin = Folder(folder.path.parent / "twin")
    twin.path.mkdir()
    twin.tables("001_a")
    message = run.fails(sources=[str(folder.path), str(twin.path)])["msg"]
    assert str(folder.path) in message
    assert str(twin.path) in message
