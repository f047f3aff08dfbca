"""The pools of both kinds, as threads use them: exhausted, cut off, and closed."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from chatdata.errors import ChatDataError, Timeout, Unavailable, redis_errors
from chatdata.pools import AsyncPools, Pools
from chatdata.settings import Settings

POST = "INSERT INTO messages (id, room_id, content) VALUES (%s, %s, 'load') ON CONFLICT (id) DO NOTHING"
CONSOLE = "cd / && runuser -u postgres -- psql -XAtq -h /run/postgresql -p 6432 -U pgbouncer -d pgbouncer -c"
PATIENCE_S = 60  # after which a condition counts as never met; nothing is measured by it


class AsThreads:
    """Something asynchronous as threads use it: what it does runs in a loop of its own."""

    def __init__(self, thing: Any, run: Callable[[Any], Any]) -> None:
        self._thing, self._run = thing, run

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._thing, name)
        if not callable(attribute):
            return AsThreads(attribute, self._run)

        def call(*arguments: Any, **options: Any) -> Any:
            result = attribute(*arguments, **options)
            return self._run(result) if inspect.iscoroutine(result) else AsThreads(result, self._run)

        return call

    def __enter__(self) -> AsThreads:
        return AsThreads(self._run(self._thing.__aenter__()), self._run)

    def __exit__(self, *error: Any) -> Any:
        return self._run(self._thing.__aexit__(*error))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()


@pytest.fixture(params=["sync", "async"])
def open_pools(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Callable[[Settings], Any]:
    """Pools of either kind, closed after a `with` block."""
    if request.param == "sync":
        return Pools
    return lambda settings: AsThreads(
        AsyncPools(settings), lambda result: asyncio.run_coroutine_threadsafe(result, loop).result()
    )


@pytest.fixture
def room(tier: Any) -> Iterator[UUID]:
    """The id of a room, made and removed by no connection that a test cuts."""
    id = uuid4()
    tier.environment.psql(tier.name, f"INSERT INTO rooms (id, name) VALUES ('{id}', 'load')")
    yield id
    tier.environment.psql(tier.name, f"DELETE FROM rooms WHERE id = '{id}'")


def until(condition: Callable[[], Any]) -> None:
    """Wait for it to come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def outcomes(times: int, action: Callable[[int], Any]) -> Counter[str]:
    """How often so many threads got a result ("done"), or which error."""

    def attempt(number: int) -> str:
        try:
            action(number)
        except Exception as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(times) as threads:
        return Counter(threads.map(attempt, range(times)))


def test_fifty_threads_share_ten_connections_of_redis(tier, open_pools):
    settings = tier.settings.model_copy(update={"redis_sessions_pool_size": 10, "pool_timeout_s": PATIENCE_S})
    prefix = f"refresh_token:{uuid4()}"
    with open_pools(settings) as pools:

        def use(number: int) -> None:
            for _ in range(10):
                pools.sessions.set(f"{prefix}:{number}", number, px=60_000)
                assert int(pools.sessions.get(f"{prefix}:{number}")) == number

        assert outcomes(50, use) == {"done": 50}


def test_fifty_threads_share_ten_connections_of_postgresql(tier, open_pools, room):
    settings = tier.settings.model_copy(update={"postgresql_pool_size": 10, "pool_timeout_s": PATIENCE_S})
    with open_pools(settings) as pools:

        def post(_: int) -> None:
            with pools.transaction() as connection:
                connection.execute(POST, [uuid4(), room])

        assert outcomes(50, post) == {"done": 50}
    assert tier.environment.psql(tier.name, f"SELECT last_seq FROM rooms WHERE id = '{room}'") == "50"


def test_exhausted_pool_is_a_timeout_and_a_full_queue_unavailable(tier, open_pools):
    settings = tier.settings.model_copy(update={"postgresql_pool_size": 1, "pool_timeout_s": 4})
    with open_pools(settings) as pools:

        def ask(_: int) -> None:
            with pools.connection() as connection:
                connection.execute("SELECT 1")

        with pools.connection():
            assert outcomes(30, ask) == {"Timeout": 20, "Unavailable": 10}
        assert outcomes(5, ask) == {"done": 5}


