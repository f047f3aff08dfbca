"""The connection contract that the play writes for application hosts, read and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from chatdata.errors import SettingsInvalid

FOLDER = Path("/etc/chat-data-tier")
PREFIX = "CHAT_"

# What a client of PostgreSQL keeps to, whatever the environment (docs/reference/connecting.md).
CLIENT = {
    "connect_timeout": 10,
    "keepalives_idle": 30,  # a server whose host is gone is noticed in a minute
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# Where the contract names several hosts, the next one is a better use of the time.
CLIENT_OF_SEVERAL = {"connect_timeout": 2, "tcp_user_timeout": 5_000}
DRIVER_PREPARES_FROM_LIBPQ = 170000


class Settings(BaseSettings):
    """Where everything is, how many connections a process may have, and the passwords.

    Each field is the environment's variable CHAT_<NAME>, else a line of app.env, else (the passwords) a file
    secrets/chat_<name>. No password is in a repr or an error.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    environment: str  # its name, such as staging
    production: bool  # whether its data is of value
    ca_path: Path  # the environment's authority, PEM
    pool_timeout_s: float = Field(gt=0)  # how long to wait for a connection of a pool

    postgresql_url: str  # PgBouncer; libpq's syntax, several hosts included
    postgresql_direct_url: str | None = None  # PostgreSQL itself: LISTEN, locks of a session
    postgresql_password: SecretStr
    postgresql_pool_size: int = Field(ge=1)
    postgresql_prepared_statements: int = Field(ge=0)  # so many does PgBouncer keep on a connection

    redis_sessions_url: str  # refresh tokens
    redis_sessions_password: SecretStr
    redis_sessions_pool_size: int = Field(ge=1)
    redis_realtime_url: str  # presence and typing
    redis_realtime_password: SecretStr
    redis_realtime_pool_size: int = Field(ge=1)
    redis_socketio_url: str  # what Socket.IO's servers tell each other
    redis_socketio_password: SecretStr
    redis_socketio_pool_size: int = Field(ge=0)  # 0: no adapter is used

    # Where Redis is in several copies: who knows each service's master. The URLs' hosts may be a replica's.
    redis_sentinels: str | None = None  # HOST:PORT,HOST:PORT
    redis_sentinel_user: str | None = None
    redis_sentinel_password: SecretStr | None = None
    redis_sessions_service: str | None = None
    redis_realtime_service: str | None = None
    redis_socketio_service: str | None = None
    redis_sessions_replicas: int = Field(default=0, ge=0)  # so many have a token before it is handed out

    @field_validator("postgresql_url", "postgresql_direct_url")
    @classmethod
    def _of_postgresql(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            known = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # its text may hold a password
            known = {}
        lacking = [name for name in ("host", "user", "dbname") if not known.get(name)]
        if not url.startswith("postgresql://") or lacking or known.get("password"):
            raise ValueError(
                "it must be postgresql://USER@HOST:PORT/DATABASE (or several HOST:PORT), without a password"
            )
        if known.get("sslmode") != "verify-full":
            raise ValueError("it must end in ?sslmode=verify-full: passwords go to nobody else")
        return url

    @field_validator("redis_sessions_url", "redis_realtime_url", "redis_socketio_url")
    @classmethod
    def _of_redis(cls, url: str) -> str:
        form = ValueError("it must be rediss://USER@HOST:PORT, without a password")
        try:
            parts = urlsplit(url)
            complete = parts.scheme == "rediss" and parts.username and parts.hostname and parts.port
        except ValueError:
            raise form from None
        if not complete or parts.password or parts.query:
            raise form
        return url

    @field_validator("redis_sentinels")
    @classmethod
    def _of_sentinels(cls, value: str | None) -> str | None:
        if value is not None and not all(_authority(part) for part in value.split(",")):
            raise ValueError("it must be HOST:PORT, or several with commas between")
        return value

    @model_validator(mode="after")
    def _all_of_sentinel(self) -> Self:
        needed = ("sentinel_user", "sentinel_password", "sessions_service", "realtime_service")
        lacking = [name for name in needed if getattr(self, f"redis_{name}") is None]
        if self.redis_sentinels and lacking:
            names = ", ".join(f"{PREFIX}REDIS_{name.upper()}" for name in lacking)
            raise ValueError(f"{PREFIX}REDIS_SENTINELS is set, and not {names}")
        return self

    @property
    def prepare_threshold(self) -> int | None:
        """psycopg's: prepared statements need a PgBouncer and a libpq that know each other's."""
        knows = psycopg.pq.version() >= DRIVER_PREPARES_FROM_LIBPQ
        return 5 if self.postgresql_prepared_statements and knows else None

    def postgresql(self, *, direct: bool = False, **overrides: Any) -> dict[str, Any]:
        """What psycopg.connect takes to connect by the contract, in autocommit.

        Through PgBouncer, or `direct`ly: SettingsInvalid where the contract has no such way.
        """
        url = self.postgresql_direct_url if direct else self.postgresql_url
        if url is None:
            raise SettingsInvalid(f"{PREFIX}POSTGRESQL_DIRECT_URL is not set")
        return {
            "conninfo": url,
            "password": self.postgresql_password.get_secret_value(),
            "sslrootcert": str(self.ca_path),
            **CLIENT,
            **(CLIENT_OF_SEVERAL if "," in url else {}),
            "prepare_threshold": 5 if direct else self.prepare_threshold,
            "autocommit": True,
            **overrides,
        }

    def redis(self, name: str) -> tuple[str, str, int]:
        """URL, password and size of the pool for `name`: sessions, realtime or socketio."""
        password: SecretStr = getattr(self, f"redis_{name}_password")
        return (
            getattr(self, f"redis_{name}_url"),
            password.get_secret_value(),
            getattr(self, f"redis_{name}_pool_size"),
        )

    def service(self, name: str) -> str:
        """The name by which Sentinel knows the server for `name`: sessions, realtime or socketio."""
        return str(getattr(self, f"redis_{name}_service"))

    def sentinels(self) -> list[tuple[str, int]]:
        """The Sentinels' hosts and ports; none where Redis is one server."""
        return [_authority(part) for part in (self.redis_sentinels or "").split(",") if part]  # type: ignore[misc]

    def sentinel_login(self) -> dict[str, str]:
        """User and password for the Sentinels, as redis-py takes them."""
        password = self.redis_sentinel_password
        return {
            "username": self.redis_sentinel_user or "",
            "password": password.get_secret_value() if password else "",
        }

    def socketio(self) -> dict[str, Any]:
        """What chatdata.socketio's redis_manager takes: redis_manager(**settings.socketio())."""
        parts = urlsplit(self.redis_socketio_url)
        return {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "password": self.redis_socketio_password.get_secret_value(),
            "ca": str(self.ca_path),
            **(
                {
                    "sentinels": self.sentinels(),
                    "sentinel_login": self.sentinel_login(),
                    "service": self.redis_socketio_service or self.service("realtime"),
                }
                if self.redis_sentinels
                else {}
            ),
        }

    @classmethod
    def load(cls, folder: Path | str | None = None) -> Self:
        """The contract in `folder`, else in CHATDATA_CONTRACT's, else in /etc/chat-data-tier.

        systemd's credentials, where the unit has some, go before the files of secrets/.
        Raises SettingsInvalid, which says what is missing or wrong, where it was looked for, and what to do.
        """
        chosen = Path(folder or os.environ.get("CHATDATA_CONTRACT") or FOLDER)
        secrets = [chosen / "secrets", os.environ.get("CREDENTIALS_DIRECTORY")]
        try:
            there = [path for path in secrets if path and Path(path).is_dir()]
            return cls(_env_file=chosen / "app.env", _secrets_dir=there)  # type: ignore[call-arg]
        except (OSError, SettingsError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            raise SettingsInvalid(
                f"{cause}: the process has to be in the group that owns {chosen} "
                "(systemd: SupplementaryGroups=)"
            ) from None
        except ValidationError as error:
            raise SettingsInvalid(_problems(error, chosen)) from None


def _authority(text: str) -> tuple[str, int] | None:
    """Host and port of HOST:PORT; None where it is not that."""
    try:
        parts = urlsplit(f"//{text}")
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None
    except ValueError:
        return None


def _problems(error: ValidationError, folder: Path) -> str:
    """A line for each value that is missing or wrong."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        if not problem["loc"]:
            lines.append(problem["msg"].removeprefix("Value error, "))
            continue
        name = str(problem["loc"][0])
        if problem["type"] != "missing":
            lines.append(f"{PREFIX}{name.upper()}: {problem['msg'].removeprefix('Value error, ')}")
            continue
        secret = "password" in name
        file = folder / "secrets" / f"{PREFIX}{name}".lower() if secret else folder / "app.env"
        lines.append(f"{PREFIX}{name.upper()} is missing: it is neither in the environment nor in {file}")
    return "\n".join(
        [*lines, "Run the play for this host (group app), or set the variable: docs/reference/connecting.md"]
    )
