"""`chatdata check` times each hop, and says of what is wrong what to do about it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis.exceptions

from chatdata.check import explain, hops, targets
from chatdata.cli import main
from chatdata.settings import Settings

SERVICES = ["PgBouncer", "PostgreSQL", "Redis sessions", "Redis realtime", "Redis socketio"]
Check = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def check(tier, capsys, tmp_path, monkeypatch) -> Check:
    """The exit status and report of a check by the host's contract, with other values."""
    folder = tmp_path / "contract"
    shutil.copytree(tier.settings.ca_path.parent, folder)

    def run(**values: Any) -> tuple[int, dict[str, Any]]:
        for name, value in {"ca_path": folder / "ca.pem", **values}.items():
            monkeypatch.setenv(f"CHAT_{name.upper()}", str(value))
        status = main(["--contract", str(folder), "check", "--times", "2", "--timeout", "60", "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


def failures(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Hop and error of each service that failed."""
    return {row["service"]: (row["hop"], row["error"]) for row in report["hops"] if row["error"]}


def test_every_hop_is_timed(check, tier):
    status, report = check()
    assert (status, report["works"], report["environment"]) == (0, True, tier.settings.environment)
    connection = ["DNS and TCP", "TLS", "TCP, TLS and login"]
    expected = [(service, hop) for service in SERVICES
                for hop in [*connection, "PING" if service.startswith("Redis") else "SELECT 1"]]  # fmt: skip
    assert [(row["service"], row["hop"]) for row in report["hops"]] == expected
    assert all(0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"] for row in report["hops"])


def test_wrong_password_names_its_file(check):
    status, report = check(postgresql_password="other", redis_realtime_password="other")
    assert (status, report["works"]) == (1, False)
    found = failures(report)
    assert sorted(found) == ["PgBouncer", "PostgreSQL", "Redis realtime"]
    assert {hop for hop, _ in found.values()} == {"TCP, TLS and login"}
    assert all(error.startswith("wrong password of chat_app") for _, error in found.values())
    assert "secrets/chat_redis_realtime_password" in found["Redis realtime"][1]


def test_authority_of_another_environment_is_named(check, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text(
        Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_text()
    )
    status, report = check(ca_path=other)
    assert status == 1
    assert list(failures(report)) == SERVICES
    assert {hop for hop, _ in failures(report).values()} == {"TLS"}
    assert all(f"not of the authority in {other}" in error for _, error in failures(report).values())


def test_table_has_a_line_for_each_hop(tier, capsys, monkeypatch):
    monkeypatch.setenv("CHAT_CA_PATH", "/nowhere/ca.pem")
    assert main(["--contract", str(tier.settings.ca_path.parent), "check", "--timeout", "60"]) == 1
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["service", "address", "hop"]
    assert len(lines) == 2 * len(SERVICES)
    assert all(
        "<-- the authority's certificate /nowhere/ca.pem cannot be read" in line for line in lines[1::2]
    )


def test_missing_contract_is_an_error_of_the_command(tmp_path, capsys):
    assert main(["--contract", str(tmp_path), "check"]) == 1
    assert "CHAT_POSTGRESQL_URL is missing" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--times=0", "--times=many", "--timeout=-1", "--timeout=nan"])
def test_number_that_checks_nothing_is_refused(option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check", option])
    assert ended.value.code == 2
    assert option.split("=")[0] in capsys.readouterr().err


def settings(host: str = "127.0.0.1", port: int = 1) -> Settings:
    """Settings whose servers are all at one address."""
    redis = {"url": f"rediss://user@{host}:{port}", "password": "x", "pool_size": 1}
    return Settings(
        environment="nowhere", production=False, ca_path=Path("/nowhere/ca.pem"), pool_timeout_s=1,
        postgresql_url=f"postgresql://user@{host}:{port}/chat?sslmode=verify-full",
        postgresql_password="x", postgresql_pool_size=1, postgresql_prepared_statements=0,
        **{f"redis_{name}_{key}": value for name in ("sessions", "realtime", "socketio")
           for key, value in redis.items()},
    )  # fmt: skip


def only_hop(where: Settings, limit_s: float = 60) -> tuple[str, str | None]:
    """The last hop to the first server, and its error."""
    found = asyncio.run(hops(targets(where)[0], where, 1, limit_s))
    return found[-1].hop, found[-1].error


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A socket that listens and answers nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening


def test_several_hosts_are_each_a_server():
    where = settings("203.0.113.1").model_copy(
        update={"postgresql_url": "postgresql://user@203.0.113.1,203.0.113.2:6432/chat?sslmode=verify-full"}
    )
    assert [target.address for target in targets(where)][:2] == ["203.0.113.1:5432", "203.0.113.2:6432"]


def test_refused_connection_is_named(server):
    port = server.getsockname()[1]
    server.close()
    hop, error = only_hop(settings(port=port))
    assert (hop, error) == (
        "DNS and TCP",
        f"refused: nothing listens on 127.0.0.1:{port}. Is the address right, and the service running?",
    )


def test_unknown_name_is_named():
    hop, error = only_hop(settings("nowhere.invalid"))
    assert hop == "DNS and TCP"
    assert error is not None
    assert "the name nowhere.invalid is not known here" in error


def test_silence_ends_in_time(server):
    hop, error = only_hop(settings(port=server.getsockname()[1]), limit_s=2)
    assert hop == "TLS"
    assert error is not None
    assert error.startswith("no answer within 2 s")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.OperationalError("FATAL:  login rejected"), "into the group app"),
        (psycopg.OperationalError("FATAL: no pg_hba.conf entry for host"), "into the group app"),
        (psycopg.OperationalError("FATAL: SASL authentication failed"), "wrong password of user"),
        (psycopg.OperationalError("no more connections allowed (max_client_conn)"), "full"),
        (redis.exceptions.ConnectionError("max number of clients reached"), "full"),
        (redis.exceptions.TimeoutError("Timeout reading"), "no answer within"),
        (OSError(113, "No route to host"), "no route to 127.0.0.1"),
        (ssl.SSLError("the server speaks no TLS"), "the server speaks no TLS"),
        (EOFError(), "EOFError"),
    ],
)
def test_error_says_what_to_do(error, meaning):
    where = settings()
    assert meaning in explain(error, targets(where)[0], where, 3)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [(62, "another name than 127.0.0.1"), (64, "another name"), (10, "expired"), (19, "not of")],
)
def test_certificate_is_judged_by_its_fault(code, meaning):
    error = ssl.SSLCertVerificationError("no")
    error.verify_code = code
    where = settings()
    assert meaning in explain(error, targets(where)[0], where, 3)


def test_server_without_tls_is_named():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        writer.close()

    async def ask() -> str | None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as plain:
            where = settings(port=plain.sockets[0].getsockname()[1])
            return (await hops(targets(where)[0], where, 1, 3))[-1].error

    assert "speaks no TLS" in (asyncio.run(ask()) or "")