def test_exhausted_pool_of_redis_is_a_timeout(tier, open_pools):
    settings = tier.settings.model_copy(update={"redis_sessions_pool_size": 1, "pool_timeout_s": 0.2})
    with open_pools(settings) as pools:
        pool = pools.sessions.connection_pool
        held = pool.get_connection()
        with pytest.raises(Timeout), redis_errors():
            pools.sessions.ping()
        pool.release(held)
        assert pools.sessions.ping()


def test_authority_of_the_system_is_not_trusted(tier, open_pools, monkeypatch):
    other = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("SSL_CERT_FILE", str(tier.settings.ca_path))
    settings = tier.settings.model_copy(update={"ca_path": other})
    with (
        open_pools(settings) as pools,
        pytest.raises(Unavailable, match="CERTIFICATE_VERIFY"),
        redis_errors(),
    ):
        pools.sessions.ping()


def test_block_that_raises_is_rolled_back(tier, open_pools, room):
    with open_pools(tier.settings) as pools:

        def post(more: str) -> None:
            with pools.transaction() as connection:
                connection.execute(POST, [uuid4(), room])
                connection.execute(more)

        with pytest.raises(ChatDataError, match="nowhere"):
            post("SELECT FROM nowhere")
        post("SELECT 1")
    assert tier.environment.psql(tier.name, f"SELECT last_seq FROM rooms WHERE id = '{room}'") == "1"


def test_commit_that_fails_is_unavailable(tier, open_pools, room):
    id = uuid4()
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'chat_app' AND state = 'idle in transaction'"
    )
    with open_pools(tier.settings) as pools:

        def post(meanwhile: str = "") -> None:
            with pools.transaction() as connection:
                connection.execute(POST, [id, room])
                if meanwhile:
                    tier.environment.psql(tier.name, meanwhile)

        with pytest.raises(Unavailable):
            post(cut)
        post()
    assert tier.environment.psql(tier.name, f"SELECT count(*) FROM messages WHERE id = '{id}'") == "1"


def test_what_was_cut_while_it_lay_idle_is_replaced_unseen(tier, open_pools, restart):
    with open_pools(tier.settings) as pools:
        for _ in range(2):
            for _ in range(3):  # more than are kept ready
                with pools.connection() as connection:
                    connection.execute("SELECT 1")
            pools.sessions.ping()
            restart()


@pytest.fixture
def restart(tier) -> Callable[[], None]:
    """Restarts PgBouncer and Redis `sessions`, and waits until they serve again."""

    def served() -> bool:
        try:
            with Pools(tier.settings) as pools, redis_errors(), pools.connection():
                return bool(pools.sessions.ping())
        except ChatDataError:
            return False

    def both() -> None:
        tier.shell("systemctl reset-failed; systemctl restart pgbouncer '*-server@sessions'")
        until(served)

    return both


class Traffic:
    """Threads that go on posting, each message until it is acknowledged, while servers come and go."""

    def __init__(self, action: Callable[[UUID], None]) -> None:
        self.acknowledged: list[UUID] = []
        self.errors: Counter[str] = Counter()
        self._action, self._over = action, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(8)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        self.flows()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            id = uuid4()
            while not self._try(id) and not self._over.wait(0.05):
                pass

    def _try(self, id: UUID) -> bool:
        try:
            self._action(id)
        except Exception as error:
            self.errors[type(error).__name__] += 1
            return False
        self.acknowledged.append(id)
        return True

    def flows(self) -> None:
        """Wait for a hundred more."""
        before = len(self.acknowledged)
        until(lambda: len(self.acknowledged) >= before + 100)


@pytest.mark.parametrize(
    "command",
    ["restart {postgresql}", "kill -s KILL {postgresql}", "restart pgbouncer", "kill -s KILL pgbouncer"],
)
def test_restart_in_mid_traffic_loses_nothing(tier, open_pools, room, command):
    unit = tier.shell("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1")
    tier.shell(f"systemctl reset-failed pgbouncer {unit}")
    with open_pools(tier.settings) as pools:

        def post(id: UUID) -> None:
            with pools.transaction() as connection:
                connection.execute(POST, [id, room])

        with Traffic(post) as traffic:
            tier.shell("systemctl " + command.format(postgresql=unit))
            traffic.flows()
    assert set(traffic.errors) <= {"Unavailable", "Timeout"}
    found = tier.environment.psql(tier.name, f"SELECT id FROM messages WHERE room_id = '{room}'")
    assert set(map(str, traffic.acknowledged)) - set(found.split()) == set()


