"""The connection: how it is made, what its session is set to, and what its errors mean. Needs psycopg 3.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from psycopg import errors, generators, pq, sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from .yoyo_model import ErrorDetail, MigrationError
from .yoyo_sql import line_of, locate, statements

Connection = psycopg.Connection[Any]

APPLICATION_NAME = "yoyo_migrate"
_NOTICES_MAX = 100
_ENCODE = "Percent-encode any of #/@%:? within its password, or give login_* options instead."
_COPY = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
_DISCONNECTED = re.compile(r"57P0[123]|08...")

# libpq keeps the SQLSTATE of a refused connection to itself: the server's English message has to do.
_CONNECT_SQLSTATES = (
    ("28P01", re.compile(r"password authentication failed|no password supplied")),
    (
        "28000",
        re.compile(
            r"Peer authentication failed|no pg_hba\.conf entry|role .* does not exist|not permitted to log in"
        ),
    ),
    ("3D000", re.compile(r"database .* does not exist")),
    ("53300", re.compile(r"too many (clients|connections)|remaining connection slots")),
    ("57P03", re.compile(r"starting up|shutting down|not yet accepting|in recovery mode")),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the database and what the session of a migration looks like."""

    conninfo: Mapping[str, Any]
    connect_timeout_s: int = 10
    session_role: str | None = None
    search_path: tuple[str, ...] = ()
    bookkeeping_schema: str = "public"
    lock_wait_s: int = 60
    lock_timeout_ms: int = 5000
    lock_retries: int = 3
    statement_timeout_ms: int = 0
    break_stale_lock: bool = False
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


def settings_from(params: Mapping[str, Any]) -> Settings:
    """Settings out of the module's parameters. Raises MigrationError for a DSN that libpq cannot read."""
    dsn = params.get("dsn")
    conninfo: dict[str, Any] = {}
    if dsn:
        try:
            conninfo.update(conninfo_to_dict(dsn))
        except psycopg.Error:
            # libpq quotes what it could not read, and that may be the password.
            message = "dsn is not a connection string or URI that libpq understands"
            raise MigrationError(message, _ENCODE) from None
        if re.match(r"[a-z]+://.*[/?#@].*@", dsn, re.DOTALL):
            # libpq would cut it at the first of these, and quote pieces of a password as a host and a port.
            raise MigrationError("dsn is a URI with one of / ? # @ before its last @", _ENCODE)
    named = {
        "host": params.get("login_unix_socket") or params.get("login_host"),
        "port": params.get("login_port"),
        "user": params.get("login_user"),
        "password": params.get("login_password"),
        "dbname": params.get("login_db"),
        "sslmode": params.get("ssl_mode"),
        "sslrootcert": params.get("ca_cert"),
    }
    conninfo.update({key: value for key, value in named.items() if value not in (None, "")})
    search_path = tuple(params.get("search_path") or ())
    if "pg_catalog" in search_path[1:]:
        raise MigrationError(
            f"search_path is {', '.join(search_path)}: what stands before pg_catalog could shadow it",
            "Leave pg_catalog out, and it is searched first.",
        )
    return Settings(
        conninfo=conninfo,
        connect_timeout_s=params["connect_timeout"],
        session_role=params.get("session_role"),
        search_path=search_path,
        bookkeeping_schema=params["bookkeeping_schema"],
        secrets=secrets_of(dsn or "", conninfo),
        **{name: params[name] for name in _RUN_OPTIONS if name in params},
        break_stale_lock=params.get("stale_lock") == "break",
    )


_RUN_OPTIONS = ("lock_wait_s", "lock_timeout_ms", "lock_retries", "statement_timeout_ms")


def secrets_of(dsn: str, conninfo: Mapping[str, Any]) -> frozenset[str]:
    """Every form in which a password may turn up in a message: as given, percent-decoded, percent-encoded."""
    found = {str(conninfo[key]) for key in ("password", "sslpassword") if conninfo.get(key)}
    if uri := re.match(r"[a-z]+://[^:@/]*:([^@]*)@", dsn):
        found.add(uri[1])
    found |= {unquote(secret) for secret in found} | {quote(secret, safe="") for secret in found}
    return frozenset(found - {""})


