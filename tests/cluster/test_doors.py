"""What clients see at the doors to PostgreSQL: the primary's, the copies', and the direct one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ..docs.test_runbooks import RUNBOOKS, follow
from ..gameday.nodes import Cluster, until
from ..molecule.runs import Environment
from .conftest import INVENTORY

PRIMARY_PORT, COPIES_PORT = 5000, 5001
WHERE = "SELECT pg_is_in_recovery()"

pytestmark = pytest.mark.tier


def opened(way: dict[str, Any], recovering: bool) -> psycopg.Connection[Any]:
    """A connection by this way, of four that all lead to a copy, or all to none."""
    found: list[tuple[psycopg.Connection[Any], Any]] = []

    def answered() -> bool:
        with suppress(psycopg.OperationalError):
            connection = psycopg.connect(**way)
            found.append((connection, connection.execute(WHERE).fetchone()))
        return len(found) == 4

    until(answered, "four connections are answered")
    assert [said for _, said in found] == [(recovering,)] * 4
    for connection, _ in found[1:]:
        connection.close()
    return found[0][0]


def test_copies_are_read_and_not_written(whole: tuple[Environment, Cluster], tmp_path: Path) -> None:
    _environment, cluster = whole
    settings = cluster.settings(tmp_path)
    for host in cluster.members("haproxy"):
        way = settings.postgresql(host=host.address, port=COPIES_PORT)
        with (
            opened(way, recovering=True) as connection,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            connection.execute("INSERT INTO gameday VALUES (1)")


def test_session_of_a_former_primary_is_closed_and_libpq_finds_the_new_one(
    whole: tuple[Environment, Cluster], tmp_path: Path
) -> None:
    _environment, cluster = whole
    settings, former = cluster.settings(tmp_path), cluster.primary()
    held = [
        opened(settings.postgresql(host=host.address, port=PRIMARY_PORT), recovering=False)
        for host in cluster.members("haproxy")
    ]
    follow(RUNBOOKS / "switchover.md", "Act", str(INVENTORY))
    until(lambda: cluster.primary() is not former, "another host is primary")
    cluster.await_whole()
    for connection in held:
        with pytest.raises(psycopg.OperationalError):
            connection.execute(WHERE)
    with opened(settings.postgresql(direct=True), recovering=False) as connection:
        assert connection.execute("SELECT host(inet_server_addr())").fetchone() == (
            cluster.primary().address,
        )


def test_write_waits_while_no_copy_has_it(whole: tuple[Environment, Cluster]) -> None:
    _environment, cluster = whole
    primary = cluster.primary()
    copies = [host for host in cluster.members("postgresql") if host is not primary]
    write = "cd /; timeout 10 sudo -u postgres psql -Xq chat -c 'SET statement_timeout = 2000' -c"
    for host in copies:
        host.run("systemctl stop patroni-watch patroni")
    try:
        timed_out = primary.run(f"{write} 'INSERT INTO gameday VALUES (1)' || echo $?")
        assert timed_out == "124"
        assert primary.psql(WHERE) == "f"
    finally:
        for host in copies:
            host.run("systemctl start --no-block patroni patroni-watch")
    cluster.await_whole()
    primary.run(f"{write} 'INSERT INTO gameday VALUES (2)'")
    assert primary.psql("SELECT string_agg(number::text, ' ' ORDER BY number) FROM gameday") == "1 2"
    primary.psql("DROP TABLE gameday")  # the run would correct the rights on it
