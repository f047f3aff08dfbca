"""The contract is read from its folder or the environment; what is wrong is told, secrets are not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chatdata._redis import AsyncTrustingConnection, TrustingConnection
from chatdata.errors import SettingsInvalid
from chatdata.pools import AsyncPools, Pools
from chatdata.settings import Settings

SECRET = "sesame-sesame-sesame"
LINES = {
    "CHAT_ENVIRONMENT": "staging",
    "CHAT_PRODUCTION": "false",
    "CHAT_CA_PATH": "/etc/chat-data-tier/ca.pem",
    "CHAT_POOL_TIMEOUT_S": "10",
    "CHAT_POSTGRESQL_URL": "postgresql://chat_app@203.0.113.11:6432/chat?sslmode=verify-full",
    "CHAT_POSTGRESQL_DIRECT_URL": "postgresql://chat_app@203.0.113.11:5432/chat?sslmode=verify-full",
    "CHAT_POSTGRESQL_POOL_SIZE": "20",
    "CHAT_POSTGRESQL_PREPARED_STATEMENTS": "200",
    "CHAT_REDIS_SESSIONS_URL": "rediss://chat_app_sessions@203.0.113.11:6380",
    "CHAT_REDIS_SESSIONS_POOL_SIZE": "10",
    "CHAT_REDIS_REALTIME_URL": "rediss://chat_app_realtime@203.0.113.11:6381",
    "CHAT_REDIS_REALTIME_POOL_SIZE": "11",
    "CHAT_REDIS_SOCKETIO_URL": "rediss://chat_socketio@[2001:db8::1]:6381",
    "CHAT_REDIS_SOCKETIO_POOL_SIZE": "7",
}
SENTINELS = {
    "CHAT_REDIS_SENTINELS": "203.0.113.11:26379,[2001:db8::1]:26379",
    "CHAT_REDIS_SENTINEL_USER": "chat_sentinel_client",
    "CHAT_REDIS_SENTINEL_PASSWORD": SECRET,
    "CHAT_REDIS_SESSIONS_SERVICE": "sessions",
    "CHAT_REDIS_REALTIME_SERVICE": "realtime",
    "CHAT_REDIS_SESSIONS_REPLICAS": "1",
}
SECRETS = ("postgresql", "redis_sessions", "redis_realtime", "redis_socketio")


class Contract:
    """A folder as the play writes it, whose lines a test changes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines = folder, dict(LINES)
        (folder / "secrets").mkdir()
        for name in SECRETS:
            (folder / f"secrets/chat_{name}_password").write_text(f"{SECRET}\n")

    def load(self, **changes: str | None) -> Settings:
        """The settings, with other lines, or without those that are None."""
        lines = {**LINES, **changes}
        text = "".join(f"{name}={value}\n" for name, value in lines.items() if value is not None)
        (self.folder / "app.env").write_text(text)
        return Settings.load(self.folder)

    def refusal(self, **changes: str | None) -> str:
        """What is said of it."""
        with pytest.raises(SettingsInvalid) as refused:
            self.load(**changes)
        return str(refused.value)


