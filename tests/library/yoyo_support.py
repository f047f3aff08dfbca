"""What the tests of the modules stand on. Everything goes through Unix sockets."""

from __future__ import annotations

import itertools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

_HARNESS = Path(__file__).with_name("run_module.py")
_NUMBERS = itertools.count(1)


class Cluster:
    """A PostgreSQL cluster under /tmp, on a Unix socket alone; gone after the `with` block."""

    def __init__(self, **settings: str) -> None:
        self.bin = _server_binaries()
        self.user = _unprivileged_user()
        self.folder = Path(
            tempfile.mkdtemp(prefix="pg-", dir="/tmp")
        )  # short: a socket's path has a limit of 107 bytes
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.settings = {"fsync": "off", "log_line_prefix": "[%p] ", "log_checkpoints": "off", **settings}

    def __enter__(self) -> Cluster:
        self.folder.chmod(0o755)
        if self.user:
            shutil.chown(self.folder, self.user)
        self.tool("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        hba = self.data / "pg_hba.conf"
        hba.write_text(
            "local all secretive scram-sha-256\nlocal all all trust\nlocal replication all trust\n"
        )
        self.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self.tool("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self.settings}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self.tool("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-o", options, "-w", "start")

    def tool(self, name: str, *arguments: str) -> None:
        """Run one of the server's programs as the unprivileged user."""
        done = subprocess.run(
            [str(self.bin / name), *arguments],
            user=self.user,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name} failed:\n{done.stdout}"

    def standby(self) -> Cluster:
        """A standby of this cluster, to be entered with `with`."""
        return _Standby(self)

    def connect(self, dbname: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        options = {"host": str(self.folder), "user": "postgres", "dbname": dbname, **options}
        return psycopg.connect(**options, autocommit=True)

    def create_database(self) -> Database:
        name = f"test_{next(_NUMBERS)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return Database(self, name)

    def drop_database(self, database: Database) -> None:
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


class _Standby(Cluster):
    def __init__(self, primary: Cluster) -> None:
        super().__init__()
        self.primary = primary

    def __enter__(self) -> Cluster:
        self.folder.chmod(0o755)
        if self.user:
            shutil.chown(self.folder, self.user)
        self.primary.tool(
            "pg_basebackup",
            "-D",
            str(self.data),
            "-h",
            str(self.primary.folder),
            "-U",
            "postgres",
            "-R",
            "-c",
            "fast",
        )
        self.start()
        return self


class Database:
    """A database and what the tests ask of it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return self.cluster.connect(self.name, **options)

    def query(self, sql: str, **options: Any) -> list[Any]:
        """The rows of `sql`; those of one column as bare values."""
        with self.connect(**options) as connection:
            cursor = connection.execute(sql)
            rows = cursor.fetchall() if cursor.description is not None else []
        return [row[0] if len(row) == 1 else row for row in rows]

    def tables(self) -> list[str]:
        """The tables outside the system catalogs, qualified, without the bookkeeping."""
        return self.query(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename !~ '^_?yoyo'"
            " ORDER BY 1"
        )

    def recorded(self, schema: str = "public") -> list[str]:
        """The ids in yoyo's table, oldest first; none if there is no table."""
        if self.query(f"SELECT to_regclass('{schema}._yoyo_migration') IS NULL") == [True]:
            return []
        return self.query(f"SELECT migration_id FROM {schema}._yoyo_migration ORDER BY applied_at_utc")

    def wait_until(self, sql: str, timeout_s: float = 120, **options: Any) -> None:
        """Wait until `sql` returns a row."""
        wait_for(lambda: bool(self.query(sql, **options)), sql, timeout_s)

    def uri(self, schema: str = "public") -> str:
        """The database in the stock command's words."""
        return f"postgresql+psycopg://postgres@/{self.name}?host={self.cluster.folder}&schema={schema}"

    def server_log(self) -> str:
        return self.cluster.log.read_text()


class Folder:
    """A folder of migrations."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: str | bytes = "", *, rollback: str | None = None) -> Path:
        """Write the migration `name`, a file name or an id, and its rollback."""
        if not name.endswith((".sql", ".py")):
            name += ".sql"
        path = self.path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if rollback is not None:
            path.with_suffix(".rollback.sql").write_text(rollback)
        return path

    def tables(self, *ids: str) -> None:
        """One migration an id, each of which makes a table of that name."""
        for id in ids:
            self.write(id, f'CREATE TABLE "{id}" (n int);\n', rollback=f'DROP TABLE "{id}";\n')


class Result(dict[str, Any]):
    """What the module returned, and all it printed."""

    output: str = ""
    took_s: float = 0.0

    def ids(self, key: str = "applied") -> list[str]:
        return [item["id"] for item in self[key]]

    def warnings(self) -> list[str]:
        """The warnings' texts; ansible-core 2.19 and later wrap each in an event."""
        found = self.get("warnings", [])
        return [item if isinstance(item, str) else item["event"]["msg"] for item in found]


class Process:
    """A module that is running."""

    def __init__(self, arguments: dict[str, Any], module: str, **options: Any) -> None:
        self.started = time.monotonic()
        self.popen = subprocess.Popen(
            [sys.executable, str(_HARNESS), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **{"stderr": subprocess.STDOUT, **options},
        )
        assert self.popen.stdin
        self.popen.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        self.popen.stdin.close()
        self.popen.stdin = None

    def kill(self, signal: int) -> None:
        self.popen.send_signal(signal)
        self.popen.wait()
        if self.popen.stdout:
            self.popen.stdout.close()

    def result(self, timeout_s: float = 120) -> Result:
        """Wait for the end. Fails unless the module printed one JSON object and nothing else."""
        output, _ = self.popen.communicate(timeout=timeout_s)
        result = Result(json.loads(output))
        result.output = output.decode()
        result.took_s = time.monotonic() - self.started
        return result


class Runner:
    """Runs the module on one database with one folder."""

    def __init__(self, database: Database, folder: Folder) -> None:
        self.arguments: dict[str, Any] = {
            "sources": [str(folder.path)],
            "login_unix_socket": str(database.cluster.folder),
            "login_user": "postgres",
            "login_db": database.name,
            "lock_wait_s": 20,
        }

    def start(
        self, module: str = "yoyo_migrate", *, process: dict[str, Any] | None = None, **options: Any
    ) -> Process:
        """Start the module; an option that is None is left out."""
        merged = {**self.arguments, **options}
        arguments = {key: value for key, value in merged.items() if value is not None}
        return Process(arguments, module, **(process or {}))

    def __call__(self, *, check: bool = False, diff: bool = False, **options: Any) -> Result:
        """The result of a run that must succeed."""
        result = self.attempt(check=check, diff=diff, **options)
        assert not result.get("failed"), result.output
        return result

    def fails(self, *, check: bool = False, **options: Any) -> Result:
        """The result of a run that must fail."""
        result = self.attempt(check=check, **options)
        assert result.get("failed"), result.output
        return result

    def attempt(self, *, check: bool = False, diff: bool = False, **options: Any) -> Result:
        modes: dict[str, Any] = {"_ansible_check_mode": check, "_ansible_diff": diff}
        return self.start(**modes, **options).result()


def stock_yoyo(
    database: Database, folder: Folder, command: str, *options: str, schema: str = "public"
) -> str:
    """The output of the stock yoyo command."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "yoyo",
            command,
            "--batch",
            "--no-config-file",
            "--database",
            database.uri(schema),
            *options,
            str(folder.path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder.path.parent,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def listed(output: str) -> dict[str, str]:
    """The ids in the output of `yoyo list`, with their state: A for applied, U for unapplied."""
    rows = (line.split() for line in output.splitlines())
    return {row[1]: row[0] for row in rows if len(row) >= 2 and row[0] in ("A", "U")}


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain for: {what}"
        time.sleep(0.02)


def _server_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    assert found, "these tests need the PostgreSQL server's programs: apt-get install postgresql"
    return found[-1].parent


def _unprivileged_user() -> str | None:
    """Whom to run the server as; the server refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
