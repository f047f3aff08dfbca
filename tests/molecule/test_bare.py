"""Bare hosts: what is refused, what check mode leaves alone, and runs that are killed."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from .runs import PODMAN

CONTENTS = (
    "dpkg-query -W; find /etc /usr/local /var/lib -xdev -type f"
    " -not -path '/var/lib/systemd/*' -not -path '/var/lib/apt/*' -not -path '/var/lib/sudo/*'"
    " -printf '%p %s %T@\\n' | sort"
)

SESSIONS = {
    "port": 6380, "serves": ["tokens"], "maxmemory_mb": 99, "maxmemory_policy": "noeviction",
    "persistence": True,
}  # fmt: skip
REALTIME = {
    "port": 6381, "serves": ["presence", "socketio"], "maxmemory_mb": 99, "maxmemory_policy": "volatile-ttl",
    "persistence": False, "notify_keyspace_events": "Ex",
}  # fmt: skip


def redis(sessions=None, **realtime):
    """redis_instances with other options of its two instances."""
    return {"redis_instances": {"sessions": SESSIONS | (sessions or {}), "realtime": REALTIME | realtime}}


@pytest.fixture
def untouched(environment):
    """Whatever the test does, the hosts' packages and files are the same afterwards."""
    before = {host: environment.shell(host, CONTENTS) for host in environment.hosts}
    yield
    assert before == {host: environment.shell(host, CONTENTS) for host in environment.hosts}


# Variables of a host, and what is said of them.
REFUSED = [
    ({"common_postgresql_port": "many"}, ["common_postgresql_port", "many", "int"]),
    ({"postgresql_memory_mb": 100}, ["postgresql_memory_mb", "at least 256", "now 100"]),
    (
        {"postgresql_settings": {"Shared_Buffers": "64GB"}},
        [
            "MB short of memory",
            "65536  PostgreSQL: shared_buffers",
            "  postgresql_settings.shared_buffers, ",
        ],
    ),
    ({"postgresql_settings": {"shared_buffers": "lots"}}, ["shared_buffers", "lots", "64MB"]),
    ({"postgresql_settings": {"Port": 5433}}, ["port", "common_postgresql_port"]),
    ({"postgresql_busy_percent": 0}, ["postgresql_busy_percent from 1 to 100", "now 0"]),
    ({"common_disk_kind": "floppy"}, ["common_disk_kind", "floppy", "hdd, ssd, nvme"]),
    ({"pgbouncer_port": 6380}, ["6380, 6380", "pgbouncer_port"]),
    ({"common_address": "192.0.2.1"}, ["192.0.2.1", "no address of refused"]),
    ({"vault_redis_chat_admin_password": ""}, ["vault_redis_chat_admin_password", "16 characters"]),
    ({"postgresql_memory_mb": 9000}, ["MB short of memory", "PostgreSQL", "postgresql_memory_mb"]),
    (
        {"common_pool_size": 200, "postgresql_max_connections": 100},
        ["505", "87", "common_pool_size", "postgresql_max_connections to 518"],
    ),
    (
        {"common_application_processes": 100, "redis_socketio_messages_per_s": 1},
        ["4000", "80", "common_application_processes", "pgbouncer_max_client_conn to 5000"],
    ),
    (
        {"common_application_overlap_percent": 500},
        ["240", "80", "common_application_overlap_percent"],
    ),
    ({"postgresql_operator_connections": 50, "postgresql_max_connections": 60}, ["25", "7 for it"]),
    ({"pgbouncer_max_client_conn": 70000}, ["70000", "70089", "65536", "LimitNOFILE"]),
    (
        {"pgbouncer_query_timeout_s": 10},
        ["pgbouncer_query_timeout_s", "10", "chat_database_statement_timeout_s"],
    ),
    ({"common_client_networks": ["10.0.0.1/8"]}, ["common_client_networks", "10.0.0.1/8"]),
    ({"chat_database_migrations": "/nowhere"}, ["chat_database_migrations", "/nowhere"]),
    ({"preflight_independent_hosts": False}, ["postgresql has", "allowed: one"]),
    ({"kernel_settings": {"vm.swappiness": 500}}, ["vm.swappiness is 500", "from 0 to 200"]),
    (
        redis({"maxmemory_policy": "allkeys-lru"}, notify_keyspace_events="E")
        | {"redis_socketio_namespaces": ["admin"]},
        [
            "allkeys-lru",
            "allowed: noeviction",
            "notify_keyspace_events is E",
            "such as Ex",
            "has 'admin'",
        ],
    ),
    (redis(maxmemory=5), ["redis_instances.realtime has no option maxmemory", "maxmemory_mb"]),
    (redis(port=6380), ["6380, 6380", "redis_instances.realtime.port, redis_instances.sessions.port"]),
    (redis(maxmemory_mb=4000), ["MB short of memory", "redis_instances.realtime.maxmemory_mb, 4416 MB"]),
    (redis({"settings": {"maxclients": 20}}), ["40 connections to", "16", "settings.maxclients to 50"]),
    (redis({"settings": {"Port": 1}}), ["sessions.settings has port"]),
    ({"redis_flavour": "keydb"}, ["redis_flavour", "keydb", "redis, valkey"]),
]


