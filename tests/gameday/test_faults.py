"""Each fault, while clients write: no acknowledged write is lost, and all comes back by itself.

After each (of several rounds, in the last) a run of the playbook changes nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatdata.settings import Settings

from .faults import FAULTS
from .nodes import Cluster
from .writers import Rows, Tokens, twice

BOUNCER_PORT = 6432
ROUNDS = int(os.environ.get("GAMEDAY_ROUNDS", "1"))


@pytest.fixture
def table(cluster: Cluster) -> Iterator[None]:
    """The table of the rows, empty, on a cluster that lacks nothing."""
    cluster.await_whole()
    cluster.primary().psql(
        "DROP TABLE IF EXISTS gameday; CREATE TABLE gameday (number bigint PRIMARY KEY);"
        " GRANT SELECT, INSERT ON gameday TO chat_app"
    )
    yield
    cluster.primary().psql("DROP TABLE IF EXISTS gameday")


def figures(writer: Rows | Tokens) -> dict[str, Any]:
    """What became of a writer's writes."""
    written = len(writer.acknowledged)
    return {"gap_s": round(writer.gap_s(), 2), "acknowledged": written, "lost": writer.lost()}


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_nothing_is_lost(cluster: Cluster, settings: Settings, turn: int, name: str) -> None:
    fault = FAULTS[name]
    host = fault.target(cluster)
    with (
        fault.scene(cluster, host),
        Rows(settings, cluster.members("pgbouncer"), BOUNCER_PORT) as rows,
        Tokens(settings) as tokens,
    ):
        reigns, began = cluster.reigns(), time.monotonic()
        fault.begin(cluster, host)
        try:
            rows.flows()
            tokens.flows()
            time.sleep(max(0.0, fault.lasts_s - (time.monotonic() - began)))
        finally:
            fault.end(cluster, host)
        rows.flows()
        tokens.flows()
        cluster.await_whole()  # while the clients still write: whoever comes back must not take any
        if fault.stays:
            assert cluster.reigns() == reigns
        if fault.moves:
            assert fault.target(cluster) is not host
        fault.after(cluster, host)
    found = {
        "fault": name,
        "turn": turn,
        "host": host.name,
        "rows": figures(rows),
        "tokens": figures(tokens),
        "by_node": len(rows.by_node),
        "twice": twice(rows.by_node),
    }
    cluster.results.parent.mkdir(exist_ok=True)
    with cluster.results.open("a") as results:
        results.write(json.dumps(found) + "\n")
    row, token = found["rows"], found["tokens"]
    print(
        f"\n{name} ({host}): without a row for {row['gap_s']} s, {row['acknowledged']} acknowledged,"
        f" {row['lost']} lost; without a token for {token['gap_s']} s, {token['acknowledged']} acknowledged,"
        f" {token['lost']} lost; twice {found['twice']}"
    )
    assert (row["lost"], token["lost"], found["twice"]) == (0, 0, 0)
    if turn == ROUNDS - 1:
        cluster.primary().psql("DROP TABLE gameday")  # the run would correct the rights on it
        cluster.assert_a_run_changes_nothing()
