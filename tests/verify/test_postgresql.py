"""PostgreSQL and PgBouncer as the application and an operator see them."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from .conftest import psql, refusal

DENIED = psycopg.errors.InsufficientPrivilege


def test_application_logs_in_through_pgbouncer(connect, saw):
    with connect("chat_app").cursor() as cursor:
        cursor.execute("SELECT current_user::text")
        saw("chat_app", cursor.fetchone()[0])


def test_application_logs_in_to_postgresql_directly_over_tls(connect, saw):
    with connect("chat_app", "postgresql").cursor() as cursor:
        cursor.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        saw("TLSv1.3", cursor.fetchone()[0])


@pytest.mark.parametrize("service", ["pgbouncer", "postgresql"])
def test_connection_without_tls_is_refused(connect, saw, service):
    def plain():
        connect("chat_app", service, sslmode="disable")

    said = refusal(psycopg.OperationalError, plain)
    saw("refused", "refused" if "SSL required" in said or "no pg_hba.conf entry" in said else said)


@pytest.mark.parametrize("service", ["pgbouncer", "postgresql"])
def test_wrong_password_is_refused(connect, saw, service):
    def wrong():
        connect("chat_app", service, password="wrong")

    said = refusal(psycopg.OperationalError, wrong)
    saw("refused", "refused" if "authentication failed" in said else said)


@pytest.mark.parametrize("service", ["pgbouncer", "postgresql"])
@pytest.mark.parametrize("user", ["postgres", "chat_owner", "pgbouncer"])
def test_network_login_is_refused(connect, saw, service, user):
    said = refusal(psycopg.OperationalError, lambda: connect(user, service))
    reasons = ("no pg_hba.conf entry", "no such user", "no authentication method", "rejected")
    saw("refused", "refused" if any(reason in said for reason in reasons) else said)


def test_other_database_is_refused(connect, saw):
    said = refusal(psycopg.OperationalError, lambda: connect("chat_app", "postgresql", dbname="postgres"))
    saw("refused", "refused" if "no pg_hba.conf entry" in said else said)


def test_application_cannot_change_the_schema(connect, saw):
    saw("permission denied", _denied(connect("chat_app"), "CREATE TABLE verify_me ()"))


def _denied(connection, statement):
    """Whether the server refuses the statement; the transaction is rolled back in any case."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except DENIED:
        return "permission denied"
    return "allowed"


def test_application_reads_and_writes_every_table(connect, saw):
    with connect("chat_app").cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND NOT ("
            " has_table_privilege(current_user, quote_ident(tablename), 'SELECT')"
            " AND has_table_privilege(current_user, quote_ident(tablename), 'INSERT')"
            " AND has_table_privilege(current_user, quote_ident(tablename), 'UPDATE')"
            " AND has_table_privilege(current_user, quote_ident(tablename), 'DELETE'))"
        )
        saw("0 tables without", f"{cursor.fetchone()[0]} tables without")


def test_reader_reads(connect, saw):
    with connect("chat_readonly").cursor() as cursor:
        cursor.execute("SELECT count(*) >= 0 FROM messages")
        saw(True, cursor.fetchone()[0])


def test_reader_cannot_write(connect, saw):
    saw(
        "permission denied",
        _denied(
            connect("chat_readonly", "postgresql", options="-c default_transaction_read_only=off"),
            "DELETE FROM messages WHERE false",
        ),
    )


def test_application_cannot_read_verifiers(connect, saw):
    saw("permission denied", _denied(connect("chat_app"), "SELECT pgbouncer.verifier_of('chat_app')"))


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_limit_holds_for_the_application(connect, saw, setting):
    with connect("chat_app").cursor() as cursor:
        cursor.execute("SELECT setting::int > 0 FROM pg_settings WHERE name = %s", [setting])
        saw(True, cursor.fetchone()[0])


def test_every_login_role_has_a_connection_limit(shell, database, saw):
    query = "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolconnlimit < 1"
    saw("0 roles without", f"{psql(shell, database, query)} roles without")


def test_no_login_role_is_a_stranger(shell, database, saw):
    query = "SELECT coalesce(string_agg(rolname, ' '), '') FROM pg_roles WHERE rolcanlogin AND oid <> 10"
    saw("none", " ".join(sorted(set(psql(shell, database, query).split()) - set(database.roles))) or "none")