@pytest.fixture(scope="module")
def refusals(environment, tmp_path_factory):
    """What a run says to many names of the host trixie, of which each has one of REFUSED."""
    hosts = {
        f"refused{number}": {"ansible_host": environment.address("trixie"), **variables}
        for number, (variables, _said) in enumerate(REFUSED)
    }
    inventory = _copy(environment, tmp_path_factory.mktemp("refused"))
    groups = ("postgresql", "pgbouncer", "app", "redis", "containers")
    (inventory / "hosts.yml").write_text(json.dumps({group: {"hosts": hosts} for group in groups}))
    before = environment.shell("trixie", CONTENTS)
    refusing = type(environment)(inventory, environment.network, environment.hosts)
    run = refusing.play("--forks=8", playbook="tests/molecule/refusals.yml")  # sshd takes ten at a time
    assert environment.shell("trixie", CONTENTS) == before
    return run


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[next(iter(case[0])) for case in REFUSED])
def test_bad_variable_is_refused_by_name_value_and_what_is_allowed(refusals, number):
    failure = refusals.failures(f"refused{number}")
    assert [word for word in REFUSED[number][1] if word not in failure] == []


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"common_distributions": {"11": "bullseye"}}, "allowed: Debian 11"),
        ({"postgresql_memory_mb": 9000}, "MB short of memory"),
    ],
)
def test_refusal_stops_the_playbook(environment, variables, said):
    run = environment.play("-e", json.dumps(variables))
    assert run.code != 0
    for host in environment.hosts:
        assert said in run.failures(host)


@pytest.mark.usefixtures("untouched")
def test_missing_secret_is_refused_by_name(environment, tmp_path):
    inventory = _copy(environment, tmp_path)
    vault = inventory / "group_vars/all/vault.yml"
    text = subprocess.run(["ansible-vault", "view", vault], capture_output=True, text=True, check=True).stdout
    name = "vault_redis_chat_admin_password"
    vault.write_text("\n".join(line for line in text.splitlines() if not line.startswith(name)))
    run = type(environment)(inventory, environment.network, environment.hosts).play()
    assert run.code != 0
    assert name in run.failures()
    assert "vault.yml" in run.failures()


@pytest.mark.usefixtures("untouched")
def test_unknown_group_is_refused(environment, tmp_path):
    inventory = _copy(environment, tmp_path)
    hosts = inventory / "hosts.yml"
    hosts.write_text(hosts.read_text() + "\nredsi: {hosts: *hosts}\n")
    run = type(environment)(inventory, environment.network, environment.hosts).play()
    assert run.code != 0
    assert "Unknown group redsi" in run.failures()
    assert "postgresql, redis" in run.failures()


@pytest.mark.usefixtures("untouched")
def test_wrong_vault_password_stops_before_any_host_is_contacted(environment, tmp_path):
    inventory = _copy(environment, tmp_path)
    (inventory / ".vault_password").write_text("wrong\n")
    run = type(environment)(inventory, environment.network, environment.hosts).play()
    assert run.code != 0
    assert "Decryption failed" in run.output
    assert "Gathering Facts" not in run.output


def _copy(environment, folder):
    """A copy of the inventory that a test may spoil; the keys stay where they are."""
    inventory = folder / "inventory"
    shutil.copytree(environment.inventory, inventory, ignore=shutil.ignore_patterns(".state"))
    (inventory / ".state").symlink_to(environment.inventory / ".state")
    return inventory


@pytest.mark.usefixtures("untouched")
def test_check_mode_on_bare_hosts_predicts_and_changes_nothing(environment):
    environment.shell("trixie", "rm -r /var/lib/apt/lists/*")  # as on a machine that never asked for packages
    run = environment.play("--check", "--diff")
    assert run.code == 0, run.failures()
    assert "packages : Install the packages" in run.changed_tasks("bookworm")
    assert "packages : Predict an installation that apt cannot simulate here" in run.changed_tasks("trixie")
    for host in environment.hosts:
        assert "start postgresql@" in run.diff(host)
        assert "start redis-server@sessions" in run.diff(host)


def test_run_is_killed_and_a_host_loses_power_while_dpkg_works(environment):
    def unpacking():
        return environment.shell("bookworm", "pgrep -x dpkg", check=False) != ""

    environment.play_and_kill("packages : Install the packages", at=unpacking)
    subprocess.run([*PODMAN, "restart", "--time", "0", f"{environment.network}-bookworm"], check=True)


def test_run_is_killed_while_initdb_works(environment):
    def initialising():
        return environment.shell("trixie", "pgrep -x initdb", check=False) != ""

    environment.play_and_kill("postgresql : Create the cluster", at=initialising)


def test_run_is_killed_between_two_instances(environment):
    def one_runs():
        states = "systemctl is-active redis-server@realtime redis-server@sessions"
        return environment.shell("trixie", states, check=False).split()[0] == "active"

    environment.play_and_kill("redis : Run each instance with what its files say", at=one_runs)


def test_next_run_converges(environment):
    run = environment.play()
    assert run.code == 0, run.failures()


def test_the_one_after_changes_nothing(environment):
    before = {host: environment.redis_runs(host) for host in environment.redis_hosts}
    run = environment.play()
    assert run.code == 0, run.failures()
    assert set(run.changed.values()) == {0}, {host: run.changed_tasks(host) for host in environment.hosts}
    assert {host: environment.redis_runs(host) for host in environment.redis_hosts} == before


def test_no_daemon_ever_ran_with_its_stock_configuration(environment):
    for host in environment.hosts:
        # Stock PgBouncer and Redis write these; ours log to the journal.
        logs = environment.shell(host, "ls /var/log/postgresql/pgbouncer.log /var/log/redis/*", check=False)
        assert logs == ""
        assert environment.shell(host, "journalctl --unit redis-server.service --grep '^Start' || true") in (
            "",
            "-- No entries --",
        )
        # Debian's own cluster would have none.
        assert environment.psql(host, "SHOW data_checksums") == "on"
    assert environment.shell("valkey", "ls /var/log/valkey/*", check=False) == ""
    started = environment.shell("valkey", "journalctl --unit valkey-server.service --grep '^Start' || true")
    assert started in ("", "-- No entries --")