def connect(settings: Settings) -> Connection:
    """A connection in autocommit mode, so that every BEGIN and COMMIT is ours."""
    conninfo = {
        "fallback_application_name": APPLICATION_NAME,
        "client_encoding": "UTF8",
        "connect_timeout": settings.connect_timeout_s,
        # A server that vanishes without a word is noticed within a minute, even in a long statement.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        **settings.conninfo,
    }
    try:
        return psycopg.connect(**conninfo, autocommit=True, prepare_threshold=None)
    except (psycopg.Error, UnicodeError) as failure:
        # "from None": the traceback would show the connection's parameters.
        raise _connect_error(failure, settings.conninfo) from None


def _connect_error(failure: Exception, conninfo: Mapping[str, Any]) -> MigrationError:
    message = " ".join(str(failure).split())
    sqlstate = getattr(failure, "sqlstate", None)
    if sqlstate is None:
        sqlstate = next((code for code, text in _CONNECT_SQLSTATES if text.search(message)), None)
    target = " ".join(
        f"{key}={conninfo[key]}" for key in ("host", "port", "dbname", "user") if key in conninfo
    )
    advice = "check that the server runs and that the login options point to it."
    if sqlstate in ("28P01", "28000"):
        advice = "check the login options and pg_hba.conf."
    detail = ErrorDetail(f"cannot connect to the database ({target}): {message}", sqlstate=sqlstate)
    return MigrationError(detail, f"Nothing was changed; {advice}")


