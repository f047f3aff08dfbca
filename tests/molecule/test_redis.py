"""Redis under strain: many tokens, full memory, kills, damaged files; each instance keeps its promise."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

PRESENCES, TOKENS = 10_000, 200_000
WEEK_S = 7 * 24 * 3600
RUN = uuid.uuid4().hex  # hosts that are kept have the keys of earlier runs
DEADLINE_S = 30
INSTANCES = {"sessions": 6380, "realtime": 6381}
DAMAGED = "Bad file format reading the append only file"
CUT = "loaded anyway because aof-load-truncated is enabled"

# The file that is written to; and what is asked of systemd.
AOF = "/var/lib/redis/sessions/appendonlydir"
LAST_FILE = f"$(ls -v {AOF}/*.incr.aof | tail -n 1)"
UNIT = "redis-server@sessions"
INVOCATION = f"$(systemctl show -p InvocationID --value {UNIT})"
JOURNAL = f"journalctl --sync; journalctl -o cat _SYSTEMD_INVOCATION_ID={INVOCATION}"
CHECKSUM = f"cat {AOF}/* | sha256sum"


class Redis:
    """Both instances of a host, as the application's users and an operator reach them."""

    def __init__(self, environment, vault, host):
        self.host, self._environment, self._vault = host, environment, vault
        self.sessions = self.client("sessions", "chat_app_sessions")
        self.realtime = self.client("realtime", "chat_app_realtime")

    def client(self, instance, user, **options):
        return redis.Redis(
            host=self._environment.address(self.host),
            port=INSTANCES[instance],
            username=user,
            password=self._vault[f"vault_redis_{user}_password"],
            ssl=True,
            ssl_ca_certs=str(self._environment.inventory / "ca.pem"),
            ssl_check_hostname=True,
            decode_responses=True,
            socket_timeout=10,
            **options,
        )

    def figures(self, instance):
        """INFO as an exporter sees it, and with it DBSIZE as `keys`."""
        with self.client(instance, "chat_monitor") as monitor:
            return monitor.info() | {"keys": monitor.dbsize()}

    def operate(self, instance, command):
        """What Redis answers the operator."""
        password = self._vault["vault_redis_chat_admin_password"]
        cli = f"redis-cli --user chat_admin -s /run/redis-{instance}/redis.sock"
        return self.shell(f"REDISCLI_AUTH={password} {cli} {command}")

    def limit(self, instance, size):
        """CONFIG SET maxmemory by the operator; what it was."""
        before = self.operate(instance, "CONFIG GET maxmemory").split()[-1]
        assert self.operate(instance, f"CONFIG SET maxmemory {size}") == "OK"
        return before

    def shell(self, command, check=True):
        return self._environment.shell(self.host, command, check)


@pytest.fixture(scope="module")
def servers(environment, vault):
    """Each host's Redis, with a week's tokens in it."""
    servers = [Redis(environment, vault, host) for host in environment.hosts]
    each(servers, _load)
    return servers


def _load(server):
    # Other tests' tokens would expire between two counts.
    assert server.operate("sessions", "FLUSHALL") == "OK"
    for first in range(0, TOKENS, 5000):
        with server.sessions.pipeline(transaction=False) as pipeline:
            for number in range(first, first + 5000):
                pipeline.set(f"refresh_token:{number}", f"{number:064x}", ex=WEEK_S)
            pipeline.execute()


