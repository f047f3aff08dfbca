"""What security costs Redis, what an AOF rewrite costs its users, and how late expiry is heard of.

    python3 -B benchmarks/redis/run.py [--only PART ...] [--rounds N] [--seconds S]

As root on a provisioned host, whose Redis is empty. The passwords of the ACL users come from standard input,
as JSON: {"chat_admin": ..., "chat_app_sessions": ..., "chat_app_realtime": ...}

    security  redis-benchmark, and the application's mix, with TLS and ACL users, beside a stock Redis
    clients   the memory that an idle TLS client costs the server
    rewrite   latencies of the work on tokens while the AOF is rewritten, beside those without
    expiry    how late expired presence keys are announced, by hz and active-expire-effort

The contestants take turns in each round, so that a busy machine is busy for all of them; ratios are taken
within a round. CPU time is the server's own for a command, whatever the client is able to send.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import pwd
import random
import re
import resource
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

CA = "/etc/ssl/certs/chat-ca.pem"
STOCK_PORT = 7379
CLIENTS = 50
KEYS = 100_000
REQUESTS = 100_000  # of each run of redis-benchmark
TOKENS = 500_000  # that a rewrite has to write
RATE = 2_000  # commands a second beside a rewrite; due by the clock, because nobody spares a stalled server
WEEK_S = 7 * 24 * 3600
DIGEST = "0123456789abcdef" * 4
IDLE_CLIENTS = 500
PRESENCES = 10_000
PRESENCE_TTL_S = 30
HEARTBEAT_S = 10  # each user's, on average: one of twenty pauses for longer than the TTL
EXPIRY_SETTINGS = [*itertools.product((10, 50, 100), (1, 3, 6)), (250, 6), (500, 1), (500, 6), (500, 10)]
PARTS = ("security", "clients", "rewrite", "expiry")


@dataclass(frozen=True)
class Server:
    """A Redis on this host, and the user who asks it; the stock one has none, and no TLS."""

    name: str
    port: int
    pid: int
    user: str = ""
    password: str = field(default="", repr=False)

    def cpu_s(self) -> float:
        """Seconds of CPU time that it and its children that ended have taken."""
        times = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def resident_kb(self) -> int:
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def client(self) -> Any:
        """redis-py's client, as the application has it."""
        return redis.Redis(
            host="localhost", port=self.port, username=self.user, password=self.password, ssl=True,
            ssl_ca_certs=CA, ssl_check_hostname=True, decode_responses=True,
        )  # fmt: skip