def test_no_database_is_a_stranger(shell, database, saw):
    query = "SELECT string_agg(datname, ' ') FROM pg_database"
    saw(
        "none",
        " ".join(sorted(set(psql(shell, database, query).split()) - set(database.databases))) or "none",
    )


def test_every_role_has_its_timeouts(shell, database, saw):
    statements = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    due = {
        "chat_app": [*statements, "transaction_timeout"],
        "chat_owner": [*statements, "idle_session_timeout"],
        "chat_readonly": [*statements, "transaction_timeout", "idle_session_timeout"],
        "pgbouncer": ["statement_timeout"],
    }
    pairs = ", ".join(f"('{role}', '{name}')" for role, names in due.items() for name in names)
    query = (
        f"SELECT coalesce(string_agg(role || ' ' || due.name, ', '), 'none') FROM (VALUES {pairs})"
        " AS due (role, name) JOIN pg_settings ON pg_settings.name = due.name"  # that the version has
        " WHERE NOT EXISTS (SELECT FROM pg_roles, unnest(rolconfig) AS entry"
        "  WHERE rolname = role AND entry ~ ('^' || due.name || '=[1-9]'))"
    )
    saw("none", psql(shell, database, query))


def test_superuser_is_one_and_local(shell, database, saw):
    query = (
        "SELECT (SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper),"
        " string_agg(DISTINCT type, ' ') FROM pg_hba_file_rules WHERE user_name && '{postgres,all}'"
    )
    saw("postgres|local", psql(shell, database, query))


def test_network_lines_want_tls_and_scram(shell, database, saw):
    query = (
        "SELECT string_agg(DISTINCT type || ' ' || auth_method, ', ') FROM pg_hba_file_rules"
        " WHERE type <> 'local'"
    )
    saw("hostssl scram-sha-256", psql(shell, database, query))


def test_every_password_is_a_scram_verifier(shell, database, saw):
    query = "SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
    saw("0 others", f"{psql(shell, database, query)} others")


def test_log_says_who_did_what_and_not_with_what(shell, database, saw):
    query = (
        "SELECT coalesce(string_agg(name || ' = ' || seen, ', '), 'none differ') FROM (VALUES"
        " ('log_connections', 'on'), ('log_disconnections', 'on'), ('log_lock_waits', 'on'),"
        " ('log_statement', 'none'), ('log_parameter_max_length', '0'), ('log_timezone', 'UTC'),"
        " ('pgaudit.log', 'ddl, role'), ('pgaudit.log_parameter', 'off')"
        ") AS due (name, expected), current_setting(name, true) AS seen"
        " WHERE seen IS DISTINCT FROM expected"
    )
    saw("none differ", psql(shell, database, query))


def test_log_line_names_user_database_and_host(shell, database, saw):
    prefix = psql(shell, database, "SHOW log_line_prefix")
    saw("%u %d %h", " ".join(part for part in ("%u", "%d", "%h") if part in prefix))


def test_change_of_the_schema_is_audited(shell, primary, saw):
    name = f"verify_{uuid.uuid4().hex}"
    psql(shell, primary, f"BEGIN; CREATE TABLE {name} (); ROLLBACK")
    log = f"/var/log/postgresql/postgresql-{primary.postgresql_version}-main.log"
    lines = shell(primary).run(
        "grep -h -- %s %s; journalctl --quiet --unit patroni --lines 1000 --output cat | grep -- %s",
        name,
        log,
        name,
    )
    lines = lines.stdout.splitlines()
    saw(1, sum("AUDIT: SESSION," in line and ",DDL,CREATE TABLE," in line for line in lines))


