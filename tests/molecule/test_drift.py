"""Converged hosts that somebody changes by hand: check mode names the changes, the next run undoes them."""

from __future__ import annotations

import json

import pytest
import yaml

from .runs import PROJECT

REDIS = "redis-cli --user chat_admin -s /run/redis-sessions/redis.sock"
POSTGRESQL_DROP_IN = "/etc/systemd/system/postgresql@.service.d/chat.conf"
PGBOUNCER_DROP_IN = "/etc/systemd/system/pgbouncer.service.d/chat.conf"

INSTANCES = yaml.safe_load((PROJECT / "roles/redis/defaults/main.yml").read_text())["redis_instances"]
CHANGED = {"maxclients": 900, "tcp-backlog": 900}

REDIS_FILES = "cd /etc/redis && stat -c '%n %z' * && systemctl show -p MainPID redis-server@sessions"

# A task's name, and what --diff or its output shows of the change.
DRIFT = {
    "packages : Hold back what the packages would start": "Restart=no",
    "kernel : Keep the kernel's settings": "vm.swappiness = 60",
    "postgresql : Write PostgreSQL's configuration": "work_mem = '1MB'",
    "postgresql : Run PostgreSQL with what its files say": "reload postgresql@",
    "chat_database : Keep the roles with exactly these attributes": "chat_app",
    "chat_database : Correct the rights that differ": "REVOKE DELETE ON TABLE users FROM chat_readonly",
    "pgbouncer : Run PgBouncer with what its files say": "restart pgbouncer.service",
    "redis : Bring the running instances to what their files say": "maxmemory-policy allkeys-lru",
    "app : Write the contract": "secrets/chat_postgresql_password",
}


@pytest.fixture(scope="module", autouse=True)
def _changes_by_hand(environment, password):
    for host in environment.hosts:
        environment.psql(host, "ALTER SYSTEM SET work_mem = '1MB'")
        environment.shell(
            host, "echo 'max_worker_processes = 99' >$(echo /etc/postgresql/*/main/conf.d/)stray.conf"
        )
        environment.psql(host, "CREATE ROLE stranger LOGIN")
        environment.psql(host, "CREATE DATABASE strange")
        environment.psql(host, "GRANT DELETE ON users TO chat_readonly; ALTER ROLE chat_app CREATEDB")
        environment.shell(
            host, "echo 'host all all 0.0.0.0/0 trust' >>$(echo /etc/postgresql/*/main/pg_hba.conf)"
        )
        environment.psql(host, "SELECT pg_reload_conf()")
        environment.shell(host, f"REDISCLI_AUTH={password} {REDIS} CONFIG SET maxmemory-policy allkeys-lru")
        environment.shell(
            host, f"REDISCLI_AUTH={password} {REDIS} CONFIG SET timeout 500"
        )  # no variable names it
        environment.shell(host, "sed -i '/^vm.swappiness/s/1/60/' /etc/sysctl.d/60-chat.conf")
        environment.shell(host, f"sed -i s/Restart=on-failure/Restart=no/ {PGBOUNCER_DROP_IN}")
        environment.shell(host, "echo other >/etc/chat-data-tier/secrets/chat_postgresql_password")


@pytest.fixture(scope="module")
def password(vault):
    """chat_admin's password."""
    return vault["vault_redis_chat_admin_password"]


def test_check_mode_names_exactly_the_changes(environment):
    run = environment.play("--check", "--diff")
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        assert run.changed_tasks(host) == set(DRIFT)
        shown = run.diff(host)
        assert [text for text in DRIFT.values() if text not in shown] == []
        assert "0.0.0.0/0" in shown
        assert "timeout 500" in shown
        assert "REVOKE DELETE ON TABLE users FROM chat_readonly" in shown
        assert environment.psql(host, "SHOW work_mem") == "1MB"  # nothing was undone yet
        assert "restarted for /etc/systemd" in run.notice(host)
        assert "postgresql@" not in run.notice(host)  # its stray setting goes before a start reads it
        assert "role stranger, database strange" in run.notice(host)


