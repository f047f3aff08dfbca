"""The application's pools under load and under faults, by the settings of docs/reference/connecting.md."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import types
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import psycopg_pool
import pytest

from .conftest import psql

pytestmark = pytest.mark.disruptive

PAGE = Path(__file__).parents[2] / "docs/reference/connecting.md"
POST = "INSERT INTO messages (id, room_id, content) VALUES (%s, %s, 'load') ON CONFLICT (id) DO NOTHING"
PATIENCE_S = 90  # after which a condition counts as never met; nothing is measured by it


@pytest.fixture(scope="session")
def contract():
    """The code that the page gives to developers, as a module."""
    module = types.ModuleType("contract")
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    exec(compile(code, PAGE.name, "exec"), vars(module))  # noqa: S102
    return module


@pytest.fixture
def server(app, subject):
    """The host whose PgBouncer the application uses."""
    return subject.serving("pgbouncer", app)


@pytest.fixture
def unit(shell, server):
    """PostgreSQL's unit; what the checks have it start does not count towards systemd's limit of starts."""
    name = f"postgresql@{server.postgresql_version}-main"
    shell(server).check_output("systemctl reset-failed pgbouncer %s", name)
    return name


@pytest.fixture
def where(app, subject, server, shell, tunnel):
    """What the contract's open_pool needs besides a size."""
    version = shell(server).check_output("pgbouncer --version").split()[1]
    return {
        "host": server.address,
        "password": subject.secrets["chat_app"],
        "pgbouncer": tuple(map(int, version.split(".")[:2])),
        "hostaddr": "127.0.0.1",
        "port": tunnel(app, server, server.port("pgbouncer")),
        "sslrootcert": subject.ca,
    }


@pytest.fixture
def open_pool(contract, where):
    """The contract's pool: open_pool(size=10)."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(contract.open_pool(**{**where, **more}))


@pytest.fixture
def console(shell, server):
    """Rows of PgBouncer's admin console, as dictionaries: console("SHOW POOLS")."""

    def ask(command):
        answer = shell(server).check_output(
            "cd / && runuser -u postgres -- psql -XAq -P footer=off -h /run/postgresql -p %s -U pgbouncer"
            " -d pgbouncer -c %s",
            str(server.port("pgbouncer")),
            command,
        )
        header, *rows = (line.split("|") for line in answer.splitlines())
        return [dict(zip(header, row, strict=True)) for row in rows]

    return ask


@pytest.fixture
def held(console):
    """How many connections to PostgreSQL the application's clients hold right now."""
    return lambda: sum(int(pool["sv_active"]) for pool in console("SHOW POOLS") if pool["user"] == "chat_app")


@pytest.fixture
def room(connect):
    """The id of a room that goes again with its messages."""
    made = uuid.uuid4()
    connect("chat_app").execute("INSERT INTO rooms (id, name) VALUES (%s, 'load')", [made])
    yield made
    connect("chat_app").execute("DELETE FROM rooms WHERE id = %s", [made])


def eventually(condition):
    """Whether `condition()` comes true while patience lasts."""
    deadline = time.monotonic() + PATIENCE_S
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(met)


def outcomes(action, times):
    """What each of `times` threads got from `action(number)`: its value, or its error."""

    def attempt(number):
        try:
            return action(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(attempt, range(times)))


def test_fifty_threads_share_a_pool_of_ten(contract, open_pool, room, saw):
    pool = open_pool(size=10)

    def post(number):
        contract.run(pool, lambda connection: connection.execute(POST, [uuid.uuid4(), room]))
        return number

    assert outcomes(post, 50) == list(range(50))
    seqs = contract.run(
        pool,
        lambda c: c.execute("SELECT seq FROM messages WHERE room_id = %s ORDER BY seq", [room]).fetchall(),
    )
    saw("1 to 50", "1 to 50" if seqs == [(seq,) for seq in range(1, 51)] else seqs)


