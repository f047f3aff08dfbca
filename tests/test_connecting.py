"""docs/reference/connecting.md names variables with their defaults; these are the defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from mypy import api

from chatdata.settings import CLIENT, Settings

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


def test_sample_with_chatdata_fits_its_signatures(tmp_path):
    sample = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)[0]
    imports, _, rest = sample.partition("\n\n")
    names = "key: SecretBytes, room_id: UUID, user_id: UUID, id: UUID"
    body = "\n".join(f"    {line}" for line in rest.splitlines())
    file = tmp_path / "sample.py"
    file.write_text(
        f"from uuid import UUID\nfrom pydantic import SecretBytes\n{imports}\n"
        f"async def sample({names}) -> None:\n{body}\n"
    )
    out, _errors, code = api.run(["--config-file", str(PROJECT / "pyproject.toml"), str(file)])
    assert code == 0, out


def test_page_names_what_application_hosts_are_told():
    rows = re.findall(r"^\| (`CHAT_.*?) \|", PAGE, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`CHAT_(\w+)`", row)]
    named += re.findall(r"`chat_(\w+_password)`", PAGE)
    assert sorted(map(str.lower, named)) == sorted(Settings.model_fields)


def test_pool_without_chatdata_is_as_chatdatas():
    page: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], page)  # noqa: S102  our own page's code
    made: dict[str, Any] = {}
    page["ConnectionPool"] = type("Pool", (), {"__init__": lambda _, **options: made.update(options),
                                               "check_connection": None})  # fmt: skip
    page["open_pool"]("203.0.113.11", "password")
    assert {name: made["kwargs"].get(name) for name in CLIENT} == CLIENT
    assert (made["max_size"], made["timeout"]) == (POOL, DEFAULTS["app_pool_timeout_s"])
