"""The finished schema, by pgTAP's words in schema.sql."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.library.yoyo_support import Database, Runner

SCHEMA = Path(__file__).with_name("schema.sql")


def test_schema_keeps_its_promises(run: Runner, database: Database):
    run()
    program = [str(database.cluster.bin / "psql"), "-h", str(database.cluster.folder), "-U", "postgres"]
    done = subprocess.run(
        [*program, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database.name, "-f", SCHEMA],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith(("not ok", "#"))]
    assert not failed, "\n".join(failed)
    assert done.stdout.splitlines()[-1].startswith("1..")