class Session:
    """The one connection of a run, replaced only if it is lost."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.notices: list[str] = []
        self.connection = self._connect()

    def reconnect(self) -> None:
        self.connection.close()
        self.connection = self._connect()

    def _connect(self) -> Connection:
        connection = connect(self.settings)
        connection.add_notice_handler(self._add_notice)
        return connection

    def _add_notice(self, diagnostic: errors.Diagnostic) -> None:
        if len(self.notices) < _NOTICES_MAX:
            self.notices.append(f"{diagnostic.severity}: {diagnostic.message_primary}")

    def setup(self) -> sql.Composed:
        """The statements that give the session its role, path and limits, whatever was left behind."""
        settings = self.settings
        parts: list[sql.Composable] = [sql.SQL("SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL")]
        if settings.session_role:
            parts.append(sql.SQL("SET ROLE {}").format(sql.Identifier(settings.session_role)))
        if settings.search_path:
            path = sql.SQL(", ").join(sql.Identifier(schema) for schema in settings.search_path)
            parts.append(sql.SQL("SET search_path = {}").format(path))
        limits: dict[str, int] = {
            "lock_timeout": settings.lock_timeout_ms,
            "statement_timeout": settings.statement_timeout_ms,
            # It is our business how long we wait, for the lock or before we try again.
            "idle_in_transaction_session_timeout": 0,
        }
        if self.connection.info.server_version >= 140000:
            limits["idle_session_timeout"] = 0
            # The server notices within a second that its client was killed, even within a statement.
            limits["client_connection_check_interval"] = 1000
        # In one statement, because it is run before each migration.
        each = [sql.SQL("pg_catalog.set_config({}, {}, false)").format(n, str(v)) for n, v in limits.items()]
        parts.append(sql.SQL("SELECT {}").format(sql.SQL(", ").join(each)))
        return sql.SQL("; ").join(parts)

    def begin_read_only(self) -> None:
        """Begin a transaction that can change nothing; a standby takes no other isolation."""
        self.connection.execute("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY")

    @property
    def is_settled(self) -> bool:
        """Whether the connection takes commands; an interrupt may have left it in the middle of one."""
        return self.connection.info.transaction_status not in (
            pq.TransactionStatus.ACTIVE,
            pq.TransactionStatus.UNKNOWN,
        )

    def rollback(self) -> None:
        """End whatever transaction is open; nothing if the connection is gone."""
        if self.connection.info.transaction_status in (
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.INERROR,
        ):
            self.connection.execute("ROLLBACK")


class ScriptError(Exception):
    """An execution that failed: the server's error, how many statements had run before it, and whether one
    of them was a COMMIT."""

    def __init__(self, error: psycopg.Error, statements_done: int, committed: bool) -> None:
        self.error = error
        self.statements_done = statements_done
        self.committed = committed
        super().__init__(str(error))


def run_script(connection: Connection, script: bytes) -> bool:
    """Send `script` whole, as one simple query, and wait for its last result.

    True if one of its statements was a COMMIT, which whoever reads SQL without parsing it may have missed.
    Raises ScriptError.

    Below psycopg's cursor, which keeps every result until the last has come, and to itself how many came
    before an error.
    """
    done = 0
    committed = False
    failed: ScriptError | None = None

    def exchange() -> PQGen[None]:
        nonlocal done, committed, failed
        yield from generators.send(connection.pgconn)
        while result := (yield from generators.fetch(connection.pgconn)):
            if result.status == pq.ExecStatus.FATAL_ERROR:
                failed = failed or ScriptError(errors.error_from_result(result), done, committed)
            elif result.status in _COPY:
                refused = errors.FeatureNotSupported(
                    "COPY from or to the client is not possible in a migration"
                )
                failed = ScriptError(refused, done, committed)
                connection.close()  # there is no way back from the middle of a COPY but to hang up
                return
            elif result.status != pq.ExecStatus.SINGLE_TUPLE:
                done += 1
                committed = committed or result.command_status in (b"COMMIT", b"PREPARE TRANSACTION")

    try:
        connection.pgconn.send_query(script)
        connection.pgconn.set_single_row_mode()  # whatever a SELECT returns is nobody's, and may be large
        connection.wait(exchange())
    except psycopg.Error as failure:
        # After a FATAL from the server comes the end of the connection; the server's word says more.
        raise failed or ScriptError(failure, done, committed) from None
    if failed:
        raise failed
    return committed


def last_rows(cursor: psycopg.Cursor[Any]) -> list[tuple[Any, ...]]:
    """The rows of the last statement that returns any, of a query that held several."""
    rows = cursor.fetchall() if cursor.description else []
    while cursor.nextset():
        rows = cursor.fetchall() if cursor.description else rows
    return rows


def is_disconnect(connection: Connection, failure: psycopg.Error) -> bool:
    """Whether the connection is gone, so that the outcome of what was sent is for the record to say."""
    if connection.closed or connection.broken:
        return True
    return bool(failure.sqlstate and _DISCONNECTED.fullmatch(failure.sqlstate))


def error_detail(failure: psycopg.Error) -> ErrorDetail:
    """The server's error, without a place."""
    diagnostic = failure.diag
    return ErrorDetail(
        message=diagnostic.message_primary or str(failure).strip() or type(failure).__name__,
        sqlstate=failure.sqlstate,
        detail=diagnostic.message_detail,
        hint=diagnostic.message_hint,
        context=diagnostic.context,
    )


def script_error_detail(
    failure: ScriptError, id: str, path: str, script: bytes, offset: int = 0
) -> ErrorDetail:
    """The server's error with its place in the file: the exact one if it named that, else the statement's.

    `offset` is where in `script` the execution began, for a file that runs statement by statement.
    """
    detail = replace(error_detail(failure.error), id=id, file=path)
    if position := failure.error.diag.statement_position:
        before = len(script[:offset].decode("utf-8", "replace"))
        line, column = locate(script, before + int(position))
        return replace(detail, line=line, column=column)
    found = list(statements(script[offset:]))
    if failure.statements_done < len(found):
        detail = replace(detail, line=line_of(script, offset + found[failure.statements_done].start))
    return detail


def literals(values: Iterable[Any]) -> sql.Composed:
    """`values` as a comma-separated list of SQL literals."""
    return sql.SQL(", ").join(sql.Literal(value) for value in values)
