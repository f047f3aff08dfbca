"""Sizes of PostgreSQL, PgBouncer and Redis from what the host has, and whether they add up.

Pure functions over numbers; all memory is in MB (2**20 bytes). The roles' defaults call
them as filters, preflight refuses what does not fit and prints the ledger that says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from ansible.errors import AnsibleFilterError

SUPERUSER_RESERVE = 3
OPERATORS_RESERVE = 10  # direct connections: migrations, LISTEN, backups, a person with psql
BACKEND_MB = 5  # a connected backend beside work_mem: catalogue caches, TLS, the stack
PGBOUNCER_BASE_MB = 16
PGBOUNCER_CLIENT_KB = 48  # 2 kB for the client, the rest for its TLS state
AUTOVACUUM_WORKERS = 3
MEMORY_SETTINGS = frozenset(
    {
        "shared_buffers",
        "effective_cache_size",
        "work_mem",
        "maintenance_work_mem",
        "max_wal_size",
        "min_wal_size",
    }
)


def system_reserve(memory_mb: int) -> int:
    """MB that the kernel, systemd, sshd and the page cache's minimum keep: a tenth, at least 384."""
    return max(384, memory_mb // 10)


def max_connections(server_connections: int) -> int:
    """max_connections for what PgBouncer may open, and the reserves, rounded up to ten."""
    return ceil((server_connections + SUPERUSER_RESERVE + OPERATORS_RESERVE) / 10) * 10


def postgresql_sizes(memory_mb: int, connections: int, cores: int, disk_gb: int) -> dict[str, int]:
    """PostgreSQL's own sizes within `memory_mb`: settings in MB, and worker counts.

    A quarter for shared_buffers, a quarter for work_mem over all connections at once,
    a quarter for maintenance, the rest for the backends themselves and the page cache.
    The WAL between two checkpoints may take a twentieth of the disk, at most 8 GB.
    Sources: PostgreSQL's documentation, "Resource Consumption"; the ledger adds them up.
    """
    quarter = memory_mb // 4
    max_wal_size = max(128, min(8192, disk_gb * 1024 // 20))
    return {
        "shared_buffers": quarter,
        "effective_cache_size": memory_mb * 3 // 4,
        "work_mem": max(2, min(64, quarter // connections)),
        "maintenance_work_mem": max(16, min(1024, quarter // (AUTOVACUUM_WORKERS + 1))),
        "max_wal_size": max_wal_size,
        "min_wal_size": max(64, max_wal_size // 8),
        "max_worker_processes": max(8, cores),
        "max_parallel_workers": max(2, cores),
        "max_parallel_workers_per_gather": max(1, min(4, cores // 2)),
    }


def with_overrides(sizes: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, int]:
    """`sizes` with what `settings` overrides of them, in MB or counts, so that the ledger adds what is set.

    Raises AnsibleFilterError for a size that is no number with a unit of kB, MB, GB or TB.
    """
    return {
        name: _megabytes(name, settings[name]) if name in settings else size for name, size in sizes.items()
    }


def _megabytes(name: str, value: Any) -> int:
    """A setting's value as PostgreSQL writes it, in MB; a bare number is a count or in the setting's unit."""
    units = {"kB": 1 / 1024, "MB": 1, "GB": 1024, "TB": 1024 * 1024}
    found = re.fullmatch(r"\s*(\d+)\s*(kB|MB|GB|TB)?\s*", str(value))
    if found is None or (found[2] is None and name in MEMORY_SETTINGS):
        raise AnsibleFilterError(
            f"postgresql_settings: {name} is {value!r}; allowed: a whole number"
            + (" with kB, MB, GB or TB, such as 64MB" if name in MEMORY_SETTINGS else "")
        )
    return ceil(int(found[1]) * units.get(found[2], 1))


def postgresql_memory(sizes: Mapping[str, int], connections: int) -> int:
    """MB that PostgreSQL needs when every connection and every worker is busy."""
    return (
        sizes["shared_buffers"]
        + connections * (sizes["work_mem"] + BACKEND_MB)
        + (AUTOVACUUM_WORKERS + 1) * sizes["maintenance_work_mem"]
    )


def pgbouncer_memory(max_client_conn: int) -> int:
    """MB that PgBouncer needs with `max_client_conn` TLS clients."""
    return PGBOUNCER_BASE_MB + ceil(max_client_conn * PGBOUNCER_CLIENT_KB / 1024)


def redis_memory(instance: Mapping[str, Any]) -> int:
    """MB that one Redis needs: maxmemory, its buffers, and the copy of a fork where it persists.

    A fork copies the pages that change while it runs; half of them is the allowance.
    """
    maxmemory = int(instance["maxmemory_mb"])
    headroom = maxmemory // 2 if instance["persistence"] else 0
    return maxmemory + maxmemory // 10 + 16 + headroom


def memory_ledger(memory_mb: int, entries: Mapping[str, int]) -> dict[str, Any]:
    """Whether `entries` (name to MB) and the system's reserve fit `memory_mb`.

    Returns {"fits": bool, "over_mb": int, "table": str}.
    """
    rows = {**entries, "system": system_reserve(memory_mb)}
    total = sum(rows.values())
    return {
        "fits": total <= memory_mb,
        "over_mb": max(0, total - memory_mb),
        "table": _table([*rows.items(), ("sum", total), ("the host has", memory_mb)], "MB"),
    }


def connection_ledger(clients: int, max_client_conn: int, servers: int, connections: int) -> dict[str, Any]:
    """Whether the connections of each stage fit the next one.

    `clients`: application processes x their pool; `servers`: what PgBouncer may open, over
    all its pools; `connections`: PostgreSQL's max_connections.
    Returns {"fits": bool, "problems": [str], "table": str}.
    """
    clients_allowed = max_client_conn * 8 // 10
    servers_allowed = connections - SUPERUSER_RESERVE - OPERATORS_RESERVE
    problems = []
    if clients > clients_allowed:
        problems.append(
            f"the application may open {clients} connections, PgBouncer takes {clients_allowed} "
            f"(80 % of pgbouncer_max_client_conn, {max_client_conn}): lower "
            "pgbouncer_application_processes or pgbouncer_application_pool_size, or raise "
            "pgbouncer_max_client_conn"
        )
    if servers > servers_allowed:
        problems.append(
            f"PgBouncer may open {servers} connections, PostgreSQL has {servers_allowed} for it "
            f"(postgresql_max_connections, {connections}, less {SUPERUSER_RESERVE} for superusers "
            f"and {OPERATORS_RESERVE} for operators): lower common_pool_size or common_pool_reserve, or "
            "raise postgresql_max_connections"
        )
    rows = [
        ("application processes x pool", clients),
        ("PgBouncer takes (80 %)", clients_allowed),
        ("PgBouncer's pools", servers),
        ("PostgreSQL has for them", servers_allowed),
    ]
    return {"fits": not problems, "problems": problems, "table": _table(rows, "connections")}


def _table(rows: Sequence[tuple[str, int]], unit: str) -> str:
    """Two aligned columns, one row a line."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>7} {unit}" for name, value in rows)


class FilterModule:
    """The filters that the roles' defaults and preflight use."""

    def filters(self) -> dict[str, Any]:
        return {
            "max_connections": max_connections,
            "memory_ledger": memory_ledger,
            "connection_ledger": connection_ledger,
            "pgbouncer_memory": pgbouncer_memory,
            "postgresql_memory": postgresql_memory,
            "postgresql_sizes": postgresql_sizes,
            "redis_memory": redis_memory,
            "with_overrides": with_overrides,
        }
