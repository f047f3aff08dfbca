"""The command `chatdata seed`."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

import psycopg
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from chatdata.errors import ChatDataError, SettingsInvalid, postgresql_errors
from chatdata.passwords import hash_password
from chatdata.settings import Settings


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `chatdata seed`."""
    parser = commands.add_parser(
        "seed",
        help="add made-up users, rooms and messages; never in production",
        description="Add made-up users, rooms of very different sizes, their members and messages. The same "
        "options make the same rows, wherever and whenever: a second run adds what is missing, which is "
        "nothing after a complete one. Other options make another data set beside it. Nothing else is "
        "touched.",
    )
    for option, default in (("users", 100), ("rooms", 20), ("messages", 5000), ("random-seed", 1)):
        parser.add_argument(
            f"--{option}", type=int, metavar="N", default=argparse.SUPPRESS, help=f"{default} by default"
        )
    parser.add_argument(
        "--until", type=_time, metavar="DATE", default=argparse.SUPPRESS,
        help="the youngest message's time, UTC unless it says another zone; 2026-01-01 by default",
    )  # fmt: skip
    parser.add_argument(
        "--password-from-stdin", action="store_true",
        help="let new users log in with the password in the first line of standard input; else nobody can",
    )  # fmt: skip
    parser.set_defaults(run=_seed, parser=parser)


def _seed(arguments: argparse.Namespace) -> int:
    try:
        from tqdm import tqdm

        from chatdata.plan import Plan, Rows
        from chatdata.seed import NO_PASSWORD, seed
    except ModuleNotFoundError as error:
        raise ChatDataError(f"seed needs {error.name}: install chat-data-tier[seed]") from None
    given = {name: value for name, value in vars(arguments).items() if name in Plan.model_fields}
    try:
        plan = Plan(**given)
    except ValidationError as error:
        arguments.parser.error("; ".join(map(_problem, error.errors())))
    settings = Settings.load(arguments.contract)
    if settings.production:
        raise SettingsInvalid(
            f"{settings.environment} is production (CHAT_PRODUCTION): made-up data is not for it"
        )
    password_hash = NO_PASSWORD
    if arguments.password_from_stdin:
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            arguments.parser.error("--password-from-stdin: the first line of standard input is empty")
        password_hash = hash_password(password)
    total = sum(Rows(plan).counts)
    with (
        postgresql_errors(),
        psycopg.connect(**settings.postgresql()) as connection,
        tqdm(total=total, unit=" rows", unit_scale=True, disable=None, leave=False) as bar,
    ):
        added = seed(connection, plan, password_hash=password_hash, progress=bar.update)
    if not any(added):
        print(f"Nothing to add: all {total} rows are there already")
    else:
        print("Added", ", ".join(f"{count} {name}" for name, count in added._asdict().items()))
    if arguments.password_from_stdin and added.users < plan.users:
        print(f"{plan.users - added.users} users were there already and keep the password they had")
    return 0


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date or time in ISO 8601") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _problem(error: ErrorDetails) -> str:
    option, said = f"--{error['loc'][0]}".replace("_", "-"), error["msg"].removeprefix("Value error, ")
    return f"argument {option}: {said}, not {error['input']}"