def test_what_the_owner_creates_is_the_applications_and_nobody_elses(shell, primary, saw):
    query = (
        "BEGIN; SET LOCAL ROLE chat_owner;"
        " CREATE TABLE verify_new (); CREATE SEQUENCE verify_new_seq;"
        " CREATE FUNCTION verify_new() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        " SELECT string_agg(split_part(entry::text, '/', 1), ' ' ORDER BY kind, entry::text) FROM ("
        "  SELECT 1, relacl FROM pg_class WHERE oid = 'verify_new'::regclass"
        "  UNION ALL SELECT 2, relacl FROM pg_class WHERE oid = 'verify_new_seq'::regclass"
        "  UNION ALL SELECT 3, proacl FROM pg_proc WHERE oid = 'verify_new'::regproc"
        " ) AS object (kind, acl), unnest(acl) AS entry WHERE entry::text NOT LIKE 'chat_owner=%'; ROLLBACK"
    )
    saw("chat_app=arwd chat_readonly=r chat_app=rU chat_app=X", psql(shell, primary, query))


def test_session_that_switches_jit_on_goes_on_without(shell, database, saw):
    query = "SET jit = on; SET jit_above_cost = 0; SELECT count(*) > 0 FROM pg_class"
    saw("t", psql(shell, database, query))


def test_data_checksums(shell, database, saw):
    saw("on", psql(shell, database, "SHOW data_checksums"))


def test_postgresql_version(shell, database, saw):
    seen = psql(shell, database, "SELECT current_setting('server_version_num')::int / 10000")
    saw(database.postgresql_version, seen)


def test_clock_is_utc(shell, database, saw):
    saw("UTC", psql(shell, database, "SHOW timezone"))


def test_configuration_has_no_error(shell, database, saw):
    query = (
        "SELECT count(*) FROM ("
        "SELECT error FROM pg_file_settings UNION ALL SELECT error FROM pg_hba_file_rules) AS lines "
        "WHERE error IS NOT NULL"
    )
    saw("0 errors", f"{psql(shell, database, query)} errors")


def test_no_setting_waits_for_a_restart(shell, database, saw):
    query = "SELECT coalesce(string_agg(name, ', '), 'none') FROM pg_settings WHERE pending_restart"
    saw("none", psql(shell, database, query))


def test_public_has_no_right(shell, database, saw):
    query = (
        "SELECT count(*) FROM ("
        " SELECT coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datallowconn"
        " UNION ALL SELECT coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace"
        "  WHERE nspname IN ('public', 'migrations', 'pgbouncer')"
        " UNION ALL SELECT coalesce(relacl, acldefault('r', relowner)) FROM pg_class"
        "  WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        " UNION ALL SELECT coalesce(proacl, acldefault('f', proowner)) FROM pg_proc"
        "  WHERE pronamespace IN ('public'::regnamespace, 'pgbouncer'::regnamespace)"
        ") AS object (acl), aclexplode(acl) AS entry WHERE entry.grantee = 0"
    )
    saw("0 rights", f"{psql(shell, database, query)} rights")


def test_pgbouncer_pools_by_transaction(shell, database, saw):
    command = shell(database).run(
        "cd / && runuser -u postgres -- psql -XAtq -h /var/run/postgresql -p %s -U pgbouncer"
        " -d pgbouncer -c 'SHOW CONFIG'",
        str(database.port("pgbouncer")),
    )
    assert command.succeeded, command.stderr
    config = dict(line.split("|")[:2] for line in command.stdout.splitlines())
    saw("transaction", config["pool_mode"])


@pytest.mark.parametrize("user", ["chat_app", "pgbouncer", "postgres"])
def test_admin_console_is_closed_to_the_network(connect, saw, user):
    said = refusal(psycopg.OperationalError, lambda: connect(user, dbname="pgbouncer"))
    reasons = ("no authentication method", "login rejected", "not allowed")
    saw("refused", "refused" if any(reason in said for reason in reasons) else said)


def test_admin_console_is_closed_to_other_users_of_the_host(shell, database, saw):
    said = shell(database).run(
        "cd / && runuser -u nobody -- psql -Xq -h /var/run/postgresql -p %s -U pgbouncer"
        " -d pgbouncer -c 'SHOW POOLS'",
        str(database.port("pgbouncer")),
    )
    saw("refused", "refused" if said.failed and "FATAL" in said.stderr else said.stdout + said.stderr)


def test_expired_password_opens_nothing_through_pgbouncer(shell, primary, saw):
    query = (
        "BEGIN; ALTER ROLE chat_readonly VALID UNTIL '2000-01-01';"
        " SELECT count(verifier) FROM pgbouncer.verifier_of('chat_readonly'); ROLLBACK"
    )
    saw("0 verifiers", f"{psql(shell, primary, query)} verifiers")


def test_no_migration_is_pending(database, saw):
    saw("none", ", ".join(database.migrations_pending) or "none")


def test_applied_migrations_are_those_of_the_files(database, saw):
    saw("none differ", ", ".join(database.migrations_differing) or "none differ")
