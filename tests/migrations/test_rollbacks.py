"""Each migration is reversible, exactly, with data in the tables."""

from __future__ import annotations

import subprocess

import pytest

from tests.library.yoyo_support import Database, Runner

from .conftest import MIGRATIONS

IDS = sorted(path.stem for path in MIGRATIONS.glob("*.sql") if not path.stem.endswith(".rollback"))
ROWS = {
    "users": "INSERT INTO users (email, password_hash, username)"
    " SELECT n || '@example.net', 'hash', 'user' || n FROM generate_series(1, 3) AS n",
    "rooms": "INSERT INTO rooms (name, created_by) SELECT 'of ' || username, id FROM users",
    "room_users": "INSERT INTO room_users (room_id, user_id) SELECT rooms.id, users.id FROM rooms, users",
    "messages": "INSERT INTO messages (room_id, user_id, content)"
    " SELECT rooms.id, users.id, 'hello' FROM rooms, users",
}


def schema(database: Database) -> str:
    """The dump of all that migrations made."""
    program = [str(database.cluster.bin / "pg_dump"), "-h", str(database.cluster.folder), "-U", "postgres"]
    dump = subprocess.run(
        [*program, "--schema-only", "--exclude-schema=migrations", database.name],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    # pg_dump locks psql's commands with a key by chance.
    return "\n".join(
        line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )


def tables(database: Database) -> list[str]:
    return database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")


def fill(database: Database, names: list[str]) -> None:
    for name in ROWS:
        if name in names:
            database.query(ROWS[name])


def rows(database: Database, names: list[str]) -> dict[str, list[object]]:
    """All rows; without rooms.last_seq, which keeps counting (004)."""
    return {
        name: database.query(f"SELECT to_jsonb(t) - 'last_seq' FROM {name} AS t ORDER BY 1") for name in names
    }


def test_every_migration_has_a_rollback():
    assert IDS
    assert all((MIGRATIONS / f"{id}.rollback.sql").is_file() for id in IDS)


def test_all_up_all_down_all_up_gives_the_same_schema(run: Runner, database: Database):
    bare = schema(database)
    run()
    first = schema(database)
    assert sorted(ROWS) == tables(database)
    fill(database, tables(database))
    run(state="rolled_back", count=len(IDS))
    assert schema(database) == bare
    run()
    assert schema(database) == first


@pytest.mark.parametrize("id", IDS)
def test_down_reverses_exactly_its_up_and_keeps_the_other_rows(run: Runner, database: Database, id: str):
    if before := IDS[: IDS.index(id)]:
        run(target=before[-1])
    names = tables(database)
    fill(database, names)
    held, structure = rows(database, names), schema(database)
    assert all(held.values())
    assert run(target=id).ids() == [id]
    assert schema(database) != structure
    fill(database, sorted(set(tables(database)) - set(names)))
    assert run(state="rolled_back", count=1).ids("rolled_back") == [id]
    assert schema(database) == structure
    assert rows(database, names) == held
