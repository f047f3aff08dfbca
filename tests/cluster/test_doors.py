"""What clients see at the doors to PostgreSQL: the primary's, the copies', and the direct one."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ..docs.test_runbooks import RUNBOOKS, follow
from ..gameday.nodes import Cluster, until
from ..molecule.runs import Environment
from .conftest import INVENTORY

PRIMARY_PORT, COPIES_PORT = 5000, 5001
WHERE = "SELECT pg_is_in_recovery()"

pytestmark = pytest.mark.tier


def test_copies_are_read_and_not_written(whole: tuple[Environment, Cluster], tmp_path: Path) -> None:
    _environment, cluster = whole
    settings = cluster.settings(tmp_path)
    for host in cluster.members("haproxy"):
        with psycopg.connect(**settings.postgresql(host=host.address, port=COPIES_PORT)) as connection:
            assert connection.execute(WHERE).fetchone() == (True,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("INSERT INTO gameday VALUES (1)")


def test_session_of_a_former_primary_is_closed_and_libpq_finds_the_new_one(
    whole: tuple[Environment, Cluster], tmp_path: Path
) -> None:
    _environment, cluster = whole
    settings, former = cluster.settings(tmp_path), cluster.primary()
    held = [
        psycopg.connect(**settings.postgresql(host=host.address, port=PRIMARY_PORT))
        for host in cluster.members("haproxy")
    ]
    for connection in held:
        assert connection.execute(WHERE).fetchone() == (False,)
    follow(RUNBOOKS / "switchover.md", "Act", str(INVENTORY))
    until(lambda: cluster.primary() is not former, "another host is primary")
    cluster.await_whole()
    for connection in held:
        with pytest.raises(psycopg.OperationalError):
            connection.execute(WHERE)
    with psycopg.connect(**settings.postgresql(direct=True)) as connection:
        assert connection.execute(WHERE).fetchone() == (False,)
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