def provisioned(name: str, user: str, passwords: dict[str, str]) -> Server:
    """An instance of this host, as one of the application's users reaches it."""
    port = re.search(r'^tls-port "(\d+)"', Path(f"/etc/redis/chat-{name}.conf").read_text(), re.MULTILINE)
    pid = subprocess.run(
        ["systemctl", "show", "--property=MainPID", "--value", f"redis-server@{name}"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    if port is None or int(pid) == 0:
        raise SystemExit(f"redis-server@{name} does not run here, or has no tls-port")
    return Server(name, int(port[1]), int(pid), user, passwords[user])


@contextlib.contextmanager
def stock() -> Iterator[Server]:
    """Debian's configuration as it is, but for the port and the folders."""
    account = pwd.getpwnam("redis")
    with tempfile.TemporaryDirectory(prefix="redis-stock-", dir="/var/lib/redis") as folder:
        os.chown(folder, account.pw_uid, account.pw_gid)
        process = subprocess.Popen(
            ["redis-server", "/etc/redis/redis.conf", "--port", str(STOCK_PORT), "--dir", folder,
             "--daemonize", "no", "--logfile", f"{folder}/log", "--pidfile", ""],
            user=account.pw_uid, group=account.pw_gid, extra_groups=[],
        )  # fmt: skip
        server = Server("stock", STOCK_PORT, process.pid)
        try:
            while True:
                try:
                    Line(server).close()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None:
                        raise SystemExit("the stock redis-server did not start") from None
                    time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            process.wait()


class Line:
    """A connection that has one command under way."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.user:
            context = ssl.create_default_context(cafile=CA)
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            self.socket.sendall(command("AUTH", server.user, server.password))
            if (said := self.socket.recv(4096)) != b"+OK\r\n":
                raise SystemExit(f"{server.name}: {said.decode()}")
        self.socket.setblocking(False)
        self.kind, self.due, self._answer = "", 0.0, b""

    def send(self, kind: str, words: bytes, due: float) -> None:
        self.kind, self.due, self._answer = kind, due, b""
        self.socket.send(words)

    def answered(self) -> bool:
        """Whether the answer is complete, after reading what has come of it."""
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            self._answer += self.socket.recv(65536)
        if not self._answer.endswith(b"\r\n"):
            return False
        if self._answer.startswith(b"-"):
            raise SystemExit(f"{self.server.name}: {self._answer.decode()}")
        length, _, text = self._answer.partition(b"\r\n")
        return not length.startswith(b"$") or length == b"$-1" or len(text) == int(length[1:]) + 2

    def close(self) -> None:
        self.socket.close()


def command(*words: str) -> bytes:
    """As the protocol has it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)


# How often each comes of a hundred, which instance serves it, and the command.
Work = dict[str, tuple[int, str, Callable[[int], bytes]]]
TOKEN_WORK: Work = {
    "token write": (50, "sessions",
                    lambda n: command("SET", f"refresh_token:{n}", DIGEST, "EX", str(WEEK_S))),
    "token read": (50, "sessions", lambda n: command("GET", f"refresh_token:{n}")),
}  # fmt: skip
CHAT_WORK: Work = {
    "presence": (50, "realtime", lambda n: command("SET", f"presence:{n}", "online", "EX", "30")),
    "typing": (20, "realtime", lambda n: command("SET", f"typing:{n % 2000}:{n}", "true", "EX", "5")),
    "is online": (20, "realtime", lambda n: command("GET", f"presence:{n}")),
    "token write": (5, *TOKEN_WORK["token write"][1:]),
    "token read": (5, *TOKEN_WORK["token read"][1:]),
}


@dataclass(frozen=True)
class Run:
    """Commands a second, latencies in ms, CPU time of the servers in us a command."""

    per_s: float
    latencies: list[float]
    cpu_us: float

    def percentile(self, share: float) -> float:
        """The latency that `share` of the commands did not exceed."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def mix(work: Work, servers: dict[str, Server], seconds: float, seed: int, rate: int = 0) -> Run:
    """The work by CLIENTS connections, as fast as they go, or `rate` a second, late from when due."""
    chance = random.Random(seed)  # noqa: S311  the same for all, and no secret
    kinds, weights = list(work), [weight for weight, _, _ in work.values()]
    used = {id(server): server for server in (servers[name] for _, name, _ in work.values())}.values()
    free = {id(server): [Line(server) for _ in range(CLIENTS)] for server in used}
    latencies: list[float] = []
    under_way, sent = 0, 0
    with (
        selectors.SelectSelector() as selector
    ):  # which waits for less than a millisecond, where epoll does not
        for lines in free.values():
            for line in lines:
                selector.register(line.socket, selectors.EVENT_READ, line)
        cpu = sum(server.cpu_s() for server in used)
        began = now = time.perf_counter()
        while now < began + seconds or under_way:
            due = began + sent / rate if rate else now
            while under_way < CLIENTS and due <= now < began + seconds:
                [kind] = chance.choices(kinds, weights)
                _, name, words = work[kind]
                line = free[id(servers[name])].pop()
                line.send(kind, words(chance.randrange(KEYS)), due)
                under_way, sent = under_way + 1, sent + 1
                due = began + sent / rate if rate else now
            pause = max(0.0, due - now) if rate and under_way < CLIENTS and now < began + seconds else None
            for key, _ in selector.select(pause):
                if key.data.kind and key.data.answered():
                    latencies.append(1000 * (time.perf_counter() - key.data.due))
                    key.data.kind = ""
                    free[id(key.data.server)].append(key.data)
                    under_way -= 1
            now = time.perf_counter()
        cpu = sum(server.cpu_s() for server in used) - cpu
        for lines in free.values():
            for line in lines:
                line.close()
    return Run(sent / (now - began), latencies, 1e6 * cpu / sent)


def redis_benchmark(server: Server, *words: str) -> Run:
    """redis-benchmark's figures for a command, for CLIENTS without pipelining; of latencies its p99 alone."""
    # Its arguments show the password, on a host that lives for this alone: it reads it from nowhere else.
    secure = ["--tls", "--cacert", CA, "--user", server.user, "-a", server.password] if server.user else []
    before = server.cpu_s()
    said = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-c", str(CLIENTS), "-P", "1",
         "-n", str(REQUESTS), "-r", str(KEYS), "--csv", *secure, *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
    ).stdout  # fmt: skip
    row = list(csv.DictReader(line for line in said.splitlines() if line.startswith('"')))[-1]
    cpu_us = 1e6 * (server.cpu_s() - before) / REQUESTS
    return Run(float(row["rps"]), [float(row["p99_latency_ms"])], cpu_us)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (least to most)."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def security(sessions: Server, realtime: Server, rounds: int, seconds: float) -> None:
    """Print what TLS and ACL users cost, with the AOF (sessions) and without (realtime)."""
    rows: dict[str, dict[str, list[Run]]] = {}
    with stock() as plain:
        ours, one = (
            {"sessions": sessions, "realtime": realtime},
            {"sessions": plain, "realtime": plain},
        )
        key = {"sessions": "refresh_token", "realtime": "presence", "stock": "presence"}
        for number in range(rounds):
            servers = [sessions, realtime, plain][:: 1 if number % 2 else -1]
            for server in servers:
                name = f"{key[server.name]}:__rand_int__"
                rows.setdefault("SET", {}).setdefault(server.name, []).append(
                    redis_benchmark(server, "SET", name, DIGEST)
                )
                rows.setdefault("GET", {}).setdefault(server.name, []).append(
                    redis_benchmark(server, "GET", name)
                )
            contestants = {"ours": ours, "stock": one}
            for name in list(contestants)[:: 1 if number % 2 else -1]:
                run = mix(CHAT_WORK, contestants[name], seconds, number)
                rows.setdefault("mix", {}).setdefault(name, []).append(run)
            print(
                f"round {number + 1}  "
                + "; ".join(
                    f"{what}: "
                    + ", ".join(f"{name} {runs[-1].per_s:.0f}/s" for name, runs in sorted(found.items()))
                    for what, found in rows.items()
                ),
                flush=True,
            )
    print("\nmedian (least to most) of the rounds; CPU time of the server in us a command, p99 in ms")
    print(f"{'':14} {'commands a second':28} {'p99':22} {'CPU time':20} {'x stock':20} CPU x stock")
    for what, found in rows.items():
        for name, runs in found.items():
            pairs = list(zip(runs, found["stock"], strict=True))
            cells = [
                f"{spread([run.per_s for run in runs], 0):28}",
                f"{spread([run.percentile(0.99) for run in runs]):22}",
                f"{spread([run.cpu_us for run in runs], 1):20}",
                f"{spread([run.per_s / other.per_s for run, other in pairs]):20}",
                spread([run.cpu_us / other.cpu_us for run, other in pairs]),
            ]
            print(f"{what:4} {name:9} " + " ".join(cells))