@pytest.mark.parametrize("verb", ["restart", "kill -s KILL"])
def test_restart_of_redis_in_mid_traffic_loses_nothing(tier, open_pools, verb):
    tier.shell("systemctl reset-failed '*-server@sessions'")
    prefix = f"refresh_token:{uuid4()}"
    with open_pools(tier.settings) as pools:

        def keep(id: UUID) -> None:
            with redis_errors():
                pools.sessions.set(f"{prefix}:{id}", "x", px=300_000)

        with Traffic(keep) as traffic:
            tier.shell(f"systemctl {verb} '*-server@sessions'")
            traffic.flows()
        assert set(traffic.errors) <= {"Unavailable", "Timeout"}
        kept = [id for id in traffic.acknowledged if pools.sessions.get(f"{prefix}:{id}")]
    if verb == "restart":  # killed, it may lose what the kernel had not got yet
        assert kept == traffic.acknowledged


def test_closed_pools_leave_no_connection_and_no_task(tier, open_pools, redis_clients, loop, monkeypatch):
    name = f"pools-{uuid4()}"
    monkeypatch.setenv("PGAPPNAME", name)
    before = redis_clients()
    with open_pools(tier.settings) as pools:
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(pools.connection()).execute("SELECT 1")
            pools.sessions.ping()
            pools.realtime.ping()
        assert tier.shell(f"{CONSOLE} 'SHOW CLIENTS'").count(name) >= 3
        assert len(redis_clients() - before) == 2
    until(lambda: tier.shell(f"{CONSOLE} 'SHOW CLIENTS'").count(name) == 0)
    until(lambda: redis_clients() <= before)
    until(lambda: not asyncio.all_tasks(loop))
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("pool-")])


@pytest.fixture
def redis_clients(tier) -> Callable[[], set[str]]:
    """The ids of the application's connections to Redis, with their instance."""

    def ids() -> set[str]:
        said = tier.environment.shell(
            tier.name,
            "read -r REDISCLI_AUTH; export REDISCLI_AUTH; for socket in /run/redis-*/redis.sock; do"
            ' redis-cli --user chat_admin -s $socket CLIENT LIST | sed "s|^|$socket |"; done',
            stdin=tier.environment.secrets()["vault_redis_chat_admin_password"] + "\n",
        )
        return {" ".join(line.split()[:2]) for line in said.splitlines() if "name=chat " in line}

    return ids


@pytest.fixture
def refused(tmp_path: Path) -> Settings:
    """Settings for an address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    redis = {"url": f"rediss://user@127.0.0.1:{port}", "password": "x", "pool_size": 1}
    return Settings(
        environment="nowhere",
        production=False,
        ca_path=ca,
        pool_timeout_s=0.2,
        postgresql_url=f"postgresql://user@127.0.0.1:{port}/chat?sslmode=verify-full",
        postgresql_password="x",
        postgresql_pool_size=1,
        postgresql_prepared_statements=0,
        **{f"redis_{name}_{key}": value for name in ("sessions", "realtime", "socketio")
           for key, value in redis.items()},
    )  # fmt: skip


def test_pools_open_while_nothing_answers_and_say_so_when_used(open_pools, refused):
    with open_pools(refused) as pools:
        with pytest.raises(Timeout), pools.connection():
            pass
        with pytest.raises(Unavailable), redis_errors():
            pools.sessions.ping()


def test_one_that_waits_alone_is_enough_to_go_on_connecting(open_pools, refused):
    """As while another host takes over: nobody else asks for a connection."""
    attempts = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            with suppress(OSError):  # closed at the end
                while True:
                    server.accept()[0].close()
                    attempts.append(1)

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"postgresql://user@127.0.0.1:{server.getsockname()[1]}/chat?sslmode=verify-full"
        told = refused.model_copy(update={"postgresql_url": url, "pool_timeout_s": 10})
        with open_pools(told) as pools, pytest.raises(Timeout), pools.connection():
            pass
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert len(attempts) >= 6  # in ten seconds; psycopg_pool's own pauses leave it at four
