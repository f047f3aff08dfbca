"""The options that the migration modules share, and what turns them into sources and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .yoyo_model import MigrationError
from .yoyo_sources import Folder, Source

CONNECTION = {
    "source": {"type": "path"},
    "sources": {"type": "list", "elements": "path"},
    # Filled by the action plugin, with the files of `source`. no_log, to keep megabytes out of the log.
    "_archive": {"type": "str", "no_log": True},
    "dsn": {"type": "str", "no_log": True},
    "login_host": {"type": "str"},
    "login_unix_socket": {"type": "path"},
    "login_port": {"type": "int"},
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "login_db": {"type": "str"},
    "ssl_mode": {
        "type": "str",
        "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
    },
    "ca_cert": {"type": "path"},
    "connect_timeout": {"type": "int", "default": 10},
    "session_role": {"type": "str"},
    "bookkeeping_schema": {"type": "str", "default": "public"},
}

_POLICY = {"type": "str", "choices": ["fail", "warn", "ignore"], "default": "fail"}

RUN = {
    "state": {
        "type": "str",
        "choices": ["applied", "rolled_back", "baselined", "repaired"],
        "default": "applied",
    },
    "target": {"type": "str"},
    "count": {"type": "int"},
    "search_path": {"type": "list", "elements": "str"},
    "on_drift": _POLICY,
    "on_missing": _POLICY,
    "on_out_of_order": _POLICY,
    "lock_wait_s": {"type": "int", "default": 60},
    "lock_timeout_ms": {"type": "int", "default": 5000},
    "lock_retries": {"type": "int", "default": 3},
    "statement_timeout_ms": {"type": "int", "default": 0},
    "stale_lock": {"type": "str", "choices": ["fail", "break"], "default": "fail"},
    "allow_irreversible": {"type": "bool", "default": False},
    "allow_python": {"type": "bool", "default": False},
    "check_syntax": {"type": "bool", "default": True},
}

MUTUALLY_EXCLUSIVE = [
    ("source", "sources"),
    ("login_host", "login_unix_socket"),
    *[("dsn", option) for option in CONNECTION if option.startswith("login_")],
]


def sources_from(params: Mapping[str, Any]) -> list[Source]:
    """Where the migrations are read from."""
    if params.get("_archive") is not None:
        from .yoyo_archive import Archive

        return [Archive(params["source"], params["_archive"])]
    if params.get("source") is not None:
        raise MigrationError(
            "source is a folder on the controller, and the action plugin that reads it was not found",
            "Put its folder into action_plugins of ansible.cfg, or name a folder on the host in sources.",
        )
    return [Folder(path) for path in params["sources"] or ()]
