"""PostgreSQL and PgBouncer as the application and an operator see them."""

from __future__ import annotations

import psycopg
import pytest

from .conftest import refusal

DENIED = psycopg.errors.InsufficientPrivilege


def psql(shell, host, query, database="chat"):
    """One value, asked by the superuser on the host."""
    command = shell(host).run(
        "cd / && runuser -u postgres -- psql -XAtq -p %s -d %s -c %s",
        str(host.ports["postgresql"]),
        database,
        query,
    )
    assert command.succeeded, command.stderr
    return command.stdout.strip()


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


def test_every_role_has_its_timeouts(shell, database, saw):
    query = (
        "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles"
        " WHERE rolname LIKE 'chat%' AND rolconfig::text LIKE '%statement_timeout=%'"
        " AND rolconfig::text LIKE '%lock_timeout=%'"
    )
    saw("chat_app chat_owner chat_readonly", psql(shell, database, query))


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
        " SELECT coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = 'chat'"
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
        str(database.ports["pgbouncer"]),
    )
    assert command.succeeded, command.stderr
    config = dict(line.split("|")[:2] for line in command.stdout.splitlines())
    saw("transaction", config["pool_mode"])


def test_no_migration_is_pending(database, saw):
    saw("none", ", ".join(database.migrations_pending) or "none")


def test_applied_migrations_are_those_of_the_files(database, saw):
    saw("none differ", ", ".join(database.migrations_differing) or "none differ")
