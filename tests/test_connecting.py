"""docs/reference/connecting.md names variables with their defaults; these are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from chatdata.settings import Settings

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs/reference/connecting.md").read_text()
DEFAULTS = {
    name: value
    for path in PROJECT.glob("roles/*/defaults/main.yml")
    for name, value in yaml.safe_load(path.read_text()).items()
}
LIMITS = re.findall(r"^\|[^|]*\| (\d+) s \| `([a-z_]+_s)` \|", PAGE, re.MULTILINE)
PROCESSES, POOL, CLIENTS = (
    DEFAULTS[name]
    for name in (
        "common_application_processes",
        "pgbouncer_application_pool_size",
        "pgbouncer_max_client_conn",
    )
)


def test_page_names_the_limits():
    assert len(LIMITS) == 5


@pytest.mark.parametrize(("seconds", "variable"), LIMITS)
def test_limit_is_the_default(seconds, variable):
    assert DEFAULTS[variable] == int(seconds)


def test_sizes_are_the_defaults():
    assert f"({PROCESSES} x {POOL})" in PAGE
    assert f"`pgbouncer_max_client_conn` ({CLIENTS})" in PAGE


def test_page_names_what_application_hosts_are_told():
    rows = re.findall(r"^\| (`CHAT_.*?) \|", PAGE, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`CHAT_(\w+)`", row)]
    named += re.findall(r"`chat_(\w+_password)`", PAGE)
    assert sorted(map(str.lower, named)) == sorted(Settings.model_fields)