def test_exhausted_pool_says_so_and_recovers(open_pool, saw):
    pool = open_pool(size=10)

    def ask(timeout):
        with pool.connection(timeout=timeout) as connection:
            return connection.execute("SELECT 1").fetchone()[0]

    with ExitStack() as taken:
        for _ in range(10):
            taken.enter_context(pool.connection())
        refused = [type(error) for error in outcomes(lambda _: ask(0.05), 50)]
    served = outcomes(lambda _: ask(10), 50)
    saw(
        ("50 PoolTimeout", "50 served"),
        (f"{refused.count(psycopg_pool.PoolTimeout)} PoolTimeout", f"{served.count(1)} served"),
    )


async def _storm(number, at_once, parameters):
    """How many of `number` clients were served; those stay until the last one has its answer.

    PgBouncer counts those who are logging in: of more `at_once` than it allows it might refuse every one.
    """
    over = asyncio.Event()
    door = asyncio.Semaphore(at_once)
    answers = []

    def answered(answer):
        answers.append(answer)
        if len(answers) == number:
            over.set()

    async def client():
        try:
            async with door:
                connection = await psycopg.AsyncConnection.connect(**parameters)
            async with connection:
                await connection.execute("SELECT pg_sleep(0.2)")
                answered("served")
                await over.wait()
        except psycopg.OperationalError as error:
            answered("refused" if "max_client_conn" in str(error) else str(error))

    await asyncio.gather(*(client() for _ in range(number)))
    return Counter(answers)


def test_storm_of_clients_leaves_the_server_unhurt(contract, open_pool, console, shell, server, saw):
    limit = int(next(row["value"] for row in console("SHOW CONFIG") if row["key"] == "max_client_conn"))
    if limit > 200:
        pytest.skip(
            f"10 x {limit} clients are more than this machine can play: lower pgbouncer_max_client_conn"
        )
    pool = open_pool(size=1)

    def started():
        """Asked by the superuser, for whom PostgreSQL keeps connections."""
        return psql(shell, server, "SELECT pg_postmaster_start_time()")

    before = started()
    with ThreadPoolExecutor(1) as thread:
        # One loop plays them all: a transaction would hold its server while it plays the others.
        parameters = {**pool.kwargs, "autocommit": True, "connect_timeout": PATIENCE_S}
        storm = thread.submit(asyncio.run, _storm(10 * limit, limit, parameters))
        during = [started()]
        while not storm.done():
            during.append(started())
    answers = storm.result()
    assert answers["served"] + answers["refused"] == 10 * limit, answers
    assert 0 < answers["served"] <= limit
    assert contract.run(pool, lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    saw({before}, set(during))


class Load:
    """Clients that post into a room through the contract's `run`, each until stop()."""

    def __init__(self, contract, pool, room, clients=8):
        self.acknowledged = [[] for _ in range(clients)]
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(clients)
        self._work = [
            self._threads.submit(self._post, contract, pool, room, posted) for posted in self.acknowledged
        ]

    def _post(self, contract, pool, room, posted):
        while not self._stopped.is_set():
            message = uuid.uuid4()
            contract.run(pool, lambda connection, made=message: connection.execute(POST, [made, room]))
            posted.append(message)

    def each_posts(self, more):
        """Whether every client gets so many more messages acknowledged."""
        goals = [len(posted) + more for posted in self.acknowledged]
        return eventually(
            lambda: (
                any(work.done() for work in self._work)
                or all(len(posted) >= goal for posted, goal in zip(self.acknowledged, goals, strict=True))
            )
        )

    def end(self):
        """Let every client finish its message."""
        self._stopped.set()
        self._threads.shutdown()

    def messages(self):
        """What was acknowledged in all; raises what a client could not get past."""
        self.end()
        for work in self._work:
            work.result()
        return {message for posted in self.acknowledged for message in posted}


@pytest.fixture
def load(contract, open_pool, room):
    """Eight clients on a pool of their own, who post all the while."""
    running = Load(contract, open_pool(size=8), room)
    yield running
    running.end()


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        ("systemctl restart {postgresql}", "none"),
        ("systemctl kill --signal=KILL {postgresql}", "any"),
        ("systemctl restart pgbouncer", "any"),
        ("systemctl kill --signal=KILL pgbouncer", "any"),
    ],
    ids=["PostgreSQL restarted", "PostgreSQL killed", "PgBouncer restarted", "PgBouncer killed"],
)
def test_clients_recover_and_nothing_is_lost(
    load, connect, room, shell, server, unit, caplog, saw, fault, errors
):
    assert load.each_posts(5)
    shell(server).check_output(fault.format(postgresql=unit))
    back = load.each_posts(5)
    acknowledged = load.messages()
    failed = [record.getMessage() for record in caplog.records if record.name == "chat.database"]
    print(f"{fault}: {len(acknowledged)} messages, {len(failed)} attempts failed: {Counter(failed)}")
    stored = {
        row[0] for row in connect("chat_app").execute("SELECT id FROM messages WHERE room_id = %s", [room])
    }
    saw(
        (True, "0 lost", f"errors: {errors}"),
        (
            back,
            f"{len(acknowledged - stored)} lost",
            f"errors: {len(failed) if failed and errors == 'none' else errors}",
        ),
    )