def test_next_run_undoes_them(environment, password):
    run = environment.play()
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        assert run.changed_tasks(host) == set(DRIFT)
        assert environment.psql(host, "SHOW work_mem") != "1MB"
        assert environment.shell(host, "cd /etc/postgresql/*/main/conf.d && ls") == "chat.conf"
        strangers = "DROP DATABASE strange; DROP ROLE stranger"  # fails where a run has dropped them
        assert "role stranger, database strange" in run.notice(host)
        for statement in strangers.split("; "):
            environment.psql(host, statement)
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
        "postgresql_settings": {"work_mem": "9MB", "huge_pages": False},
        "postgresql_max_connections": 90,
        "pgbouncer_port": 6433,
        "redis_instances": INSTANCES | {"sessions": INSTANCES["sessions"] | {"settings": CHANGED}},
        "tls_renew_days": 500,
    }
    run = environment.play("--check", "--diff", "-e", json.dumps(variables))
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        shown = run.diff(host)
        predicted = ("reload postgresql@", "restart postgresql@", "restart pgbouncer.service",
                     "maxclients 900", "wanted (CONFIG SET)", "chat.pem (read again)",
                     "tcp-backlog 900", "wanted (only by a restart)")  # fmt: skip
        assert [text for text in predicted if text not in shown] == []
        now = environment.psql(host, "SHOW max_connections")
        assert (
            f"main.service would be restarted for huge_pages (try -> false), max_connections ({now} -> 90)"
            in run.notice(host)
        )
        assert "pgbouncer.service would be restarted for /etc/pgbouncer/chat_listen.ini" in run.notice(host)
        assert "redis-server@sessions.service would be restarted for tcp-backlog" in run.notice(host)
        assert environment.psql(host, "SHOW work_mem") != "9MB"


def test_value_in_another_spelling_is_no_change(environment):
    """The role's own question, about what SHOW says (128MB, 1h) of each setting that a start alone reads."""
    question = (PROJECT / "roles/postgresql/files/open_settings.sql").read_text()
    for host in environment.hosts:
        shown = environment.psql(
            host,
            "SELECT json_object_agg(name, current_setting(name)) FROM pg_settings"
            " WHERE context = 'postmaster'",
        )
        assert '"shared_buffers" : "504MB"' in shown
        assert _waiting(environment, host, question, json.loads(shown)) == ""
        other = {"shared_buffers": "516096kB", "ssl": True, "max_files_per_process": "1000"}
        own = json.loads(shown) | other
        assert _waiting(environment, host, question, own) == ""
        changed = _waiting(environment, host, question, own | {"shared_buffers": "505MB", "port": 5433})
        assert changed == "port (5432 -> 5433)\nshared_buffers (504MB -> 505MB)"


def _waiting(environment, host, question, wanted):
    """What the question names, were `wanted` all that the files hold."""
    text = question.replace("%(wanted)s", "'" + json.dumps(wanted).replace("'", "''") + "'")
    asked = text.replace("%(reloaded)s", "false").replace("%%", "%")
    return environment.psql(
        host, f"SELECT name FROM ({asked}) AS answer WHERE kind = 'restart' ORDER BY name"
    )


def test_setting_that_postgresql_does_not_take_is_refused_and_the_server_goes_on(environment):
    settings = {"bookworm": {"random_page_cost": "cheap"}, "trixie": {"wrok_mem": "9MB"}}
    wanted = f"{{{{ {settings}[inventory_hostname] }}}}"
    run = environment.play("-e", json.dumps({"postgresql_settings": wanted}))
    assert run.code != 0
    assert "random_page_cost = cheap: not a value for it" in run.failures("bookworm")
    assert "wrok_mem: no such setting" in run.failures("trixie")
    assert environment.psql("trixie", "SELECT 1") == "1"


