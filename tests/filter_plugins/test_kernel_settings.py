"""The kernel's settings over plain numbers."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins.kernel_settings import kernel_settings, overcommit_ratio
from filter_plugins.ledgers import (
    memory_ledger,
    pgbouncer_memory_rows,
    pool_size,
    postgresql_share,
    system_reserve,
)
from filter_plugins.postgresql_tuning import max_connections, postgresql_memory_rows, tune_memory

MEMORY = st.integers(min_value=1024, max_value=1_048_576)


def host(**changes):
    return {
        "memory_mb": 16384,
        "total_mb": 16384,
        "swap_mb": 0,
        "disk": "ssd",
        "postgresql": True,
        "redis": True,
        "persists": True,
        "promised_mb": 10000,
        "fits": True,
        "backlogs": {"PostgreSQL": 140, "PgBouncer": 1000, "Redis": 511},
        **changes,
    }


def values(overrides=None, **changes):
    return {name: entry["value"] for name, entry in kernel_settings(host(**changes), overrides or {}).items()}


def test_every_setting_has_a_value_a_reason_on_one_line_and_a_file_of_the_kernels():
    for name, setting in kernel_settings(host(redis=False), {}).items():
        assert setting["value"] is not None
        assert setting["why"]
        assert "\n" not in setting["why"]
        assert setting["path"] == (
            f"/proc/sys/{name.replace('.', '/')}"
            if "." in name
            else "/sys/kernel/mm/transparent_hugepage/enabled"
        )


@pytest.mark.parametrize(
    ("here", "overcommit"),
    [
        ({"redis": True, "persists": True, "fits": True}, 1),
        ({"postgresql": False, "redis": True, "persists": True, "fits": True}, 1),
        ({"redis": True, "persists": True, "fits": False}, None),
        ({"redis": True, "persists": False}, None),
        ({"redis": False, "persists": True}, 2),  # it persists on another host
    ],
)
def test_overcommit_follows_the_one_rule(here, overcommit):
    seen = values(**here)
    assert seen.get("vm.overcommit_memory") == overcommit
    assert ("vm.overcommit_ratio" in seen) == (overcommit == 2)


def test_ratio_is_set_before_the_mode_that_uses_it():
    names = list(values(redis=False))
    assert names.index("vm.overcommit_ratio") < names.index("vm.overcommit_memory")


@given(memory=MEMORY, swap=st.integers(min_value=0, max_value=65536), huge=st.booleans())
def test_commit_limit_holds_the_ledger_and_leaves_the_page_cache_its_part(memory, swap, huge):
    connections = max_connections(3 * pool_size(4, memory), 10)
    table = tune_memory(postgresql_share(memory, False), connections, 4, 50)
    rows = [*postgresql_memory_rows(table, 50), *pgbouncer_memory_rows(1000)]
    if not memory_ledger(memory, rows)["fits"]:
        return
    promised = sum(row["mb"] for row in rows)
    ratio = overcommit_ratio(memory, memory, swap, promised)
    huge_mb = int(table["shared_buffers"]["value"].removesuffix("MB")) if huge else 0
    limit = (memory - huge_mb) * ratio // 100 + swap
    assert limit >= promised - huge_mb + system_reserve(memory) // 2 - 1
    if swap < memory // 4:  # with more of it the limit is at its least, which is swap alone
        half = (memory - promised) // 2
        least = (half * (memory - huge_mb) - swap * huge_mb) // memory
        assert memory - huge_mb - limit >= least - memory // 100 - 1  # a whole percentage


@pytest.mark.parametrize(
    ("memory", "total", "swap", "promised", "ratio"),
    [
        (16384, 16384, 0, 10185, 82),
        (16384, 16384, 4096, 10185, 57),
        (16384, 65536, 0, 10185, 96),  # three quarters of the host are others'
        (16384, 16384, 65536, 10185, 1),
    ],
)
def test_ratio_counts_swap_and_what_the_host_has_for_others(memory, total, swap, promised, ratio):
    assert overcommit_ratio(memory, total, swap, promised) == ratio


@pytest.mark.parametrize(
    ("memory", "disk", "background_mb", "most_mb"),
    [
        (65536, "nvme", 512, 2048),
        (65536, "ssd", 256, 1024),
        (65536, "hdd", 64, 256),
        (1024, "ssd", 102, 204),
        (1024, "hdd", 64, 204),
    ],
)
def test_dirty_memory_follows_the_disk_and_never_exceeds_the_stock_shares(
    memory, disk, background_mb, most_mb
):
    seen = values(memory_mb=memory, disk=disk)
    assert seen["vm.dirty_background_bytes"] == background_mb * 2**20
    assert seen["vm.dirty_bytes"] == most_mb * 2**20


@pytest.mark.parametrize(("largest", "value"), [(511, 4096), (4096, 4096), (4097, 8192), (90000, 65535)])
def test_listen_queue_holds_the_largest_backlog_and_never_less_than_stock(largest, value):
    assert values(backlogs={"Redis": 511, "PgBouncer": largest})["net.core.somaxconn"] == value


def test_override_replaces_a_value_and_null_leaves_it_to_the_kernel():
    seen = values({"vm.swappiness": "10", "net.core.somaxconn": None})
    assert seen["vm.swappiness"] == 10
    assert "net.core.somaxconn" not in seen


def test_ratio_goes_with_the_mode_that_uses_it():
    assert "vm.overcommit_ratio" not in values({"vm.overcommit_memory": 0}, redis=False)
    assert "vm.overcommit_ratio" not in values({"vm.overcommit_memory": None}, redis=False)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"vm.swappiness": 500}, "vm.swappiness is 500; allowed: a whole number from 0 to 200"),
        ({"vm.overcommit_memory": -1}, "vm.overcommit_memory is -1; allowed: .* 0 to 2"),
        ({"transparent_hugepage": "off"}, "transparent_hugepage is 'off'; allowed: always, madvise, never"),
        ({"vm.swapiness": 1}, "vm.swapiness is none that the role sets; allowed: .*vm.swappiness"),
        ("1", "kernel_settings is '1'; allowed: a dictionary"),
    ],
)
def test_what_the_kernel_would_not_take_is_refused_with_what_is_allowed(overrides, named):
    with pytest.raises(AnsibleFilterError, match=named):
        kernel_settings(host(), overrides)
