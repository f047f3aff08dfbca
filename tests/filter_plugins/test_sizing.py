"""Sizes and ledgers over plain numbers."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins import sizing

HOSTS = st.integers(min_value=1024, max_value=1_048_576)
CONNECTIONS = st.integers(min_value=20, max_value=500)
DISKS = st.integers(min_value=4, max_value=100_000)
CORES = st.integers(min_value=1, max_value=256)


@given(memory=HOSTS, connections=CONNECTIONS, cores=CORES, disk=DISKS)
def test_sizes_are_positive_and_a_quarter_is_shared(memory, connections, cores, disk):
    sizes = sizing.postgresql_sizes(memory, connections, cores, disk)
    assert min(sizes.values()) > 0
    assert sizes["shared_buffers"] == memory // 4
    assert sizes["effective_cache_size"] < memory


@given(memory=st.integers(min_value=2048, max_value=1_048_576), cores=CORES)
def test_default_connections_fit_the_share_they_are_given(memory, cores):
    connections = sizing.max_connections(55)
    sizes = sizing.postgresql_sizes(memory, connections, cores, 100)
    assert sizing.postgresql_memory(sizes, connections) <= memory


@pytest.mark.parametrize(("servers", "expected"), [(0, 20), (37, 50), (38, 60), (55, 70)])
def test_max_connections_leaves_thirteen_for_others_and_rounds_up(servers, expected):
    assert sizing.max_connections(servers) == expected


def test_persistent_redis_needs_room_for_a_fork():
    volatile = sizing.redis_memory({"maxmemory_mb": 100, "persistence": False})
    assert sizing.redis_memory({"maxmemory_mb": 100, "persistence": True}) == volatile + 50


@pytest.mark.parametrize(("host", "fits", "over"), [(4096, True, 0), (2000, False, 384)])
def test_memory_ledger_adds_the_system_and_says_by_how_much_it_is_over(host, fits, over):
    ledger = sizing.memory_ledger(host, {"PostgreSQL": 1800, "Redis": 200})
    assert (ledger["fits"], ledger["over_mb"]) == (fits, over)
    assert "PostgreSQL       1800 MB" in ledger["table"]


@pytest.mark.parametrize(
    ("clients", "servers", "named"),
    [
        (800, 87, []),
        (801, 87, ["801", "800", "pgbouncer_max_client_conn"]),
        (800, 88, ["88", "87", "postgresql_max_connections"]),
    ],
)
def test_connection_ledger_names_the_stage_that_does_not_fit(clients, servers, named):
    ledger = sizing.connection_ledger(clients, 1000, servers, 100)
    assert ledger["fits"] == (named == [])
    assert all(word in " ".join(ledger["problems"]) for word in named)


def test_both_stages_are_named_when_neither_fits():
    assert len(sizing.connection_ledger(900, 1000, 90, 100)["problems"]) == 2


@pytest.mark.parametrize(("disk_gb", "max_wal_mb"), [(1, 128), (20, 1024), (1000, 8192)])
def test_wal_takes_a_twentieth_of_the_disk_within_bounds(disk_gb, max_wal_mb):
    assert sizing.postgresql_sizes(4096, 70, 2, disk_gb)["max_wal_size"] == max_wal_mb


@pytest.mark.parametrize(
    ("value", "megabytes"), [("64MB", 64), ("2GB", 2048), ("512kB", 1), ("1TB", 1_048_576)]
)
def test_override_of_a_size_counts_in_the_ledger(value, megabytes):
    assert sizing.with_overrides({"work_mem": 4}, {"work_mem": value, "jit": "off"}) == {
        "work_mem": megabytes
    }


@pytest.mark.parametrize("value", ["lots", "64", "64 mb", ""])
def test_override_that_is_no_size_is_refused_with_what_is_allowed(value):
    with pytest.raises(AnsibleFilterError, match=r"work_mem.*such as 64MB"):
        sizing.with_overrides({"work_mem": 4}, {"work_mem": value})