UNKNOWN, NOT_TAKEN = {"no-such-setting": 1}, {"hz": "often"}
REDIS_SAYS = {"no-such-setting": "no-such-setting", "hz": "argument couldn't be parsed into an integer"}


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--check"], {"bookworm": UNKNOWN, "trixie": UNKNOWN}),
        ([], {"bookworm": UNKNOWN, "trixie": NOT_TAKEN}),
    ],
    ids=["check mode", "run"],
)
def test_setting_that_redis_does_not_take_is_refused_before_any_file_changes(
    environment, arguments, settings
):
    before = {host: environment.shell(host, REDIS_FILES) for host in environment.hosts}
    of_the_host = f"{{{{ {settings}[inventory_hostname] | default({{}}) }}}}"
    sessions = INSTANCES["sessions"] | {"settings": of_the_host}
    wanted = json.dumps({"redis_instances": INSTANCES | {"sessions": sessions}})
    run = environment.play(*arguments, "-e", wanted)
    assert run.code != 0
    for host in environment.hosts:
        (name,) = settings[host]
        assert REDIS_SAYS[name] in run.diff(host)
        assert environment.shell(host, REDIS_FILES) == before[host]


UNITS = ("postgresql@{version}-main", "pgbouncer", "redis-server@sessions", "redis-server@realtime")


def _processes(environment, host):
    """Each unit's main process and how often the host has started it."""
    units = " ".join(UNITS).format(version={"bookworm": 15, "trixie": 17}[host])
    return [
        (pid, environment.shell(host, f"journalctl -o cat -u {unit} | grep -c '^Started' || true"))
        for unit in units.split()
        for pid in [environment.shell(host, f"systemctl show -p MainPID --value {unit}")]
    ]


def test_restart_waits_for_leave_and_the_window_does_just_that(environment):
    """PostgreSQL's settings and drop-in, what only a start of PgBouncer reads, a setting of one Redis."""
    before = {host: _processes(environment, host) for host in environment.hosts}
    limits = {host: environment.psql(host, "SHOW max_connections") for host in environment.hosts}
    wanted = json.dumps(
        {
            "postgresql_max_connections": 190,
            "pgbouncer_port": 6433,
            "redis_instances": INSTANCES | {"sessions": INSTANCES["sessions"] | {"settings": CHANGED}},
            "common_allow_restart": False,
        }
    )
    run = environment.play("-e", wanted)
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        environment.shell(host, f"sed -i s/RestartSec=2/RestartSec=3/ {POSTGRESQL_DROP_IN}")
        assert f"waits for a restart for max_connections ({limits[host]} -> 190)" in run.notice(host)
        assert "pgbouncer.service waits for a restart for" in run.notice(host)
        assert "redis-server@sessions.service waits for a restart for tcp-backlog" in run.notice(host)
        assert "playbooks/restart.yml" in run.notice(host)

    due = f"for {POSTGRESQL_DROP_IN}, max_connections ({{}} -> 190)"
    run = environment.play("--check", playbook="playbooks/restart.yml")
    for host in environment.hosts:
        assert f"would be restarted {due.format(limits[host])}" in run.notice(host)
        assert "pgbouncer.service would be restarted" in run.notice(host)
        assert _processes(environment, host) == before[host]

    run = environment.play(playbook="playbooks/restart.yml")
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        assert f"was restarted {due.format(limits[host])}" in run.notice(host)
        assert "redis-server@sessions.service was restarted for tcp-backlog" in run.notice(host)
        assert "realtime" not in run.notice(host)
        assert environment.psql(host, "SHOW max_connections") == "190"
        (*restarted, realtime), (*old, old_realtime) = _processes(environment, host), before[host]
        assert realtime == old_realtime
        # Another process, and one start more: not one for the drop-in and another for the setting.
        for (pid, starts), (old_pid, old_starts) in zip(restarted, old, strict=True):
            assert pid != old_pid
            assert int(starts) == int(old_starts) + 1

    run = environment.play(playbook="playbooks/restart.yml")
    assert set(run.changed.values()) == {0}
    assert "Nothing waits" in run.notice("trixie")


def test_usual_settings_come_back(environment):
    run = environment.play()
    assert run.code == 0, run.failures()
    assert environment.psql("trixie", "SHOW max_connections") != "90"