def test_transaction_that_cannot_end_is_cut_and_nothing_stays_paused(
    open_pool, contract, console, held, shell, server, unit, saw
):
    pool = open_pool(size=2)
    long_s = int(next(row["value"] for row in console("SHOW CONFIG") if row["key"] == "query_timeout"))
    with ThreadPoolExecutor(1) as thread, pool.connection() as connection:
        connection.execute("SET LOCAL statement_timeout = 0")
        stuck = thread.submit(connection.execute, "SELECT pg_sleep(%s)", [long_s - 1])
        assert eventually(lambda: held() == 1)
        shell(server).check_output("systemctl restart %s", unit)
        said = shell(server).check_output("journalctl --unit %s --lines 20 --output cat", unit)
        assert isinstance(stuck.exception(), psycopg.OperationalError)
    paused = {row["name"]: row["paused"] for row in console("SHOW DATABASES")}
    saw(
        ("said so", "0", (1,)),
        (
            "said so" if "PgBouncer did not pause" in said else said,
            paused["chat"],
            contract.run(pool, lambda connection: connection.execute("SELECT 1").fetchone()),
        ),
    )


def test_stalled_transaction_gives_its_connection_back(connect, held, saw):
    connection = connect("chat_app", autocommit=False)
    connection.execute("SELECT 1")
    assert held() == 1
    free = eventually(lambda: held() == 0)
    with pytest.raises(psycopg.OperationalError) as refused:
        connection.execute("SELECT 1")
    saw((True, "idle transaction timeout"), (free, str(refused.value).strip()))


def test_result_that_nobody_reads_gives_its_connection_back(connect, held, saw):
    connection = connect("chat_app")
    # Far more than the buffers on the way hold, so that PostgreSQL waits in the midst of it.
    connection.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 1000)")
    connection.pgconn.flush()
    assert held() == 1
    saw(True, eventually(lambda: held() == 0))
    connection.close()


def test_statements_beyond_what_the_caches_hold(contract, open_pool, where, saw):
    """Four clients share 300 statements, of which the driver keeps 100 prepared and PgBouncer 200."""
    pool = open_pool(size=4)

    def ask(number):
        wrong = 0
        for count in range(300):
            for repetition in range(7):
                query = f"SELECT %s::int + {count}"
                row = contract.run(
                    pool,
                    lambda connection, q=query, r=repetition: connection.execute(q, [number + r]).fetchone(),
                )
                wrong += row != (number + repetition + count,)
        return wrong

    wrong = outcomes(ask, 4)
    kept = contract.run(
        pool,
        lambda connection: connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0],
    )
    follows = where["pgbouncer"] >= (1, 22)
    saw(
        ([0, 0, 0, 0], "1 to 200 kept" if follows else "0 kept"),
        (wrong, "1 to 200 kept" if 0 < kept <= 200 else f"{kept} kept"),
    )
