"""The passwords by which a cluster's members know each other are changed, while clients write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..gameday.nodes import Cluster
from ..gameday.writers import Rows, Tokens
from ..molecule.runs import Environment
from .conftest import BOUNCER_PORT

MEMBERS = (
    "vault_etcd_patroni_password",
    "vault_patroni_rest_password",
    "vault_postgresql_replicator_password",
    "vault_postgresql_rewind_password",
    "vault_redis_chat_replica_password",
    "vault_redis_chat_sentinel_password",
)
WRITTEN = "patroni : Write Patroni's configuration"

pytestmark = pytest.mark.tier


def test_members_passwords_change_without_a_failover(
    whole: tuple[Environment, Cluster], tmp_path: Path
) -> None:
    environment, cluster = whole
    settings = cluster.settings(tmp_path)
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps({name: f"another.{name}" for name in MEMBERS}))
    timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"  # a promotion begins another
    before = cluster.primary().name, cluster.primary().psql(timeline)
    with Rows(settings, [], BOUNCER_PORT) as rows, Tokens(settings) as tokens:
        plan = environment.play("--check", "-e", f"@{variables}")
        forth = environment.play("-e", f"@{variables}")
        assert forth.code == 0, forth.failures()
        for host in environment.hosts:
            assert plan.changed_tasks(host) == forth.changed_tasks(host) > {WRITTEN}
        cluster.await_whole()
        rows.flows()
        tokens.flows()
        back = environment.play()
        assert back.code == 0, back.failures()
    cluster.await_whole()
    again = environment.play()
    assert set(again.changed.values()) == {0}, again.output[-2000:]
    assert (cluster.primary().name, cluster.primary().psql(timeline)) == before
    print(f"\nwithout a row for {rows.gap_s():.1f} s, without a token for {tokens.gap_s():.1f} s")
    assert rows.lost() == 0
    assert tokens.lost() == 0
