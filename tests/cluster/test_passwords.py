"""The passwords by which a cluster's members know each other are changed, while clients write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..gameday.nodes import Cluster
from ..gameday.writers import Rows, Tokens
from ..molecule.runs import Environment

MEMBERS = (
    "vault_etcd_patroni_password",
    "vault_patroni_rest_password",
    "vault_postgresql_replicator_password",
    "vault_postgresql_rewind_password",
    "vault_redis_chat_replica_password",
    "vault_redis_chat_sentinel_password",
)

pytestmark = pytest.mark.tier


def test_members_passwords_change_and_nobody_waits(
    whole: tuple[Environment, Cluster], tmp_path: Path
) -> None:
    environment, cluster = whole
    settings = cluster.settings(tmp_path)
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps({name: f"another.{name}" for name in MEMBERS}))
    primary = cluster.primary().name
    with Rows(settings, [], 6432) as rows, Tokens(settings) as tokens:
        for arguments in (["-e", f"@{variables}"], []):
            plan = environment.play("--check", *arguments)
            assert plan.code == 0, plan.failures()
            run = environment.play(*arguments)
            assert run.code == 0, run.failures()
            assert {host: run.changed_tasks(host) for host in environment.hosts} == {
                host: plan.changed_tasks(host) for host in environment.hosts
            }
            cluster.await_whole()
            rows.flows()
            tokens.flows()
            again = environment.play(*arguments)
            assert set(again.changed.values()) == {0}, again.output[-2000:]
            assert cluster.primary().name == primary
    print(f"\nwithout a row for {rows.gap_s():.1f} s, without a token for {tokens.gap_s():.1f} s")
    assert rows.lost() == 0
    assert tokens.lost() == 0
