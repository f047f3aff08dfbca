"""What a run looks like in Ansible's result and diff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from .yoyo_files import Migrations
from .yoyo_model import Drift, Record, Step, Unfinished
from .yoyo_plan import replay

_SHOWN_BYTES_MAX = 65536  # of each file: a diff is for reading


def differences(
    recorded: Sequence[str], steps: Sequence[Step], migrations: Migrations, show_sql: bool
) -> list[dict[str, str]]:
    """The ids before and after, and with `show_sql` the content of each file that runs."""
    found = [
        {
            "before_header": "applied migrations",
            "after_header": "applied migrations",
            "before": _lines(recorded),
            "after": _lines(replay(recorded, steps)),
        }
    ]
    return found + (_contents(steps, migrations) if show_sql else [])


def as_result(item: Drift | Record | Unfinished) -> dict[str, Any]:
    """The fields of `item`, with times in UTC as ISO 8601."""
    fields = asdict(item)
    return fields | {
        key: f"{at:%Y-%m-%dT%H:%M:%SZ}" for key, at in fields.items() if isinstance(at, datetime)
    }


def _contents(steps: Iterable[Step], migrations: Migrations) -> list[dict[str, str]]:
    shown = []
    for step in steps:
        path = step.script_path
        if path is None:
            continue
        content = migrations.content(path)
        text = content[:_SHOWN_BYTES_MAX].decode("utf-8", "ignore")
        if len(content) > _SHOWN_BYTES_MAX:
            text += f"\n-- ... and {len(content) - _SHOWN_BYTES_MAX} more bytes\n"
        shown.append(
            {"before_header": f"{step.action} {step.id}", "after_header": path, "before": "", "after": text}
        )
    return shown


def _lines(ids: Iterable[str]) -> str:
    return "".join(f"{id}\n" for id in ids)