@pytest.fixture
def contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[Contract]:
    for name in (*LINES, "CREDENTIALS_DIRECTORY", "CHATDATA_CONTRACT"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        yield Contract(Path(folder))


def test_folder_is_read(contract: Contract):
    settings = contract.load()
    assert (settings.environment, settings.production) == ("staging", False)
    parameters = settings.postgresql(connect_timeout=3)
    assert parameters["conninfo"] == LINES["CHAT_POSTGRESQL_URL"]
    assert (parameters["password"], parameters["connect_timeout"]) == (SECRET, 3)
    assert settings.postgresql(direct=True)["conninfo"] == LINES["CHAT_POSTGRESQL_DIRECT_URL"]
    assert settings.redis("realtime") == (LINES["CHAT_REDIS_REALTIME_URL"], SECRET, 11)
    assert settings.socketio() == {
        "host": "2001:db8::1", "port": 6381, "user": "chat_socketio", "password": SECRET,
        "ca": "/etc/chat-data-tier/ca.pem",
    }  # fmt: skip


def test_settings_do_not_change(contract: Contract):
    with pytest.raises(ValueError, match="frozen"):
        contract.load().production = True  # type: ignore[misc]


def test_folder_is_named_by_the_environment_too(contract: Contract, monkeypatch: pytest.MonkeyPatch):
    contract.load()
    monkeypatch.setenv("CHATDATA_CONTRACT", str(contract.folder))
    assert Settings.load().environment == "staging"


def test_environment_goes_before_the_files(contract: Contract, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHAT_POSTGRESQL_POOL_SIZE", "3")
    monkeypatch.setenv("CHAT_POSTGRESQL_PASSWORD", "other")
    settings = contract.load()
    assert (settings.postgresql_pool_size, settings.postgresql()["password"]) == (3, "other")


def test_credentials_of_systemd_go_before_the_files(
    contract: Contract, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "chat_postgresql_password").write_text("credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    settings = contract.load()
    assert settings.postgresql()["password"] == "credential"
    assert settings.redis("sessions")[1] == SECRET


@pytest.mark.parametrize("name", [name for name in LINES if name != "CHAT_POSTGRESQL_DIRECT_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_value_is_named_with_its_place(contract: Contract, name: str, value: str | None):
    said = contract.refusal(**{name: value})
    assert f"{name} is missing" in said
    assert str(contract.folder / "app.env") in said
    assert "Run the play" in said


def test_missing_secret_is_named_with_its_file(contract: Contract):
    file = contract.folder / "secrets/chat_redis_sessions_password"
    file.unlink()
    said = contract.refusal()
    assert "CHAT_REDIS_SESSIONS_PASSWORD is missing" in said
    assert str(file) in said


def test_missing_folder_is_named(contract: Contract):
    with pytest.raises(SettingsInvalid, match=r"PASSWORD is missing: .*/nowhere/secrets/chat_postgresql"):
        Settings.load(contract.folder / "nowhere")


@pytest.mark.parametrize("name", ["app.env", "secrets/chat_postgresql_password", "secrets"])
def test_what_may_not_be_read_says_who_may(contract: Contract, name: str):
    contract.load()
    contract.folder.chmod(0o755)
    (contract.folder / name).chmod(0)
    me = os.geteuid()
    try:
        os.seteuid(me or 65534)  # root reads everything
        with pytest.raises(SettingsInvalid, match=r"Permission denied: .*has to be in the group that owns"):
            Settings.load(contract.folder)
    finally:
        os.seteuid(me)
        (contract.folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CHAT_POSTGRESQL_POOL_SIZE", "0", "greater than or equal to 1"),
        ("CHAT_POSTGRESQL_POOL_SIZE", "many", "valid integer"),
        ("CHAT_POOL_TIMEOUT_S", "0", "greater than 0"),
        ("CHAT_PRODUCTION", "perhaps", "valid boolean"),
        ("CHAT_POSTGRESQL_URL", f"postgresql://chat_app:{SECRET}@h:1/chat?sslmode=verify-full", "without a"),
        ("CHAT_POSTGRESQL_URL", f"postgresql://:{SECRET}@h:x y/chat", "without a password"),
        ("CHAT_POSTGRESQL_URL", "host=h user=chat_app dbname=chat sslmode=verify-full", "postgresql://USER"),
        ("CHAT_POSTGRESQL_URL", "postgresql://h/chat?sslmode=verify-full", "postgresql://USER"),
        ("CHAT_POSTGRESQL_DIRECT_URL", "postgresql://chat_app@h:1/chat?sslmode=require", "verify-full"),
        ("CHAT_REDIS_SESSIONS_URL", f"rediss://user:{SECRET}@h:1", "without a password"),
        ("CHAT_REDIS_SESSIONS_URL", "redis://user@h:1", "rediss://"),
        ("CHAT_REDIS_SESSIONS_URL", "rediss://user@h:1?ssl_cert_reqs=none", "HOST:PORT"),
        ("CHAT_REDIS_SESSIONS_URL", "rediss://h:1", "USER@"),
        ("CHAT_REDIS_SESSIONS_URL", "rediss://user@h:port", "HOST:PORT"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(contract: Contract, name: str, value: str, said: str):
    refusal = contract.refusal(**{name: value})
    assert refusal.startswith(f"{name}: ")
    assert said in refusal
    assert SECRET not in refusal


def test_secrets_are_in_no_repr_and_no_traceback(contract: Contract):
    assert SECRET not in repr(contract.load())
    with pytest.raises(SettingsInvalid) as refused:
        contract.load(CHAT_REDIS_SOCKETIO_POOL_SIZE=SECRET)
    assert SECRET not in str(refused.getrepr(chain=True, style="native"))


def test_several_hosts_of_postgresql_are_allowed(contract: Contract):
    url = "postgresql://chat_app@203.0.113.11:6432,203.0.113.12:6432/chat?sslmode=verify-full"
    assert contract.load(CHAT_POSTGRESQL_URL=url).postgresql()["conninfo"] == url


def test_direct_way_may_be_missing(contract: Contract):
    with pytest.raises(SettingsInvalid, match="CHAT_POSTGRESQL_DIRECT_URL is not set"):
        contract.load(CHAT_POSTGRESQL_DIRECT_URL=None).postgresql(direct=True)


@pytest.mark.parametrize(
    ("kept", "libpq", "threshold"), [("200", 170000, 5), ("200", 160009, None), ("0", 170000, None)]
)
def test_statements_are_prepared_where_pgbouncer_and_libpq_can(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, kept: str, libpq: int, threshold: int | None
):
    monkeypatch.setattr(psycopg.pq, "version", lambda: libpq)
    settings = contract.load(CHAT_POSTGRESQL_PREPARED_STATEMENTS=kept)
    assert settings.postgresql()["prepare_threshold"] == threshold
    assert settings.postgresql(direct=True)["prepare_threshold"] == 5


def test_one_of_several_hosts_is_given_up_soon(contract: Contract):
    several = LINES["CHAT_POSTGRESQL_URL"].replace("203.0.113.11:6432", "203.0.113.11:5000,203.0.113.12:5000")
    assert contract.load().postgresql()["connect_timeout"] == 10
    assert contract.load(CHAT_POSTGRESQL_URL=several).postgresql()["connect_timeout"] == 2


@pytest.mark.parametrize("pools", [Pools, AsyncPools])
def test_pools_ask_the_sentinels_that_the_contract_names(contract: Contract, pools: type[Pools | AsyncPools]):
    settings = contract.load(**SENTINELS)
    assert settings.redis_sessions_replicas == 1
    pool = pools(settings).sessions.connection_pool
    assert (pool.service_name, pool.connection_kwargs["username"]) == ("sessions", "chat_app_sessions")
    asked = [client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels]
    assert [(known["host"], known["port"]) for known in asked] == [
        ("203.0.113.11", 26379),
        ("2001:db8::1", 26379),
    ]
    assert {(known["username"], known["password"]) for known in asked} == {("chat_sentinel_client", SECRET)}
    trusting = {client.connection_pool.connection_class for client in pool.sentinel_manager.sentinels}
    assert trusting in ({TrustingConnection}, {AsyncTrustingConnection})


def test_socketio_is_told_the_sentinels_too(contract: Contract):
    told = contract.load(**SENTINELS).socketio()
    assert told["sentinels"] == [("203.0.113.11", 26379), ("2001:db8::1", 26379)]
    assert told["sentinel_login"] == {"username": "chat_sentinel_client", "password": SECRET}
    assert told["service"] == "realtime"
    named = contract.load(**SENTINELS, CHAT_REDIS_SOCKETIO_SERVICE="events").socketio()
    assert named["service"] == "events"


@pytest.mark.parametrize("value", [":26379", "203.0.113.11", "203.0.113.11:26379,", "a:b:c"])
def test_list_of_sentinels_has_hosts_and_ports(contract: Contract, value: str):
    said = contract.refusal(**{**SENTINELS, "CHAT_REDIS_SENTINELS": value})
    assert "CHAT_REDIS_SENTINELS: it must be HOST:PORT" in said


def test_sentinels_need_a_login_and_names(contract: Contract):
    lacking = {"CHAT_REDIS_SENTINEL_USER": None, "CHAT_REDIS_REALTIME_SERVICE": None}
    said = contract.refusal(**{**SENTINELS, **lacking})
    assert (
        "CHAT_REDIS_SENTINELS is set, and not CHAT_REDIS_SENTINEL_USER, CHAT_REDIS_REALTIME_SERVICE" in said
    )
    assert SECRET not in said
