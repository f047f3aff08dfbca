"""What the command refuses before anything happens; tests/chatdata/test_seed.py has what it does."""

from __future__ import annotations

import io
import re
import sys

import psycopg
import pytest

from chatdata.cli import main
from chatdata.plan import Plan

CONTRACT = {
    "ENVIRONMENT": "shop", "PRODUCTION": "true", "CA_PATH": "/nowhere", "POOL_TIMEOUT_S": "1",
    "POSTGRESQL_URL": "postgresql://chat_app@203.0.113.1:6432/chat?sslmode=verify-full",
    "POSTGRESQL_PASSWORD": "p", "POSTGRESQL_POOL_SIZE": "1", "POSTGRESQL_PREPARED_STATEMENTS": "0",
    **{f"REDIS_{name}_{key}": value for name in ("SESSIONS", "REALTIME", "SOCKETIO")
       for key, value in (("URL", "rediss://u@203.0.113.1:1"), ("PASSWORD", "p"), ("POOL_SIZE", "1"))},
}  # fmt: skip


@pytest.fixture(autouse=True)
def contract(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A contract for production, and no way to connect."""

    def connect(*_: object, **__: object) -> None:
        raise AssertionError("it connected")

    monkeypatch.setattr(psycopg, "connect", connect)
    for name, value in CONTRACT.items():
        monkeypatch.setenv(f"CHAT_{name}", value)
    return monkeypatch


def test_seed_refuses_production(capsys):
    assert main(["seed"]) == 1
    assert capsys.readouterr().err == (
        "chatdata: shop is production (CHAT_PRODUCTION): made-up data is not for it\n"
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--users=0", "--users: Input should be greater than or equal to 1, not 0"),
        ("--users=x", "--users: invalid int value: 'x'"),
        ("--rooms=100001", "--rooms: Input should be less than or equal to 100000, not 100001"),
        ("--rooms=0", "--messages: with no rooms it should be 0, not 5000"),
        ("--random-seed=-1", "--random-seed: Input should be greater than or equal to 0, not -1"),
        ("--until=yesterday", "--until: 'yesterday' is not a date or time in ISO 8601"),
        ("--until=1999-01-01", "--until: Input should be greater than or equal to 2000-01-01"),
    ],
)
def test_seed_refuses_what_cannot_be(option, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["seed", option])
    assert ended.value.code == 2
    assert f"chatdata seed: error: argument {said}" in capsys.readouterr().err


def test_help_says_the_defaults_of_a_plan(capsys):
    with pytest.raises(SystemExit):
        main(["seed", "--help"])
    said = re.findall(r"--([a-z-]+) \w+ .*?(\S+) by\s+default", capsys.readouterr().out, re.DOTALL)
    given = {name.replace("-", "_"): value for name, value in said}
    assert Plan(**given, until=f"{given.pop('until')}T00:00:00Z") == Plan()
    assert len(said) == len(Plan.model_fields)


def test_seed_refuses_an_empty_password(contract, capsys):
    contract.setenv("CHAT_PRODUCTION", "false")
    contract.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(SystemExit) as ended:
        main(["seed", "--password-from-stdin"])
    assert ended.value.code == 2
    assert "the first line of standard input is empty" in capsys.readouterr().err


def test_seed_names_what_to_install(contract, capsys):
    contract.setitem(sys.modules, "tqdm", None)
    assert main(["seed"]) == 1
    assert "seed needs tqdm: install chat-data-tier[seed]" in capsys.readouterr().err


def test_a_lost_server_is_said_in_a_line(contract, capsys):
    contract.setenv("CHAT_PRODUCTION", "false")

    def refused(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("connection refused")

    contract.setattr(psycopg, "connect", refused)
    assert main(["seed"]) == 1
    assert capsys.readouterr().err == "chatdata: PostgreSQL: connection refused\n"
