"""yoyo_migrate beside its peers, on a throwaway PostgreSQL.

python benchmarks/migrations.py [--rounds N] [--quick]

Every contender is a process of its own, timed from start to exit, and the contenders of a scenario take
turns, so that a busy machine is busy for all of them. The figure is the median of the rounds, and beside it
the module's own as a multiple.

    module    yoyo_migrate, as Ansible runs it on the host
    bare      a psycopg loop that runs the same files and writes the same bookkeeping, with nothing checked
    stock     the yoyo command
    psql      psql -1 -f, one a file
    alembic, dbmate    where they are installed
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.library.yoyo_proxy import Proxy  # noqa: E402
from tests.library.yoyo_support import Cluster, Database  # noqa: E402

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Job:
    """What a contender is given: a database, the folder of its socket, and a folder of migrations."""

    database: Database
    socket: Path
    folder: Path


@dataclass
class Command:
    """A contender's command line, and what goes to its standard input."""

    words: list[str]
    stdin: str = ""
    environment: dict[str, str] = field(default_factory=dict)


Contender = Callable[[Job], Command]


def module(job: Job) -> Command:
    arguments = {
        "sources": [str(job.folder)],
        "login_unix_socket": str(job.socket),
        "login_user": "postgres",
        "login_db": job.database.name,
    }
    harness = ROOT / "tests" / "library" / "run_module.py"
    return Command(
        [sys.executable, str(harness), "yoyo_migrate"], json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    )


def bare(job: Job) -> Command:
    return Command([sys.executable, str(HERE / "migrations_bare.py"), "apply", *_target(job)])


def least(job: Job) -> Command:
    """What no module can be without: Python, AnsibleModule, a connection, and the ids."""
    return Command([sys.executable, str(HERE / "migrations_bare.py"), "read", *_target(job)])


def stock(job: Job) -> Command:
    uri = f"postgresql+psycopg://postgres@/{job.database.name}?host={job.socket}"
    words = [
        sys.executable,
        "-m",
        "yoyo",
        "apply",
        "--batch",
        "--no-config-file",
        "--database",
        uri,
        str(job.folder),
    ]
    return Command(words)


def psql(job: Job) -> Command:
    each = 'for f in "$1"/*.sql; do "$2" -X -q -1 -v ON_ERROR_STOP=1 -f "$f"; done'
    environment = {"PGHOST": str(job.socket), "PGUSER": "postgres", "PGDATABASE": job.database.name}
    program = job.database.cluster.bin / "psql"  # not Debian's wrapper, which takes longer than psql itself
    return Command(["sh", "-ec", each, "sh", str(job.folder), str(program)], environment=environment)


def dbmate(job: Job) -> Command:
    folder = job.folder.with_name(job.folder.name + "-dbmate")
    if not folder.exists():
        folder.mkdir()
        for number, path in enumerate(sorted(job.folder.glob("*.sql"))):
            (folder / f"{number:014}_{path.name}").write_text(
                f"-- migrate:up\n{path.read_text()}\n-- migrate:down\n"
            )
    url = f"postgres://postgres@/{job.database.name}?socket={job.socket}"
    return Command(["dbmate", "--url", url, "--migrations-dir", str(folder), "--no-dump-schema", "migrate"])


def alembic(job: Job) -> Command:
    folder = job.folder.with_name(job.folder.name + "-alembic")
    if not folder.exists():
        _write_alembic(folder, job.folder)
    environment = {"PGHOST": str(job.socket), "PGUSER": "postgres", "PGDATABASE": job.database.name}
    return Command(["alembic", "-c", str(folder / "alembic.ini"), "upgrade", "head"], environment=environment)


