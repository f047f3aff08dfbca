"""The yardsticks of migrations.py: what a run costs at the least.

python migrations_bare.py apply|read CONNINFO FOLDER
"""

from __future__ import annotations

import hashlib
import sys
import uuid
from pathlib import Path

import psycopg

TABLES = """
CREATE TABLE _yoyo_migration (
    migration_hash varchar(64) PRIMARY KEY, migration_id varchar(255), applied_at_utc timestamp);
CREATE TABLE _yoyo_log (
    id varchar(36) PRIMARY KEY, migration_hash varchar(64), migration_id varchar(255), operation varchar(10),
    username varchar(255), hostname varchar(255), comment varchar(255), created_at_utc timestamp);
CREATE TABLE _yoyo_migrate_checksum (
    migration_hash varchar(64) PRIMARY KEY, checksum varchar(64) NOT NULL, applied_at_utc timestamp NOT NULL)
"""


def apply(connection: psycopg.Connection, folder: Path) -> None:
    """Run each file and its bookkeeping in a transaction."""
    connection.execute(TABLES)
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        key = hashlib.sha256(path.stem.encode()).hexdigest()
        with connection.transaction():
            connection.execute(content)
            connection.execute(
                "INSERT INTO _yoyo_migration VALUES (%s, %s, clock_timestamp())", [key, path.stem]
            )
            connection.execute(
                "INSERT INTO _yoyo_log"
                " VALUES (%s, %s, %s, 'apply', session_user, 'host', NULL, clock_timestamp())",
                [str(uuid.uuid4()), key, path.stem],
            )
            checksum = hashlib.sha256(content).hexdigest()
            connection.execute(
                "INSERT INTO _yoyo_migrate_checksum VALUES (%s, %s, clock_timestamp())", [key, checksum]
            )


def read(connection: psycopg.Connection) -> None:
    """Start as a module does, and read the ids."""
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = b'{"ANSIBLE_MODULE_ARGS": {}}'
    basic._ANSIBLE_PROFILE = "legacy"
    module = basic.AnsibleModule(argument_spec={})
    ids = connection.execute("SELECT migration_id FROM _yoyo_migration ORDER BY applied_at_utc").fetchall()
    module.exit_json(changed=False, count=len(ids))


if __name__ == "__main__":
    command, conninfo, folder = sys.argv[1:]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if command == "apply":
            apply(connection, Path(folder))
        else:
            read(connection)
