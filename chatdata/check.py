"""`chatdata check`: each hop to the contract's servers, how long it takes, and what is wrong with it."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import socket
import ssl
import statistics
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis.exceptions
from redis.asyncio import Redis

from chatdata import _redis
from chatdata.settings import Settings

SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's protocol asks first, in clear
NAME_DIFFERS = {62, 64}  # OpenSSL's codes: the name, the address
EXPIRED = 10
FAILURES = (OSError, EOFError, psycopg.Error, redis.exceptions.RedisError)


@dataclass(frozen=True)
class Target:
    """A server, as whom, and how its connections are made."""

    service: str
    host: str
    port: int
    user: str
    secret: str  # the password's file
    connect: Callable[[AsyncExitStack], Awaitable[Any]]  # logs in
    ask: Callable[[Any], Awaitable[Any]]
    question: str
    asks_for_tls: bool

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Hop:
    """One hop to a server: how long it took each time, in ms, and the error at which it ended."""

    service: str
    address: str
    hop: str
    times_ms: tuple[float, ...]
    error: str | None = None

    def figures(self) -> dict[str, float]:
        """Median, least and most in ms; nothing where it never succeeded."""
        if not self.times_ms:
            return {}
        return {
            "median_ms": round(statistics.median(self.times_ms), 2),
            "min_ms": round(min(self.times_ms), 2),
            "max_ms": round(max(self.times_ms), 2),
        }


def targets(settings: Settings) -> list[Target]:
    """What the contract names: each host of PgBouncer and PostgreSQL, and Redis for each user."""
    found = []
    ways = {"PgBouncer": False, "PostgreSQL": True}
    for service, direct in ways.items():
        if direct and settings.postgresql_direct_url is None:
            continue
        known = psycopg.conninfo.conninfo_to_dict(settings.postgresql(direct=direct)["conninfo"])
        hosts, ports = str(known["host"]).split(","), str(known.get("port", "")).split(",")
        for host, port in zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True):
            found.append(_of_postgresql(settings, service, host, int(port or 5432), str(known["user"])))
    return found + [_of_redis(settings, name) for name in ("sessions", "realtime", "socketio")]


def _of_postgresql(settings: Settings, service: str, host: str, port: int, user: str) -> Target:
    parameters = settings.postgresql(direct=service == "PostgreSQL", host=host, port=port)

    async def connect(stack: AsyncExitStack) -> Any:
        return await stack.enter_async_context(await psycopg.AsyncConnection.connect(**parameters))

    return Target(
        service, host, port, user, "chat_postgresql_password",
        connect, lambda connection: connection.execute("SELECT 1"), "SELECT 1", asks_for_tls=True,
    )  # fmt: skip


def _of_redis(settings: Settings, name: str) -> Target:
    url, password, _ = settings.redis(name)
    parts = urlsplit(url)

    async def connect(stack: AsyncExitStack) -> Any:
        options = _redis.options(password, str(settings.ca_path))
        retry = _redis.AsyncRetry(**{**_redis.RETRY, "retries": 0})
        client = Redis.from_url(url, single_connection_client=True, retry=retry, **options)
        stack.push_async_callback(client.aclose)
        return await client.initialize()

    host, port, user = str(parts.hostname), parts.port or 0, str(parts.username)
    return Target(
        f"Redis {name}", host, port, user, f"chat_redis_{name}_password",
        connect, lambda client: client.ping(), "PING", asks_for_tls=False,
    )  # fmt: skip


async def hops(target: Target, settings: Settings, times: int, limit_s: float) -> list[Hop]:
    """The hops to a server, `times` each, `limit_s` at most; those after an error are not tried."""
    taken: dict[str, list[float]] = {}
    hop = ""

    async def timed(name: str, step: Awaitable[Any]) -> Any:
        nonlocal hop
        hop, start = name, time.perf_counter()
        taken.setdefault(name, [])
        async with asyncio.timeout(limit_s):
            result = await step
        taken[name].append((time.perf_counter() - start) * 1000)
        return result

    error = None
    try:
        for _ in range(times):
            async with AsyncExitStack() as stack:
                stream = await timed("DNS and TCP", asyncio.open_connection(target.host, target.port))
                stack.callback(stream[1].close)
                await timed("TLS", _start_tls(target, settings, *stream))
            async with AsyncExitStack() as stack:
                client = await timed("TCP, TLS and login", target.connect(stack))
                await timed(target.question, target.ask(client))
    except FAILURES as failure:
        error = explain(failure, target, settings, limit_s)
    return [
        Hop(target.service, target.address, name, tuple(figures), error if name == hop else None)
        for name, figures in taken.items()
    ]


async def _start_tls(
    target: Target, settings: Settings, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if target.asks_for_tls:
        writer.write(SSL_REQUEST)
        if await reader.readexactly(1) != b"S":
            raise ssl.SSLError("the server speaks no TLS")
    trust = ssl.create_default_context(cafile=settings.ca_path)
    await writer.start_tls(trust, server_hostname=target.host)


def explain(error: Exception, target: Target, settings: Settings, limit_s: float) -> str:
    """What the error means to somebody who must act."""
    text = " ".join(str(error).split()) or type(error).__name__
    said = text.lower()
    known = [
        (isinstance(error, (TimeoutError, redis.exceptions.TimeoutError, psycopg.errors.ConnectionTimeout)),
         f"no answer within {limit_s:g} s: the server is down or overloaded, or a firewall is in between"),
        (isinstance(error, ConnectionRefusedError),
         f"refused: nothing listens on {target.address}. Is the address right, and the service running?"),
        (isinstance(error, socket.gaierror),
         f"the name {target.host} is not known here: look at this host's DNS"),
        (isinstance(error, ssl.SSLCertVerificationError), _of_certificate(error, target, settings)),
        (isinstance(error, OSError) and error.errno in {errno.ENOENT, errno.EACCES},
         f"the authority's certificate {settings.ca_path} cannot be read: run the play, join the group"),
        (isinstance(error, OSError) and error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH},
         f"no route to {target.host}: look at the network between"),
        (isinstance(error, redis.exceptions.AuthenticationError) or "wrongpass" in said
         or "authentication failed" in said,
         f"wrong password of {target.user}: run the play, which writes secrets/{target.secret} anew"),
        ("login rejected" in said or "pg_hba.conf" in said,
         "this host may not log in: put it into the group app, or its network into common_client_networks"),
        ("no more connections" in said or "too many" in said or "max number of clients" in said,
         f"full ({text}): the ledger says who may have how many"),
    ]  # fmt: skip
    return next((meaning for holds, meaning in known if holds), text)


def _of_certificate(error: Exception, target: Target, settings: Settings) -> str:
    code = getattr(error, "verify_code", 0)
    if code in NAME_DIFFERS:
        return f"the server's certificate is for another name than {target.host}"
    if code == EXPIRED:
        return "the server's certificate has expired: run the play, which renews it"
    return (
        f"the server's certificate is not of the authority in {settings.ca_path}: is it this environment's?"
    )


def table(found: Iterable[Hop]) -> str:
    """A line for each hop."""
    rows = [("service", "address", "hop", "median", "min", "max ms")]
    errors = [""]
    for hop in found:
        figures = [f"{figure:.2f}" for figure in hop.figures().values()] or ["", "", ""]
        rows.append((hop.service, hop.address, hop.hop, *figures))  # type: ignore[arg-type]
        errors.append(f"  <-- {hop.error}" if hop.error else "")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, error in zip(rows, errors, strict=True):
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append(("  ".join([*left, *right]) + error).rstrip())
    return "\n".join(lines)


async def _all(settings: Settings, times: int, limit_s: float) -> list[Hop]:
    """One server after the other, so that none is timed while another is asked."""
    return [hop for target in targets(settings) for hop in await hops(target, settings, times, limit_s)]


def run(arguments: argparse.Namespace) -> int:
    """Print each hop; 0 where all of them work, else 1."""
    settings = Settings.load(arguments.contract)
    found = asyncio.run(_all(settings, arguments.times, arguments.timeout))
    works = all(hop.error is None for hop in found)
    if arguments.json:
        rows = [
            {
                "service": hop.service,
                "address": hop.address,
                "hop": hop.hop,
                **hop.figures(),
                "error": hop.error,
            }
            for hop in found
        ]
        print(json.dumps({"environment": settings.environment, "works": works, "hops": rows}, indent=2))
    else:
        print(table(found))
    return 0 if works else 1


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """An argument's type: a number above 0."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text}; allowed: more than 0")
        return value

    return number


def add_command(commands: Any) -> None:
    """Add `check` to argparse's subparsers."""
    parser = commands.add_parser("check", help="connect by the contract and show each hop's latency")
    parser.add_argument(
        "--times", type=_positive(int), default=5, metavar="N", help="how often each hop is tried (5)"
    )
    parser.add_argument(
        "--timeout", type=_positive(float), default=3, metavar="S", help="longest wait for a hop (3 s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
