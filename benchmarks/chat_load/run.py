"""The chat's work on PostgreSQL: our settings beside its stock ones and two published recipes.

    python3 -B benchmarks/chat_load/run.py [--rounds N] [--seconds S]      as root, on a provisioned host

The contestants share one PostgreSQL of their own beside the provisioned one, with the schema of its database
chat. Each run begins with the same files, copied from one template, reads them into memory, warms up, makes a
checkpoint, and only then counts. The contestants take turns in each round, in another order in each, so that
a busy machine is busy for all of them; ratios are taken within a round.

    ours      conf.d/chat.conf, as it lies on the host
    stock     what initdb writes
    recipe    shared_buffers 25 % of memory, max_connections 1000, work_mem 64MB
    pgtune    pgtune's formula for "web"

--try name=value adds a contestant: ours with that setting.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

USERS = 10_000
ROOMS = 2_000
SKEW = 1.1  # the busiest room has a sixth of the traffic, the busiest ten half of it
WARM_UP_S = 4
BUSY_PERCENT = 50  # the role's default for postgresql_busy_percent, for all contestants
SAMPLE_S = 2  # reading what a process holds of 1 GB of shared memory takes it some ms

# Scripts and how often each comes of a hundred.
MIX = {"latest_page": 40, "unread": 25, "post": 20, "older_page": 10, "join_leave": 5}

# The harness's own: a socket and no port.
COMMON = {"listen_addresses": "", "port": "5432"}
LOADING = {
    "fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off",
    "shared_buffers": "512MB", "max_wal_size": "4GB", "maintenance_work_mem": "256MB",
}  # fmt: skip

Settings = dict[str, str]


def recipe(memory_mb: int) -> Settings:
    """A common advice: a quarter for shared_buffers, and enough of the rest."""
    return {"shared_buffers": f"{memory_mb // 4}MB", "max_connections": "1000", "work_mem": "64MB"}


def pgtune_web(memory_mb: int, cores: int) -> Settings:
    """What pgtune proposes for type "web" on Linux with an SSD.

    Source: github.com/le0pard/pgtune, src/features/configuration/configurationSlice.js; below four cores it
    leaves the parallel settings at PostgreSQL's defaults and counts on eight workers.
    """
    connections, kb = 200, memory_mb * 1024
    shared_buffers = kb // 4
    wal_buffers = min(shared_buffers * 3 // 100, 16 * 1024)
    parallel: Settings = {}
    workers = 8
    if cores >= 4:
        half = str(min(4, -(-cores // 2)))
        workers = cores
        parallel = {
            "max_worker_processes": str(cores),
            "max_parallel_workers": str(cores),
            "max_parallel_workers_per_gather": half,
            "max_parallel_maintenance_workers": half,
        }
    return {
        "max_connections": str(connections),
        "shared_buffers": f"{shared_buffers}kB",
        "effective_cache_size": f"{kb * 3 // 4}kB",
        "maintenance_work_mem": f"{min(kb // 16, 2 * 1024 * 1024)}kB",
        "checkpoint_completion_target": "0.9",
        "wal_buffers": f"{16 * 1024 if wal_buffers > 14 * 1024 else max(32, wal_buffers)}kB",
        "default_statistics_target": "100",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "work_mem": f"{max(64, (kb - shared_buffers) // ((connections + workers) * 3))}kB",
        "huge_pages": "try" if memory_mb >= 32 * 1024 else "off",
        "min_wal_size": "1GB",
        "max_wal_size": "4GB",
        **parallel,
    }


@dataclass(frozen=True)
class Run:
    """One contestant in one round: latencies in ms by script, the server's CPU time in us, memory in MB."""

    tps: float
    latencies: dict[str, list[float]]
    cpu_us: float
    peak_mb: float
    promise_mb: int

    def percentile(self, share: float, script: str | None = None) -> float:
        """The latency that `share` of the transactions, of `script` or of all, did not exceed."""
        found = self.latencies[script] if script else [ms for each in self.latencies.values() for ms in each]
        return sorted(found)[min(len(found) - 1, int(share * len(found)))]


