"""docs/reference/connecting.md names variables with their defaults; these are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs/reference/connecting.md").read_text()
DEFAULTS = {
    name: value
    for path in PROJECT.glob("roles/*/defaults/main.yml")
    for name, value in yaml.safe_load(path.read_text()).items()
}
LIMITS = re.findall(r"^\|[^|]*\| (\d+) s \| `([a-z_]+_s)` \|", PAGE, re.MULTILINE)
SIZES = [
    (rf"`{first}` {sign} `{second}`[^(]*\({DEFAULTS[first]} {sign} {DEFAULTS[second]}\)".replace("+", r"\+"))
    for first, sign, second in [
        ("pgbouncer_application_processes", "x", "pgbouncer_application_pool_size"),
        ("common_pool_size", "+", "common_pool_reserve"),
    ]
]


def test_page_names_the_limits():
    assert len(LIMITS) == 5


@pytest.mark.parametrize(("seconds", "variable"), LIMITS)
def test_limit_is_the_default(seconds, variable):
    assert DEFAULTS[variable] == int(seconds)


@pytest.mark.parametrize(
    "said", [*SIZES, rf"`pgbouncer_max_client_conn` \({DEFAULTS['pgbouncer_max_client_conn']}\)"]
)
def test_size_is_the_default(said):
    assert re.search(said, PAGE)