class Rewrites:
    """One BGREWRITEAOF after the other while the `with` block runs."""

    def __init__(self, admin: Any) -> None:
        self._admin, self._end, self.count = admin, threading.Event(), 0
        self._thread = threading.Thread(target=self._rewrite, daemon=True)

    def __enter__(self) -> Rewrites:
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._end.set()
        self._thread.join()

    def _rewrite(self) -> None:
        while not self._end.wait(0.05):
            if not self._admin.info("persistence")["aof_rewrite_in_progress"]:
                self._admin.bgrewriteaof()
                self.count += 1


def rewrite(sessions: Server, admin: Any, rounds: int, seconds: float) -> None:
    """Print the latencies of the work on tokens, with an AOF rewrite under way all the time and without."""
    for first in range(0, TOKENS, 5000):
        with sessions.client().pipeline(transaction=False) as pipeline:
            for number in range(first, first + 5000):
                pipeline.set(f"refresh_token:{number}", DIGEST, ex=WEEK_S)
            pipeline.execute()
    found: dict[str, list[Run]] = {"rewriting": [], "not": []}
    for number in range(rounds):
        for name in list(found)[:: 1 if number % 2 else -1]:
            while admin.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.1)
            with contextlib.nullcontext() if name == "not" else Rewrites(admin) as rewrites:
                run = mix(TOKEN_WORK, {"sessions": sessions}, seconds, number, RATE)
            found[name].append(run)
            times = f"  {rewrites.count} rewrites" if rewrites else ""
            print(f"round {number + 1}  {name:9}  p99 {run.percentile(0.99):.2f} ms{times}", flush=True)
    fork_ms = admin.info("stats")["latest_fork_usec"] / 1000
    print(
        f"\nlatency in ms of {RATE} commands a second beside {TOKENS:,} tokens; a fork took {fork_ms:.1f} ms"
    )
    for share, title in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
        own, other = ([run.percentile(share) for run in found[name]] for name in ("rewriting", "not"))
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        print(
            f"{title:6} rewriting {spread(own):24} without {spread(other):24}"
            f" rewriting / without {spread(ratios)}"
        )