class Server:
    """A PostgreSQL in a folder of its own; its socket is in that folder."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.template = folder / "template"
        self.binaries = Path(f"/usr/lib/postgresql/{version}/bin")
        account = pwd.getpwnam("postgres")
        self.uid, self.gid = account.pw_uid, account.pw_gid
        self.groups = os.getgrouplist("postgres", self.gid)  # ssl-cert among them: ours reads a key

    def tool(self, *words: str | Path, stdin: str | None = None) -> str:
        """What one of PostgreSQL's programs, or another, prints as the system user postgres."""
        program = self.binaries / words[0]
        done = subprocess.run(
            [program if program.exists() else words[0], *words[1:]],
            user=self.uid, group=self.gid, extra_groups=self.groups, cwd="/", input=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, words))}:\n{done.stdout[-4000:]}")
        return done.stdout

    def sql(self, statement: str, *options: str) -> str:
        words = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), *options, "postgres")
        return self.tool(*words, stdin=statement).strip()

    @contextlib.contextmanager
    def running(self, text: str) -> Iterator[None]:
        """The server with initdb's postgresql.conf and `text` at its end; stopped cleanly afterwards."""
        common = settings_text(COMMON | {"unix_socket_directories": str(self.folder)})
        with (self.data / "postgresql.conf").open("a") as stream:
            stream.write(f"\n{text}\n{common}")
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        # Into a file, because the server would keep a pipe open; shown if it does not start.
        start = f"'{self.binaries}/pg_ctl' -w -D '{self.data}' -l '{log}' start >'{log}.start' 2>&1"
        self.tool("sh", "-c", f"{start} || {{ cat '{log}' '{log}.start'; exit 1; }}")
        try:
            yield
        finally:
            self.tool("pg_ctl", "-w", "-m", "fast", "-D", self.data, "stop")

    def restore(self) -> None:
        """The template's files in the place of the data; on the disk, so that no run pays for the copying."""
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", "--reflink=auto", self.template, self.data], check=True)
        subprocess.run(["sync", "-f", self.data], check=True)

    def processes(self) -> list[Path]:
        """/proc's folders of the server and its children."""
        server = (self.data / "postmaster.pid").read_text().split("\n", 1)[0]
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [Path("/proc") / pid for pid in [server, *children]]

    def cpu_s(self) -> float:
        """Seconds of CPU time that the server and its children, those that ended too, have taken."""
        ticks = 0
        for number, process in enumerate(self.processes()):
            with contextlib.suppress(OSError):  # it ended meanwhile
                # From the 14th field: user and system time, and those of the children that ended.
                times = (process / "stat").read_text().rpartition(")")[2].split()[11:15]
                ticks += sum(map(int, times if number == 0 else times[:2]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """MB that the server's processes hold: each one's own, and what they share once."""
        kb = 0
        for process in self.processes():
            with contextlib.suppress(OSError):  # it ended meanwhile
                found = re.search(r"^Pss: +(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)
                kb += int(found[1]) if found else 0
        return kb / 1024


class Peak:
    """The most memory that a server held while the `with` block ran, by samples."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.mb = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self.mb = max(self.mb, self.server.memory_mb())


def settings_text(settings: Settings) -> str:
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())


def load(server: Server, messages: int) -> None:
    """Make the template: the schema of the provisioned database, and the same rows on every machine."""
    schema = server.tool(
        "pg_dump", "-h", "/var/run/postgresql", "--schema-only", "--schema=public", "--no-owner",
        "--no-privileges", "chat",
    )  # fmt: skip
    server.tool(
        "initdb", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=peer", "-D", server.data
    )
    plain = server.data / "postgresql.conf"
    stock = plain.read_text()
    sizes = (f"messages={messages}", f"rooms={ROOMS}", f"users={USERS}", f"skew={SKEW}")
    options = [word for size in sizes for word in ("-v", size)]
    with server.running(settings_text(LOADING)):
        server.sql("DROP SCHEMA public CASCADE;\n" + schema)
        server.sql((HERE / "load.sql").read_text(), *options)
        server.sql("CREATE EXTENSION pg_prewarm")
        if wrong := server.sql((HERE / "consistent.sql").read_text(), *options):
            raise SystemExit(f"the rows that were loaded are wrong: {wrong}")
        server.sql("VACUUM (FREEZE, ANALYZE)")
    plain.write_text(stock)
    # Without the loading's WAL: recycled files would be a gift to whoever keeps fewer.
    server.tool("pg_resetwal", "-D", server.data)
    server.data.rename(server.template)
    server.data.mkdir()


def promise_mb(server: Server) -> int:
    """MB that the memory ledger counts for a PostgreSQL with the settings of the running one."""
    from filter_plugins.postgresql_tuning import Table, postgresql_memory_rows

    rows = [
        row.split("|", 1)
        for row in server.sql("SELECT name, current_setting(name) FROM pg_settings").splitlines()
    ]
    table: Table = {row[0]: {"value": row[1], "why": ""} for row in rows if len(row) == 2}
    return sum(row["mb"] for row in postgresql_memory_rows(table, BUSY_PERCENT))


def measure(server: Server, text: str, options: argparse.Namespace, seed: int) -> Run:
    """Run the mix on a fresh copy of the data with the settings in `text`."""
    server.restore()
    scripts = [f"{server.folder}/{name}.sql@{weight}" for name, weight in MIX.items()]
    weights = sum(room**-SKEW for room in range(1, ROOMS + 1))
    numbers = {"messages": options.messages, "rooms": ROOMS, "users": USERS, "skew": SKEW, "weights": weights}
    with server.running(text), tempfile.TemporaryDirectory(prefix="chat-load-", dir="/dev/shm") as logs:
        os.chown(logs, server.uid, server.gid)
        pgbench: list[str] = [
            "pgbench", "-h", str(server.folder), "-n", "-M", "prepared", "-c", str(options.clients),
            *("-j", "2", *(("-R", str(options.rate)) if options.rate else ())),
            *(word for name, number in numbers.items() for word in ("-D", f"{name}={number}")),
            *(word for script in scripts for word in ("-f", script)),
        ]  # fmt: skip
        server.sql((HERE / "prewarm.sql").read_text())
        server.tool(*pgbench, "-T", str(WARM_UP_S), "--random-seed=0", "postgres")
        server.sql("CHECKPOINT")
        with Peak(server) as peak:
            before = server.cpu_s()
            log = ("--log", f"--log-prefix={logs}/log")
            said = server.tool(
                *pgbench, "-T", str(options.seconds), f"--random-seed={seed}", *log, "postgres"
            )
            cpu_s = server.cpu_s() - before
        tps = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
        failed = re.search(r"^number of failed transactions: (\d+)", said, re.MULTILINE)
        if tps is None or failed is None or failed[1] != "0":
            raise SystemExit(f"pgbench did not get through:\n{said}")
        latencies = read_log(Path(logs))
        cpu_us = 1e6 * cpu_s / sum(map(len, latencies.values()))
        return Run(float(tps[1]), latencies, cpu_us, peak.mb, promise_mb(server))


def read_log(folder: Path) -> dict[str, list[float]]:
    """Latencies in ms by script from pgbench's log: client, number, latency in us, script, time."""
    latencies: dict[str, list[float]] = {name: [] for name in MIX}
    names = list(MIX)
    for path in folder.iterdir():
        with path.open() as stream:
            for line in stream:
                _client, _number, microseconds, script, *_time = line.split()
                latencies[names[int(script)]].append(int(microseconds) / 1000)
    return latencies


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median (least to most)."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def verdict(ratios: Sequence[float], *, more_is_better: bool) -> str:
    """The ratios' spread, and whether ours was ahead or behind in every round; else the rounds disagree."""
    better = [ratio > 1 if more_is_better else ratio < 1 for ratio in ratios]
    return f"{spread(ratios, 2)} {'ahead' if all(better) else 'unclear' if any(better) else 'behind'}"


def report(runs: dict[str, list[Run]], memory_mb: int) -> None:
    """Print every contestant's figures and ours as multiples of them; a round is compared with itself."""
    print("\nmedian (least to most) of the rounds; latency in ms, CPU time of the server in us a transaction")
    print(f"{'':8} {'tps':22} {'p50':22} {'p99':24} {'CPU time':20}")
    for name, found in runs.items():
        tps, cpu = spread([run.tps for run in found]), spread([run.cpu_us for run in found])
        p50, p99 = (spread([run.percentile(share) for run in found], 2) for share in (0.5, 0.99))
        print(f"{name:8} {tps:22} {p50:22} {p99:24} {cpu:20}")

    print("\nours / other, round by round")
    print(f"{'':8} {'tps, more is better':30} {'p99, less is better':30} {'CPU time, less is better':30}")
    for name, found in runs.items():
        if name == "ours":
            continue
        pairs = list(zip(runs["ours"], found, strict=True))
        cells = [
            verdict([own.tps / other.tps for own, other in pairs], more_is_better=True),
            verdict(
                [own.percentile(0.99) / other.percentile(0.99) for own, other in pairs], more_is_better=False
            ),
            verdict([own.cpu_us / other.cpu_us for own, other in pairs], more_is_better=False),
        ]
        print(f"{name:8} " + " ".join(f"{cell:30}" for cell in cells))

    print(f"\nmemory, MB: the most that processes held, of what the ledger counts; the host has {memory_mb}")
    for name, found in runs.items():
        peak, promise = max(run.peak_mb for run in found), found[0].promise_mb
        kept = "within the promise" if peak <= promise else "OVER the promise"
        fits = "" if promise <= memory_mb else ", which the host cannot give"
        print(f"{name:8} {peak:6.0f} of {promise:6}  {kept}{fits}")

    print("\np50 / p99 by script, ms, median of the rounds")
    print(f"{'':12}" + "".join(f"{name:>17}" for name in runs))
    for script in MIX:
        cells = [
            " / ".join(
                f"{statistics.median(run.percentile(s, script) for run in found):.2f}" for s in (0.5, 0.99)
            )
            for found in runs.values()
        ]
        print(f"{script:12}" + "".join(f"{cell:>17}" for cell in cells))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=12, help="of each run that is counted")
    parser.add_argument(
        "--clients", type=int, default=20, help="by default what PgBouncer's pool of one user opens"
    )
    parser.add_argument(
        "--rate", type=int, default=0, help="transactions a second; by default as fast as they go"
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument(
        "--memory-mb", type=int, default=4096, help="what the recipes are told that the host has"
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="what the recipes are told")
    parser.add_argument("--try", dest="tries", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--only", nargs="+", metavar="CONTESTANT", help="ours and these")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    [chat_conf] = Path("/etc/postgresql").glob("*/main/conf.d/chat.conf")
    ours = chat_conf.read_text()
    contestants = {
        "ours": ours,
        "stock": "",
        "recipe": settings_text(recipe(options.memory_mb)),
        "pgtune": settings_text(pgtune_web(options.memory_mb, options.cores)),
    }
    if options.only:
        contestants = {name: contestants[name] for name in dict.fromkeys(["ours", *options.only])}
    for number, words in enumerate(options.tries, 1):
        name, _, value = words.partition("=")
        contestants[f"try{number}"] = ours + settings_text({name: value})
        print(f"try{number}: ours with {words}")

    mix = ", ".join(f"{name} {weight} %" for name, weight in MIX.items())
    print(
        f"chat_load: {options.messages:,} messages, {ROOMS:,} rooms (zipf {SKEW}), {USERS:,} users; {mix};"
        f" {options.clients} clients, {options.rounds} rounds of {options.seconds} s, {os.cpu_count()} cores",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="chat-load-", dir="/var/lib/postgresql"))
    server = Server(folder, chat_conf.parts[3])
    os.chown(folder, server.uid, server.gid)
    for name in MIX:  # the project's folder may be closed to other users
        (folder / f"{name}.sql").write_text((HERE / f"{name}.sql").read_text())
        (folder / f"{name}.sql").chmod(0o644)
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    try:
        began = time.monotonic()
        load(server, options.messages)
        print(f"loaded in {time.monotonic() - began:.0f} s", flush=True)
        for number in range(options.rounds):
            turn = number % len(runs)
            order = [*list(runs)[turn:], *list(runs)[:turn]]
            for name in order if number % 2 == 0 else reversed(order):
                run = measure(server, contestants[name], options, seed=number + 1)
                runs[name].append(run)
                print(
                    f"round {number + 1}  {name:8} {run.tps:6.0f} tps  p99 {run.percentile(0.99):6.2f} ms"
                    f"  {run.cpu_us:4.0f} us of CPU each  {run.peak_mb:5.0f} MB",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    report(runs, options.memory_mb)
    return 0


if __name__ == "__main__":
    sys.exit(main())
