"""Converged hosts that somebody changes by hand: check mode names the changes, the next run undoes them."""

from __future__ import annotations

import json
import subprocess

import pytest

REDIS = "redis-cli --user chat_admin -s /run/redis-sessions/redis.sock"
PGBOUNCER_DROP_IN = "/etc/systemd/system/pgbouncer.service.d/chat.conf"

# A task's name, and what --diff or its output shows of the change.
DRIFT = {
    "packages : Hold back what the packages would start": "Restart=no",
    "kernel : Keep the kernel's settings": "vm.swappiness = 60",
    "postgresql : Write PostgreSQL's configuration": "work_mem = '1MB'",
    "postgresql : Run PostgreSQL with what its files say": "reload postgresql@",
    "chat_database : Keep the roles with exactly these attributes": "chat_app",
    "chat_database : Correct the rights that differ": "REVOKE DELETE ON TABLE users FROM chat_readonly",
    "pgbouncer : Run PgBouncer with what its files say": "restart pgbouncer.service",
    "redis : Bring each running instance to what its files say": "maxmemory-policy allkeys-lru",
}


@pytest.fixture(scope="module", autouse=True)
def _changes_by_hand(environment, password):
    for host in environment.hosts:
        environment.psql(host, "ALTER SYSTEM SET work_mem = '1MB'")
        environment.psql(host, "GRANT DELETE ON users TO chat_readonly; ALTER ROLE chat_app CREATEDB")
        environment.shell(
            host, "echo 'host all all 0.0.0.0/0 trust' >>$(echo /etc/postgresql/*/main/pg_hba.conf)"
        )
        environment.psql(host, "SELECT pg_reload_conf()")
        environment.shell(host, f"REDISCLI_AUTH={password} {REDIS} CONFIG SET maxmemory-policy allkeys-lru")
        environment.shell(host, "sed -i '/^vm.swappiness/s/1/60/' /etc/sysctl.d/60-chat.conf")
        environment.shell(host, f"sed -i s/Restart=on-failure/Restart=no/ {PGBOUNCER_DROP_IN}")


@pytest.fixture(scope="module")
def password(environment):
    """chat_admin's password, from the scenario's own vault."""
    text = subprocess.run(
        ["ansible-vault", "view", environment.inventory / "group_vars/all/vault.yml"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)[
        "vault_redis_chat_admin_password"
    ]


def test_check_mode_names_exactly_the_changes(environment):
    run = environment.play("--check", "--diff")
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        assert run.changed_tasks(host) == set(DRIFT)
        shown = run.diff(host)
        assert [text for text in DRIFT.values() if text not in shown] == []
        assert "0.0.0.0/0" in shown
        assert "REVOKE DELETE ON TABLE users FROM chat_readonly" in shown
        assert environment.psql(host, "SHOW work_mem") == "1MB"  # nothing was undone yet


def test_next_run_undoes_them(environment, password):
    run = environment.play()
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        assert run.changed_tasks(host) == set(DRIFT)
        assert environment.psql(host, "SHOW work_mem") != "1MB"
        trusted = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'"
        assert environment.psql(host, trusted) == "0"
        right = "SELECT has_table_privilege('chat_readonly', 'users', 'DELETE')"
        assert environment.psql(host, right) == "f"
        assert environment.psql(host, "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'chat_app'") == "f"
        policy = environment.shell(host, f"REDISCLI_AUTH={password} {REDIS} CONFIG GET maxmemory-policy")
        assert policy.split()[-1] == "noeviction"
        assert "on-failure" in environment.shell(host, "systemctl show pgbouncer -p Restart")


def test_check_mode_says_which_change_reloads_and_which_restarts(environment):
    variables = {
        "postgresql_settings": {"work_mem": "9MB"},
        "postgresql_max_connections": 90,
        "pgbouncer_port": 6433,
        "redis_maxclients": 900,
        "tls_renew_days": 500,
    }
    run = environment.play("--check", "--diff", "-e", json.dumps(variables))
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        shown = run.diff(host)
        predicted = ("reload postgresql@", "restart for max_connections", "restart pgbouncer.service",
                     "maxclients 900", "chat.pem (read again)")  # fmt: skip
        assert [text for text in predicted if text not in shown] == []
        assert environment.psql(host, "SHOW work_mem") != "9MB"


def test_setting_that_does_not_exist_is_refused_and_the_server_goes_on(environment):
    run = environment.play("-e", json.dumps({"postgresql_settings": {"wrok_mem": "9MB"}}))
    assert run.code != 0
    assert "wrok_mem: no such setting" in run.failures()
    assert environment.psql("trixie", "SELECT 1") == "1"


def test_restart_waits_for_leave_and_then_happens(environment):
    before = environment.psql("trixie", "SHOW max_connections")
    wanted = {"postgresql_max_connections": 90, "common_allow_restart": False}
    run = environment.play("-e", json.dumps(wanted))
    assert "restart for max_connections" in run.diff("trixie")
    assert environment.psql("trixie", "SHOW max_connections") == before != "90"
    run = environment.play("-e", json.dumps(wanted | {"common_allow_restart": True}))
    assert run.code == 0, run.failures()
    assert environment.psql("trixie", "SHOW max_connections") == "90"


def test_usual_settings_come_back(environment):
    run = environment.play()
    assert run.code == 0, run.failures()
    assert environment.psql("trixie", "SHOW max_connections") != "90"


def test_the_one_after_changes_nothing(environment):
    run = environment.play()
    assert run.changed == dict.fromkeys(environment.hosts, 0)


def test_check_mode_after_it_predicts_nothing(environment):
    run = environment.play("--check")
    assert run.changed == dict.fromkeys(environment.hosts, 0)