def clients(servers: Sequence[Server]) -> None:
    """Print the resident memory that each of IDLE_CLIENTS idle TLS clients adds."""
    print()
    for server in servers:
        lines = [Line(server) for _ in range(20)]  # what a first client costs is not of interest
        before = server.resident_kb()
        lines += [Line(server) for _ in range(IDLE_CLIENTS)]
        idle_kb = (server.resident_kb() - before) / IDLE_CLIENTS
        for line in lines[20:]:
            line.send("", command("PING"), 0)
        with selectors.DefaultSelector() as selector:
            for line in lines[20:]:
                selector.register(line.socket, selectors.EVENT_READ, line)
            waiting = IDLE_CLIENTS
            while waiting:
                for key, _ in selector.select():
                    waiting -= key.data.answered()
        used_kb = (server.resident_kb() - before) / IDLE_CLIENTS
        for line in lines:
            line.close()
        print(
            f"{server.name:9} {idle_kb:.1f} kB for an idle TLS client, {used_kb:.1f} after a command of each"
        )


def expiry(realtime: Server, admin: Any, rounds: int, seconds: float) -> None:
    """Print how late expired keys are announced, beside PRESENCES that are renewed at random."""
    presences = Presences(realtime)
    before = admin.config_get("hz") | admin.config_get("active-expire-effort")
    print(f"\n{PRESENCES:,} presence keys of {PRESENCE_TTL_S} s; delay in s, CPU time in % of a core")
    try:
        with presences:
            for hz, effort in EXPIRY_SETTINGS:
                admin.config_set("hz", hz)
                admin.config_set("active-expire-effort", effort)
                time.sleep(PRESENCE_TTL_S / 5)  # what an earlier setting left behind
                cpu, began = realtime.cpu_s(), time.monotonic()
                delays = presences.delays(rounds * seconds)
                busy = (realtime.cpu_s() - cpu) / (time.monotonic() - began)
                presences.pause(True)
                cpu, began = realtime.cpu_s(), time.monotonic()
                time.sleep(seconds)
                idle = (realtime.cpu_s() - cpu) / (time.monotonic() - began)
                presences.pause(False)
                p50, p99 = (delays[int(share * len(delays))] for share in (0.5, 0.99))
                print(
                    f"hz {hz:3} effort {effort:2}  {len(delays):5} events  p50 {p50:5.2f}  p99 {p99:5.2f}"
                    f"  CPU {100 * busy:4.1f}, nobody there {100 * idle:4.1f}",
                    flush=True,
                )
    finally:
        for name, value in before.items():
            admin.config_set(name, value)


