"""PostgreSQL's settings over plain numbers, and the memory that they promise to stay within."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins import ledgers
from filter_plugins import postgresql_tuning as tuning

ROLE = Path(__file__).parents[2] / "roles/postgresql"
MEMORY = st.integers(min_value=896, max_value=1_048_576)  # a machine of 1 GB counts as 896 MB
CORES = st.integers(min_value=1, max_value=256)
DISKS = st.integers(min_value=1, max_value=1_000_000)
KINDS = st.sampled_from(["hdd", "ssd", "nvme"])
BUSY = 50


def connections_of(memory: int, cores: int) -> int:
    """max_connections as roles/common and roles/postgresql compute it."""
    pool = ledgers.pool_size(cores, memory)
    return tuning.max_connections(2 * (pool + max(2, pool // 4)) + 5, 10)


def tuned(memory: int, cores: int = 2, beside_redis: bool = True) -> tuning.Table:
    share = ledgers.postgresql_share(memory, beside_redis)
    return tuning.tune_memory(share, connections_of(memory, cores), cores, BUSY)


def mb(table: tuning.Table, name: str) -> float:
    return tuning._megabytes(name, table[name]["value"])


@given(memory=MEMORY, cores=CORES, beside_redis=st.booleans())
def test_worst_case_of_the_defaults_fits_postgresqls_share(memory, cores, beside_redis):
    rows = tuning.postgresql_memory_rows(tuned(memory, cores, beside_redis), BUSY)
    # Each row is rounded up by itself.
    assert sum(row["mb"] for row in rows) <= ledgers.postgresql_share(memory, beside_redis) + len(rows)


@given(memory=MEMORY, cores=CORES, beside_redis=st.booleans(), extra=st.integers(1, 4096))
def test_more_memory_never_makes_a_setting_smaller(memory, cores, beside_redis, extra):
    connections = connections_of(memory, cores)
    less, more = (
        tuning.tune_memory(ledgers.postgresql_share(size, beside_redis), connections, min(cores, 2), BUSY)
        for size in (memory, memory + extra)
    )
    for name in less:
        if str(less[name]["value"]).endswith("MB"):
            assert mb(less, name) <= mb(more, name), name


@given(memory=MEMORY, cores=CORES, more=st.integers(1, 300))
def test_more_connections_never_raise_work_mem(memory, cores, more):
    share, connections = ledgers.postgresql_share(memory, True), connections_of(memory, cores)
    tables = [tuning.tune_memory(share, count, cores, BUSY) for count in (connections, connections + more)]
    assert mb(tables[0], "work_mem") >= mb(tables[1], "work_mem")


@given(memory=MEMORY, cores=CORES, disk=DISKS, kind=KINDS)
def test_every_setting_is_in_postgresqls_range_and_has_a_reason_of_one_line(memory, cores, disk, kind):
    table = {**tuned(memory, cores), **tuning.tune_disk(disk, kind)}
    for name, setting in table.items():
        assert setting["why"], name
        assert "\n" not in setting["why"], name
    sizes = [name for name in table if str(table[name]["value"]).endswith("MB")]
    assert all(0 < mb(table, name) * 1024 < 2**31 for name in sizes)  # in kB, an int
    assert mb(table, "min_wal_size") <= mb(table, "max_wal_size")
    assert table["max_parallel_workers"]["value"] < table["max_worker_processes"]["value"]


@given(disk=DISKS, extra=st.integers(1, 1000), kind=KINDS)
def test_larger_disk_never_makes_a_setting_smaller(disk, extra, kind):
    less, more = tuning.tune_disk(disk, kind), tuning.tune_disk(disk + extra, kind)
    for name in ("max_wal_size", "min_wal_size", "temp_file_limit", "max_slot_wal_keep_size"):
        assert mb(less, name) <= mb(more, name)


@pytest.mark.parametrize(
    ("memory", "cores", "expected"),
    [
        (896, 1, ["88MB", "1MB", "22MB", "5MB", "2MB", 35, 1]),
        (4096, 2, ["504MB", "12MB", "126MB", "31MB", "15MB", 40, 1]),
        (16384, 8, ["2024MB", "18MB", "506MB", "126MB", "63MB", 100, 4]),
        (262144, 64, ["32440MB", "64MB", "2048MB", "512MB", "64MB", 270, 32]),
    ],
)
def test_sizes_of_typical_hosts(memory, cores, expected):
    table = tuned(memory, cores)
    names = ["shared_buffers", "work_mem", "maintenance_work_mem", "autovacuum_work_mem", "wal_buffers",
             "max_connections", "max_parallel_workers"]  # fmt: skip
    assert [table[name]["value"] for name in names] == expected


@pytest.mark.parametrize(
    ("shared_mb", "connections", "asked_mb"),
    # `postgres -C shared_memory_size` of 17 (15 asks for less) with 16 MB of wal_buffers.
    [(64, 40, 88), (64, 300, 101), (512, 40, 550), (512, 300, 562),
     (4096, 40, 4245), (4096, 300, 4257), (32768, 40, 33575), (32768, 300, 33587)],
)  # fmt: skip
def test_rows_of_shared_memory_cover_what_a_server_asks_for(shared_mb, connections, asked_mb):
    table = tuning.with_overrides(
        tuning.tune_memory(4096, connections, 2, BUSY),
        {"shared_buffers": f"{shared_mb}MB", "wal_buffers": "16MB"},
    )
    rows = tuning.postgresql_memory_rows(table, BUSY)
    assert asked_mb <= rows[0]["mb"] + rows[1]["mb"] <= asked_mb * 1.2


@pytest.mark.parametrize(
    ("name", "value", "row", "expected"),
    [
        ("shared_buffers", "2GB", "shared_buffers", 2048),
        ("WORK_MEM", "65536kB", "work_mem", 64 * 2 * 21),
        ("hash_mem_multiplier", 4, "work_mem", 12 * 4 * 21),
        ("maintenance_work_mem", "1.5GB", "maintenance_work_mem", 1536),
        ("autovacuum_work_mem", -1, "autovacuum_work_mem", 126 * 3),
        ("autovacuum_max_workers", 10, "autovacuum_work_mem", 31 * 10),
        ("max_parallel_workers", 9, "processes", (40 + 9 + 3) * 4),
    ],
)
def test_ledger_adds_what_is_set_and_names_the_override(name, value, row, expected):
    table = tuning.with_overrides(tuned(4096), {name: value})
    (found,) = [
        entry
        for entry in tuning.postgresql_memory_rows(table, BUSY)
        if re.search(rf"PostgreSQL: (\d+ )?{row}\b", entry["item"])
    ]
    assert found["mb"] == expected
    assert table[name.lower()]["why"] == "postgresql_settings"
    if name.lower() == row:
        assert found["lower"] == f"postgresql_settings.{row}"


def test_huge_pages_that_are_required_leave_no_page_tables():
    rows = tuning.postgresql_memory_rows(tuned(4096), BUSY)
    spared = tuning.postgresql_memory_rows(tuning.with_overrides(tuned(4096), {"huge_pages": "on"}), BUSY)
    assert [row["item"] for row in rows if row not in spared] == [
        "PostgreSQL: their page tables, unless huge pages are granted"
    ]


def test_row_of_work_mem_states_its_concurrency():
    (row,) = [row for row in tuning.postgresql_memory_rows(tuned(4096), 50) if "work_mem 12" in row["item"]]
    assert "50 % (postgresql_busy_percent) of 40 connections, and 1 parallel" in row["item"]


@pytest.mark.parametrize("name", ["work_mem", "shared_buffers", "Max_WAL_Size"])
@pytest.mark.parametrize("value", ["lots", "64", "64 mb", "", -1])
def test_override_that_is_no_size_is_refused_with_what_is_allowed(name, value):
    table = {**tuned(4096), **tuning.tune_disk(20, "ssd")}
    with pytest.raises(AnsibleFilterError, match=rf"{name.lower()} is .*such as 64MB"):
        tuning.with_overrides(table, {name: value})


def test_override_that_is_no_number_is_refused():
    table = tuning.with_overrides(tuned(4096), {"autovacuum_max_workers": "few"})
    with pytest.raises(AnsibleFilterError, match=r"autovacuum_max_workers is 'few'; allowed: a number"):
        tuning.postgresql_memory_rows(table, BUSY)


def test_unknown_kind_of_disk_is_refused():
    with pytest.raises(AnsibleFilterError, match=r"common_disk_kind is 'floppy'; allowed: hdd, ssd, nvme"):
        tuning.tune_disk(20, "floppy")


@pytest.mark.parametrize(
    ("kind", "page_cost", "concurrency"), [("hdd", 4, 2), ("ssd", 1.1, 200), ("nvme", 1.1, 256)]
)
def test_disk_kind_decides_what_a_random_page_costs(kind, page_cost, concurrency):
    table = tuning.tune_disk(100, kind)
    assert table["random_page_cost"]["value"] == page_cost
    assert table["effective_io_concurrency"]["value"] == concurrency


@pytest.mark.parametrize(
    ("servers", "operators", "expected"), [(0, 10, 15), (25, 10, 40), (27, 10, 40), (28, 10, 45)]
)
def test_max_connections_leaves_room_for_operators_and_rounds_up(servers, operators, expected):
    assert tuning.max_connections(servers, operators) == expected


def test_fixed_settings_all_have_a_value_and_a_reason_and_none_is_computed_too():
    fixed = yaml.safe_load((ROLE / "vars/main.yml").read_text())["postgresql_settings_fixed"]
    assert {name for name, setting in fixed.items() if set(setting) != {"value", "why"}} == set()
    computed = {**tuned(4096), **tuning.tune_disk(20, "ssd")}
    assert fixed.keys() & computed.keys() == set()
    assert all(re.fullmatch(r"[a-z_.]+", name) for name in fixed)