def _write_alembic(folder: Path, migrations: Path) -> None:
    (folder / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\n")
    (folder / "env.py").write_text(
        "from alembic import context\nfrom sqlalchemy import create_engine\n"
        "with create_engine('postgresql+psycopg://').connect() as connection:\n"
        "    context.configure(connection=connection, transaction_per_migration=True)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n"
    )
    before = None
    for path in sorted(migrations.glob("*.sql")):
        (folder / "versions" / f"v{path.stem}.py").write_text(
            f"from alembic import op\nrevision = {path.stem!r}\ndown_revision = {before!r}\n"
            f"def upgrade():\n    op.execute({path.read_text()!r})\n"
        )
        before = path.stem


def _target(job: Job) -> list[str]:
    return [f"host={job.socket} user=postgres dbname={job.database.name}", str(job.folder)]


def peers() -> dict[str, Contender]:
    """The stock command and psql, and whatever else is installed."""
    optional: dict[str, Contender] = {"alembic": alembic, "dbmate": dbmate}
    return {"stock": stock, "psql": psql} | {
        name: run for name, run in optional.items() if shutil.which(name)
    }


@dataclass
class Sample:
    seconds: float
    megabytes: float


class ContenderError(Exception):
    """A contender that did not get through; the last line that it printed."""


def measure(command: Command) -> Sample:
    """Run to the end; the wall time and the peak resident memory. Raises ContenderError."""
    environment = {**os.environ, **command.environment}
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
        stdin.write(command.stdin.encode())
        stdin.seek(0)
        started = time.perf_counter()
        process = subprocess.Popen(command.words, stdin=stdin, stdout=output, stderr=output, env=environment)
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    if process.returncode or '"failed": true' in said:
        raise ContenderError(said.strip().splitlines()[-1][-200:] if said.strip() else "it said nothing")
    return Sample(seconds, usage.ru_maxrss / 1024)


class Benchmark:
    """Scenarios, each a row of figures."""

    def __init__(self, cluster: Cluster, folder: Path, rounds: int) -> None:
        self.cluster = cluster
        self.folder = folder
        self.rounds = rounds

    def tables(self, count: int) -> Path:
        """A folder of `count` migrations that make a table each."""
        folder = self.folder / f"tables-{count}"
        if not folder.exists():
            folder.mkdir()
            for number in range(count):
                (folder / f"{number:05}.sql").write_text(f"CREATE TABLE t{number:05} (id int, name text);\n")
        return folder

    def one_file(self, megabytes: int) -> Path:
        """A folder of one migration with many INSERTs."""
        folder = self.folder / f"file-{megabytes}"
        if not folder.exists():
            folder.mkdir()
            row = "INSERT INTO t VALUES (1, 'some words in a row, as a dump has them');\n"
            # In pieces: a child's peak memory counts what its parent had when it was forked.
            with (folder / "00001.sql").open("w") as stream:
                stream.write("CREATE TABLE t (n int, words text);\n")
                for _thousand in range(megabytes * 1000 // len(row)):
                    stream.write(row * 1000)
        return folder

    def run(
        self,
        title: str,
        folder: Path,
        contenders: dict[str, Contender],
        *,
        applied: bool = False,
        delay_s: float = 0,
    ) -> None:
        """Print the rows of a scenario.

        `applied` begins with everything applied, `delay_s` lengthens the round trip.
        """
        samples: dict[str, list[Sample]] = {name: [] for name in contenders}
        failures: dict[str, str] = {}
        for _round in range(self.rounds):
            for name, contender in contenders.items():
                if name in failures:
                    continue
                database = self.cluster.create_database()
                if applied:
                    measure(module(Job(database, self.cluster.folder, folder)))
                with Proxy(self.cluster.folder, delay_s=delay_s) as proxy:
                    socket = proxy.folder if delay_s else self.cluster.folder
                    try:
                        samples[name].append(measure(contender(Job(database, socket, folder))))
                    except ContenderError as failed:
                        failures[name] = str(failed)
                self.cluster.drop_database(database)
        self._print(title, samples, failures)

    def _print(self, title: str, samples: dict[str, list[Sample]], failures: dict[str, str]) -> None:
        own = statistics.median(sample.seconds for sample in samples["module"])
        print(f"\n{title}")
        for name, found in samples.items():
            if name in failures:
                print(f"  {name:8} failed: {failures[name]}")
                continue
            seconds = statistics.median(sample.seconds for sample in found)
            memory = statistics.median(sample.megabytes for sample in found)
            print(
                f"  {name:8} {seconds:8.2f} s {memory:6.0f} MB   module / {name}: {own / seconds:5.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="without the slow contenders of the large scenarios"
    )
    options = parser.parse_args()
    ours: dict[str, Contender] = {"module": module, "bare": bare}
    slow = {} if options.quick else peers()
    with Cluster(fsync="on") as cluster, tempfile.TemporaryDirectory(prefix="migrations-") as folder:
        benchmark = Benchmark(cluster, Path(folder), options.rounds)
        benchmark.run("apply 100 one-table migrations", benchmark.tables(100), ours | peers())
        benchmark.run("apply 1,000 one-table migrations", benchmark.tables(1000), ours | slow)
        benchmark.run("apply 5,000 one-table migrations", benchmark.tables(5000), ours)
        no_op: dict[str, Contender] = {"module": module, "least": least, "stock": stock}
        benchmark.run("no-op over 1,000 migrations", benchmark.tables(1000), no_op, applied=True)
        benchmark.run("one file of 20 MB", benchmark.one_file(20), ours | slow)
        ten_ms: dict[str, Contender] = {"module": module, "stock": stock}
        benchmark.run("apply 100, 10 ms added to the round trip", benchmark.tables(100), ten_ms, delay_s=0.01)


if __name__ == "__main__":
    main()