class Presences:
    """Users who renew their presence at random in the `with` block, and one who hears of who is gone."""

    def __init__(self, realtime: Server) -> None:
        self._client = realtime.client()
        self._expiries = [(0.0, 0.0)] * PRESENCES  # of each key: the one before, and the one that holds
        self._heard: list[float] = []
        self._end, self._go = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._renew)]

    def __enter__(self) -> Presences:
        for first in range(0, PRESENCES, 1000):
            self._set({n: random.uniform(1, PRESENCE_TTL_S) for n in range(first, first + 1000)})  # noqa: S311
        self._go.set()
        for thread in self._threads:
            thread.start()
        time.sleep(PRESENCE_TTL_S)  # from then on as many come as go
        return self

    def __exit__(self, *_failure: object) -> None:
        self._end.set()
        self._go.set()
        for thread in self._threads:
            thread.join()

    def pause(self, paused: bool) -> None:
        """Let nobody renew for a while, or go on."""
        if paused:
            self._go.clear()
        else:
            self._go.set()

    def delays(self, seconds: float) -> list[float]:
        """How late, in s, each event of the next `seconds` is; sorted."""
        first = len(self._heard)
        time.sleep(seconds)
        return sorted(self._heard[first:])

    def _set(self, ttls: dict[int, float]) -> None:
        now = time.time()
        with self._client.pipeline(transaction=False) as pipeline:
            for number, ttl in ttls.items():
                self._expiries[number] = (self._expiries[number][1], now + ttl)
                pipeline.set(f"presence:{number}", "online", pxat=int(1000 * (now + ttl)))
            pipeline.execute()

    def _renew(self) -> None:
        due = time.monotonic()
        while not self._end.is_set():
            self._go.wait()
            some = random.sample(range(PRESENCES), PRESENCES // HEARTBEAT_S // 50)
            self._set(dict.fromkeys(some, PRESENCE_TTL_S))
            due = max(due + 1 / 50, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))

    def _listen(self) -> None:
        listener = self._client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe("__keyevent@0__:expired")
        while not self._end.is_set():
            if message := listener.get_message(timeout=0.5):
                now, (before, last) = time.time(), self._expiries[int(message["data"].split(":")[1])]
                self._heard.append(now - (last if last <= now else before))  # it was renewed just then
        listener.close()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS[:3], help="by default all but expiry"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each run of a mix")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    passwords = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    sessions = provisioned("sessions", "chat_app_sessions", passwords)
    realtime = provisioned("realtime", "chat_app_realtime", passwords)
    admins = {
        server.name: redis.Redis(
            unix_socket_path=f"/run/redis-{server.name}/redis.sock", username="chat_admin",
            password=passwords["chat_admin"], decode_responses=True,
        )
        for server in (sessions, realtime)
    }  # fmt: skip
    for name, admin in admins.items():
        if keys := admin.dbsize():
            raise SystemExit(f"{name} holds {keys} keys, and would hold none afterwards: take another host")
    try:
        if "security" in options.only:
            security(sessions, realtime, options.rounds, options.seconds)
        if "clients" in options.only:
            clients([sessions, realtime])
        if "rewrite" in options.only:
            rewrite(sessions, admins["sessions"], options.rounds, options.seconds)
        if "expiry" in options.only:
            expiry(realtime, admins["realtime"], options.rounds, options.seconds)
    finally:
        for admin in admins.values():
            admin.flushall()
    return 0


if __name__ == "__main__":
    sys.exit(main())