def each(servers, action):
    """What `action` returns for each server, all at once."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(action, servers))


def test_every_presence_that_expires_is_announced_beside_many_tokens(servers):
    for server in servers:  # one after the other: the client's own time is in the figures
        delays = _announced(server)
        p50, p99 = (delays[len(delays) * share // 100] for share in (50, 99))
        print(f"{server.host}: {len(delays)} of {PRESENCES} announced, p50 {p50:.2f} s, p99 {p99:.2f} s late")
        assert len(delays) == PRESENCES


def _announced(server):
    """Seconds from the expiry of each presence key to its event, sorted; of what comes within DEADLINE_S."""
    listener = server.realtime.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("__keyevent@0__:expired")
    listener.get_message(timeout=5)
    expiry = time.time() + 5
    with server.realtime.pipeline(transaction=False) as pipeline:
        for number in range(PRESENCES):
            pipeline.set(f"presence:{number}", "online", pxat=int(expiry * 1000))
        pipeline.execute()
    delays = {}
    while len(delays) < PRESENCES and time.time() < expiry + DEADLINE_S:
        if message := listener.get_message(timeout=1):
            delays[message["data"]] = time.time() - expiry
    listener.close()
    return sorted(delays.values())


def test_full_realtime_costs_no_token_and_logins_go_on(servers):
    each(servers, _fill_realtime)


def _fill_realtime(server):
    before = {instance: server.figures(instance) for instance in INSTANCES}
    limit, logins = server.limit("realtime", "16mb"), 0
    try:
        for first in count(step=500):
            with server.realtime.pipeline(transaction=False) as pipeline:
                for number in range(first, first + 500):
                    pipeline.set(f"presence:{number}", "x" * 2000, ex=60)
                pipeline.execute()
            assert server.sessions.set(f"refresh_token:{RUN}:login:{first}", "digest", ex=WEEK_S)
            logins += 1
            if server.figures("realtime")["evicted_keys"] > before["realtime"]["evicted_keys"] + 500:
                break
            assert first < 100_000, "nothing was evicted"
    finally:
        server.limit("realtime", limit)
    after = server.figures("sessions")
    assert after["evicted_keys"] == 0
    assert after["keys"] == before["sessions"]["keys"] + logins


def test_full_sessions_refuses_writes_evicts_nothing_and_still_reads_and_deletes(servers):
    each(servers, _fill_sessions)


def _fill_sessions(server):
    before = server.figures("sessions")
    limit, written = server.limit("sessions", before["used_memory"] + 1024**2), 0
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError, match="used memory > 'maxmemory'"):  # noqa: PT012
            for written in range(10_000):  # ends with how many were taken
                server.sessions.set(f"refresh_token:{RUN}:full:{written}", "x" * 1000, ex=WEEK_S)
        assert server.sessions.get("refresh_token:1") == f"{1:064x}"
        full = server.figures("sessions")
        assert (full["keys"], full["evicted_keys"]) == (before["keys"] + written, 0)
        taken = [f"refresh_token:{RUN}:full:{number}" for number in range(written)]
        assert server.sessions.delete(*taken) == written
        assert server.sessions.set(f"refresh_token:{RUN}:full", "digest", ex=WEEK_S)
    finally:
        server.limit("sessions", limit)


class Writer:
    """A thread that writes key after key, by a client that tries again; `acknowledged`: the time of each."""

    def __init__(self, server, instance, user, prefix):
        retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 100)
        self.client = server.client(instance, user, retry=retry)
        self.prefix, self.acknowledged, self.latest, self.error = prefix, {}, 0.0, None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self):
        try:
            for number in count():
                if self._end.is_set():
                    return
                self.client.set(f"{self.prefix}{number}", "digest", ex=WEEK_S)
                self.latest = self.acknowledged[f"{self.prefix}{number}"] = time.monotonic()
        except redis.exceptions.RedisError as error:
            self.error = error

    def wait_for(self, moment):
        """Come back once a key is acknowledged after `moment`."""
        deadline = time.monotonic() + 60
        while self.latest <= moment:
            assert self.error is None
            assert time.monotonic() < deadline, f"no {self.prefix} was acknowledged any more"
            time.sleep(0.05)

    def stop(self):
        self._end.set()
        self._thread.join()
        self.client.close()


def test_killed_instances_come_back_with_every_token_and_no_presence(servers):
    each(servers, _kill)


def _kill(server):
    before = server.figures("sessions")["keys"]
    server.realtime.set("presence:gone", "online", ex=600)
    writers = {
        "sessions": Writer(server, "sessions", "chat_app_sessions", f"refresh_token:{RUN}:killed:"),
        "realtime": Writer(server, "realtime", "chat_app_realtime", "presence:killed:"),
    }
    for writer in writers.values():
        writer.wait_for(0)
    began = time.monotonic()
    for writer in writers.values():
        writer.wait_for(began + 3)
    killed = time.monotonic()
    server.shell("kill -9 $(systemctl show -p MainPID --value redis-server@sessions redis-server@realtime)")
    for writer in writers.values():
        writer.wait_for(time.monotonic())
        writer.stop()

    acknowledged = writers["sessions"].acknowledged
    with server.sessions.pipeline(transaction=False) as pipeline:
        for key in acknowledged:
            pipeline.exists(key)
        missing = {key for key, held in zip(acknowledged, pipeline.execute(), strict=True) if not held}
    promised = {key for key, at in acknowledged.items() if at < killed - 2}
    late = {key for key, at in acknowledged.items() if killed - 2 <= at < killed}
    print(
        f"{server.host}: of {len(promised)} tokens {len(promised & missing)} are lost,"
        f" of {len(late)} of the last two seconds before the kill {len(late & missing)}"
    )
    assert promised
    assert not promised & missing
    assert server.figures("sessions")["keys"] == before + len(acknowledged) - len(missing)
    held = server.figures("realtime")["keys"]
    after = [at for at in writers["realtime"].acknowledged.values() if at > killed]
    assert held <= len(after) + 1 < len(writers["realtime"].acknowledged)
    assert not server.realtime.exists("presence:gone")


def test_cut_file_is_loaded_with_a_warning_and_without_its_last_command(servers):
    each(servers, _cut)


def _cut(server):
    last_but_one, last = (f"refresh_token:{RUN}:{name}" for name in ("last_but_one", "last"))
    for key in (last_but_one, last):
        server.sessions.set(key, "digest", ex=WEEK_S)
    before = server.figures("sessions")["keys"]
    server.shell(f"systemctl stop {UNIT} && truncate -s -3 {LAST_FILE} && systemctl start {UNIT}")
    assert CUT in server.shell(JOURNAL)
    assert server.figures("sessions")["keys"] == before - 1
    assert server.sessions.exists(last_but_one)
    assert not server.sessions.exists(last)


def test_settings_that_redis_rewrites_are_read_once_by_its_next_start(servers):
    each(servers, _rewrite)


def _rewrite(server):
    # The last test's run finds nothing to set in these instances either.
    for instance in INSTANCES:
        before = json.loads(server.operate(instance, "--json CONFIG GET '*'"))
        assert server.operate(instance, "CONFIG REWRITE") == "OK"
        server.shell(f"systemctl restart redis-server@{instance}")
        assert json.loads(server.operate(instance, "--json CONFIG GET '*'")) == before


@pytest.fixture
def damaged(servers):
    """{host: checksum} of sessions' files, damaged in the middle; the copy is put back afterwards."""
    yield {server.host: found for server, found in zip(servers, each(servers, _damage), strict=True)}
    for server in servers:
        server.shell(f"systemctl stop {UNIT}; rm -r {AOF} && mv {AOF}.copy {AOF}")


