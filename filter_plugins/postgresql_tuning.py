"""PostgreSQL's settings from what its host has, each with the reason, and the memory that they may take.

Pure functions over numbers; memory is in MB (2**20 bytes). A table of settings is a dictionary of
name and {value, why}. roles/postgresql/vars/main.yml puts the tables together, conf.d/chat.conf
prints them, and the memory ledger (ledgers.py) adds up what is really set, overrides included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, TypedDict

from ansible.errors import AnsibleFilterError

SUPERUSER_RESERVE = 3
AUTOVACUUM_WORKERS = 3
HASH_MEM_MULTIPLIER = 2.0
STOCK_WORKER_PROCESSES = 8
# A process's own memory beside work_mem. A backend of 15 or 17 that has run the chat's statements holds
# 2.2 MB; nearly as much again for statements that stay prepared.
PROCESS_MB = 4
OVERRIDDEN = "postgresql_settings"
UNITS = {"B": 1 / 1024**2, "kB": 1 / 1024, "MB": 1, "GB": 1024, "TB": 1024**2}


class Setting(TypedDict):
    """One line of chat.conf."""

    value: Any
    why: str


class Row(TypedDict):
    """One item of the memory ledger: MB, what takes them, and the variable that lowers them."""

    mb: int
    item: str
    lower: str


Table = dict[str, Setting]


def max_connections(server_connections: int, operator_connections: int) -> int:
    """max_connections for what PgBouncer may open, operators and superusers, rounded up to five."""
    return ceil((server_connections + operator_connections + SUPERUSER_RESERVE) / 5) * 5


def tune_memory(memory_mb: int, connections: int, cores: int, busy_percent: int) -> Table:
    """The settings that memory and cores decide, for `memory_mb` that PostgreSQL may take at its worst.

    What each part takes is the same share at every size, so that the sum of
    postgresql_memory_rows stays within `memory_mb`; work_mem gets what the others leave, a quarter at most.
    Sources: PostgreSQL's documentation, chapter "Server Configuration".
    """
    shared = memory_mb // 4
    wal_buffers = _within(shared // 32, 1, 64)
    maintenance = _within(memory_mb // 16, 16, 2048)
    autovacuum = _within(memory_mb // 64, 4, 512)
    parallel = max(1, min(cores // 2, memory_mb // 256))
    per_gather = min(4, cores // 2)
    users = _work_mem_users(connections, busy_percent, parallel)
    others = (
        # Not rounded down: more memory must never leave less for work_mem.
        memory_mb / 4 * (1 + 1 / 32 + connections / 512)
        + max(1.0, min(64.0, memory_mb / 128))
        + _shared_beside(connections)
        + (connections + AUTOVACUUM_WORKERS + parallel) * PROCESS_MB
        + max(16.0, min(2048.0, memory_mb / 16))
        + AUTOVACUUM_WORKERS * max(4.0, min(512.0, memory_mb / 64))
    )
    left = min(memory_mb / 4, memory_mb - others)
    work_mem = _within(int(left / (users * HASH_MEM_MULTIPLIER)), 1, 64)
    reserve = f"of postgresql_memory_mb, {memory_mb}"
    return {
        "max_connections": _set(connections, "postgresql_max_connections"),
        "superuser_reserved_connections": _set(SUPERUSER_RESERVE, "a way in when all others are taken"),
        "shared_buffers": _set(f"{shared}MB", f"a quarter {reserve}"),
        "effective_cache_size": _set(
            f"{memory_mb * 3 // 4}MB", f"three quarters {reserve}: shared_buffers and the page cache"
        ),
        "work_mem": _set(
            f"{work_mem}MB",
            f"for {users} processes that sort or hash at once (postgresql_busy_percent, {busy_percent}, of"
            f" {connections} connections, and {parallel} parallel), from 1 to 64 MB",
        ),
        "hash_mem_multiplier": _set(HASH_MEM_MULTIPLIER, "a hash may take so many times work_mem"),
        "maintenance_work_mem": _set(f"{maintenance}MB", f"a sixteenth {reserve}, from 16 MB to 2 GB"),
        "autovacuum_work_mem": _set(
            f"{autovacuum}MB",
            f"a 64th {reserve}, from 4 to 512 MB: one pass over the indexes for "
            f"{autovacuum * 1024**2 / 6_000_000:.1f} million dead rows of 6 bytes",
        ),
        "autovacuum_max_workers": _set(
            AUTOVACUUM_WORKERS, "few tables; more workers would share the same cost limit"
        ),
        "wal_buffers": _set(f"{wal_buffers}MB", "a 32nd of shared_buffers, from 1 to 64 MB"),
        "max_parallel_workers": _set(
            parallel,
            f"half of common_cores, {cores}, the rest is for short statements; one for each 256 MB at most",
        ),
        "max_parallel_workers_per_gather": _set(per_gather, f"half of common_cores, {cores}, 4 at most"),
        "max_parallel_maintenance_workers": _set(per_gather, f"half of common_cores, {cores}, 4 at most"),
        "max_worker_processes": _set(
            STOCK_WORKER_PROCESSES + parallel,
            f"max_parallel_workers, and the stock {STOCK_WORKER_PROCESSES} for all else",
        ),
    }  # fmt: skip


def tune_disk(disk_gb: int, kind: str) -> Table:
    """The settings that the data's disk decides: its size in GB, and its kind: hdd, ssd or nvme."""
    disk_mb = disk_gb * 1024
    max_wal = _within(disk_mb // 20, 128, 16_384)
    tenth = _within(disk_mb // 10, 256, 1024**2)
    try:
        page_cost, concurrency, cost_limit = {
            "hdd": (4, 2, 200), "ssd": (1.1, 200, 1000), "nvme": (1.1, 256, 2000),
        }[kind]  # fmt: skip
    except KeyError:
        raise AnsibleFilterError(f"common_disk_kind is {kind!r}; allowed: hdd, ssd, nvme") from None
    disk = f"common_disk_kind, {kind}"
    of_disk = f"of common_disk_gb, {disk_gb}"
    return {
        "max_wal_size": _set(f"{max_wal}MB", f"a twentieth {of_disk}, from 128 MB to 16 GB"),
        "min_wal_size": _set(f"{max(64, max_wal // 4)}MB", "a quarter of max_wal_size, kept for reuse"),
        "checkpoint_timeout": _set("15min", "fewer full pages in the WAL; max_wal_size bounds a recovery"),
        "checkpoint_completion_target": _set(0.9, "spread over nearly all the time between two"),
        "wal_compression": _set("lz4", "cheaper than pglz at the same size; Debian builds it in"),
        "max_slot_wal_keep_size": _set(
            f"{tenth}MB", f"a tenth {of_disk}, from 256 MB to 1 TB: a dead replica must not fill the disk"
        ),
        "temp_file_limit": _set(
            f"{tenth}MB",
            f"a tenth {of_disk}, from 256 MB to 1 TB, for each process: room for an index's sort",
        ),
        "random_page_cost": _set(page_cost, disk),
        "effective_io_concurrency": _set(concurrency, disk),
        "maintenance_io_concurrency": _set(max(10, concurrency), disk),
        "autovacuum_vacuum_cost_limit": _set(
            # A round of 2 ms dirties limit / 22 pages of 8 kB (vacuum_cost_page_miss and _dirty).
            cost_limit,
            f"{disk}: all autovacuum together moves {cost_limit * 500 * 8 // 22 // 1000} MB/s at most",
        ),
    }  # fmt: skip


def with_overrides(table: Mapping[str, Setting], settings: Mapping[str, Any]) -> Table:
    """`table` with what postgresql_settings adds and overrides; names are PostgreSQL's, in any case.

    Raises AnsibleFilterError where a size is overridden by what is none.
    """
    merged: Table = {name: {"value": entry["value"], "why": entry["why"]} for name, entry in table.items()}
    for written, value in settings.items():
        name = written.lower()
        if name in table and str(table[name]["value"]).endswith("MB"):
            _megabytes(name, value)
        merged[name] = {"value": value, "why": OVERRIDDEN}
    return merged


def setting_values(table: Mapping[str, Setting]) -> dict[str, Any]:
    """Name and value of each setting, without the reasons."""
    return {name: setting["value"] for name, setting in table.items()}


def postgresql_memory_rows(table: Mapping[str, Setting], busy_percent: int) -> list[Row]:
    """What PostgreSQL takes when all that `table` allows happens at once, an item a row."""
    connections = _number(table, "max_connections")
    shared = _size(table, "shared_buffers")
    wal_buffers = _size(table, "wal_buffers") if _set_by_hand(table, "wal_buffers") else min(16, shared / 32)
    work_mem, multiplier = _size(table, "work_mem"), max(1, _number(table, "hash_mem_multiplier"))
    parallel, vacuums = _number(table, "max_parallel_workers"), _number(table, "autovacuum_max_workers")
    maintenance = _size(table, "maintenance_work_mem")
    vacuum = (
        _size(table, "autovacuum_work_mem") if _set_by_hand(table, "autovacuum_work_mem") else maintenance
    )
    users = _work_mem_users(int(connections), busy_percent, int(parallel))
    processes = int(connections + parallel + vacuums)

    def row(size: float, item: str, name: str, otherwise: str = "postgresql_memory_mb") -> Row:
        lower = f"{OVERRIDDEN}.{name}" if table[name]["why"] == OVERRIDDEN else otherwise
        return {"mb": ceil(size), "item": f"PostgreSQL: {item}", "lower": lower}

    many = "postgresql_max_connections"
    rows = [
        row(shared, "shared_buffers", "shared_buffers"),
        row(shared / 32 + wal_buffers + _shared_beside(connections),
            "shared memory beside them: WAL buffers, locks", "shared_buffers"),
        row(users * work_mem * multiplier,
            f"work_mem {work_mem:g} x hash_mem_multiplier {multiplier:g} x {users} processes at once,\n"
            f"{busy_percent} % (postgresql_busy_percent) of {connections:g} connections, "
            f"and {parallel:g} parallel", "work_mem"),
        row(processes * PROCESS_MB,
            f"{processes} processes at {PROCESS_MB}: connections, parallel, autovacuum",
            "max_connections", many),
        row(maintenance, "maintenance_work_mem, one index build at a time", "maintenance_work_mem"),
        row(vacuums * vacuum, f"autovacuum_work_mem {vacuum:g} x {vacuums:g} workers", "autovacuum_work_mem"),
    ]  # fmt: skip
    if str(table.get("huge_pages", {"value": "try"})["value"]).lower() != "on":
        # 8 bytes for each page of 4 kB, in each process that has touched it; `try` promises no huge pages.
        tables = "their page tables, unless huge pages are granted"
        rows.insert(4, row(connections * shared / 512, tables, "shared_buffers", many))
    return rows


def _set(value: Any, why: str) -> Setting:
    return {"value": value, "why": why}


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(most, value))


def _work_mem_users(connections: int, busy_percent: int, parallel: int) -> int:
    """Processes that use work_mem at once: a share of the connections, and every parallel worker."""
    return ceil(connections * busy_percent / 100) + parallel


def _shared_beside(connections: float) -> float:
    """Shared memory that grows neither with shared_buffers nor with wal_buffers.

    With a 32nd of shared_buffers it covers what `postgres -C shared_memory_size` says on 15 and
    17 from 64 MB to 32 GB of shared_buffers and from 40 to 300 connections.
    """
    return 8 + connections / 16


def _set_by_hand(table: Mapping[str, Setting], name: str) -> bool:
    """Whether a size is given; -1 leaves it to PostgreSQL."""
    return str(table[name]["value"]).strip() != "-1"


def _size(table: Mapping[str, Setting], name: str) -> float:
    return _megabytes(name, table[name]["value"])


def _megabytes(name: str, value: Any) -> float:
    """A size as PostgreSQL writes it, in MB. A number without a unit would count in the setting's own one."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)\s*", str(value))
    automatic = name in {"wal_buffers", "autovacuum_work_mem", "max_slot_wal_keep_size", "temp_file_limit"}
    if found is None and not (automatic and str(value).strip() == "-1"):
        raise AnsibleFilterError(
            f"postgresql_settings: {name} is {value!r}; allowed: a number with B, kB, MB, GB or TB, "
            + ("such as 64MB, or -1" if automatic else "such as 64MB")
        )
    return float(found[1]) * UNITS[found[2]] if found else 0


def _number(table: Mapping[str, Setting], name: str) -> float:
    value = table[name]["value"]
    if re.fullmatch(r"\d+(\.\d+)?", str(value).strip()) is None:
        raise AnsibleFilterError(f"postgresql_settings: {name} is {value!r}; allowed: a number, not below 0")
    return float(value)


def decreasing(reasons: Iterable[str], names: Iterable[str]) -> bool:
    """Whether one of `names` is to become smaller, by reasons such as "max_connections (100 -> 40)"."""
    for reason in reasons:
        found = re.fullmatch(r"(\S+) \((\d+) -> (\d+)\)", reason)
        if found and found[1] in names and int(found[3]) < int(found[2]):
            return True
    return False


class FilterModule:
    """The filters that the roles postgresql and preflight use."""

    def filters(self) -> dict[str, Any]:
        return {
            "max_connections": max_connections,
            "postgresql_memory_rows": postgresql_memory_rows,
            "decreasing": decreasing,
            "setting_values": setting_values,
            "tune_disk": tune_disk,
            "tune_memory": tune_memory,
            "with_overrides": with_overrides,
        }