def _damage(server):
    return server.shell(
        f"systemctl stop {UNIT} && cp -a {AOF} {AOF}.copy && file={LAST_FILE}"
        " && yes damaged | head -c 4000 | dd of=$file conv=notrunc status=none"
        " bs=1 seek=$(($(stat -c %s $file) / 2))"
        f" && {CHECKSUM}"
    )


@pytest.fixture(scope="module")
def tokens(servers):
    """How many keys `sessions` has on each host before its files are damaged."""
    return [server.figures("sessions")["keys"] for server in servers]


@pytest.mark.usefixtures("tokens")
def test_damaged_file_is_refused_and_repaired_by_nobody(environment, servers, damaged):
    for server in servers:
        server.shell(f"systemctl start {UNIT}", check=False)
    for server in servers:
        # Once is enough: for each attempt it reads all that comes before the damage.
        state = server.shell(f"systemctl show -p ActiveState -p NRestarts {UNIT}")
        assert sorted(state.splitlines()) == ["ActiveState=failed", "NRestarts=0"]
        assert _says_what_to_do(server.shell(JOURNAL))
    run = environment.play()
    assert run.code != 0
    for server in servers:
        assert f"{server.host}: redis : Run each instance with what its files say" in run.failures()
        assert _says_what_to_do(run.diff(server.host))
        assert server.shell(CHECKSUM) == damaged[server.host]


def _says_what_to_do(text):
    """Whether it names the file, and what repairs it."""
    return re.search(rf"{DAMAGED} appendonly\S+\.incr\.aof: make a backup .*redis-check-aof --fix", text)


def test_copy_put_back_is_served_by_the_next_run_which_finds_nothing_else(environment, servers, tokens):
    run = environment.play()
    assert run.code == 0, run.failures()
    for server in servers:
        changed = run.changed_tasks(server.host)
        assert changed == {"redis : Run each instance with what its files say"}
    assert [server.figures("sessions")["keys"] for server in servers] == tokens
