"""How a host's memory and PostgreSQL's connections are shared out, and whether the shares add up.

Pure functions over numbers; memory is in MB (2**20 bytes). Preflight refuses what does not fit, with the
table; playbooks/ledger.yml prints both tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, TypedDict

from ansible.errors import AnsibleFilterError

PGBOUNCER_BASE_MB = 16
PGBOUNCER_CLIENT_KB = 48  # 2 kB for the client, the rest for its TLS state
REDIS_CLIENT_KB = 48  # of TLS state, which Redis does not count in maxmemory: 7.0 27 to 33, 8.0 43 to 47
CLIENTS_ADMITTED_PERCENT = 80


class Ledger(TypedDict):
    """Whether it adds up; what does not and what would mend it; the sum, line by line."""

    fits: bool
    problems: list[str]
    table: str


def system_reserve(memory_mb: int) -> int:
    """MB for the kernel, systemd, sshd, a run of Ansible with apt, and the least of a page cache."""
    return max(256, memory_mb // 10)


def postgresql_share(memory_mb: int, beside_redis: bool) -> int:
    """MB that PostgreSQL may take of a host, in steps of 16, so that what else the play puts there fits."""
    return (memory_mb - system_reserve(memory_mb)) * (55 if beside_redis else 90) // 100 // 16 * 16


def most_processes(processes: int, overlap_percent: int) -> int:
    """The application's processes while a deployment replaces them."""
    return processes + ceil(processes * overlap_percent / 100)


def pool_size(cores: int, memory_mb: int) -> int:
    """Connections that PgBouncer keeps for each user.

    Four for each core: some wait for the disk or for the row of a room that another one holds, while a core
    serves the rest. One for each 160 MB of memory at most, from 5 to 100.
    """
    return max(5, min(4 * cores, memory_mb // 160, 100))


def pgbouncer_memory_rows(max_client_conn: int) -> list[dict[str, Any]]:
    """What PgBouncer takes with `max_client_conn` TLS clients."""
    mb = PGBOUNCER_BASE_MB + ceil(max_client_conn * PGBOUNCER_CLIENT_KB / 1024)
    item = (
        f"PgBouncer: {PGBOUNCER_BASE_MB}, and {PGBOUNCER_CLIENT_KB} kB for each of {max_client_conn} clients"
    )
    return [{"mb": mb, "item": item, "lower": "pgbouncer_max_client_conn"}]


def redis_memory_rows(instances: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each Redis takes: maxmemory, buffers, its clients' TLS, and the copy of a fork where it persists.

    `instances`: maxmemory_mb, maxclients and persistence of each. What waits for clients is counted in
    maxmemory by Redis itself. A fork copies the pages that change while it writes; half of them is the
    allowance.
    """
    rows = []
    for name, instance in sorted(instances.items()):
        maxmemory, lower = int(instance["maxmemory_mb"]), f"redis_instances.{name}.maxmemory_mb"
        clients = int(instance["maxclients"])
        parts = [
            (maxmemory, "maxmemory", lower),
            (maxmemory // 10 + 16, "buffers and fragmentation, a tenth and 16", lower),
            (ceil(clients * REDIS_CLIENT_KB / 1024), f"{REDIS_CLIENT_KB} kB for each of {clients} clients",
             f"redis_instances.{name}.settings.maxclients"),
        ]  # fmt: skip
        if instance["persistence"]:
            parts.append((maxmemory // 2, "a copy of half its pages while it saves", lower))
        rows += [{"mb": mb, "item": f"Redis {name}: {item}", "lower": by} for mb, item, by in parts]
    return rows


def memory_ledger(memory_mb: int, rows: Sequence[Mapping[str, Any]]) -> Ledger:
    """Whether `rows` (mb, item, lower) and the system's reserve fit `memory_mb`."""
    reserve = system_reserve(memory_mb)
    total = sum(row["mb"] for row in rows) + reserve
    lines = [
        ("", "", "lower it by"),
        *((str(row["mb"]), row["item"], row["lower"]) for row in rows),
        (str(reserve), "the system: a tenth of the host, 256 at least", ""),
        ("", "", ""),
        (str(total), "the sum", ""),
        (str(memory_mb), "the host has (common_memory_mb)", ""),
        (str(abs(memory_mb - total)), "free" if total <= memory_mb else "MISSING", ""),
    ]
    problems = []
    if total > memory_mb:
        shares: dict[str, int] = {}
        for row in rows:
            shares[row["lower"]] = shares.get(row["lower"], 0) + row["mb"]
        largest = sorted(shares.items(), key=lambda share: -share[1])
        problems.append(
            f"{total - memory_mb} MB short of memory. Lower one or more of these, or take a larger host "
            f"(common_memory_mb, {memory_mb}, is what it may plan with):\n"
            + "\n".join(f"  {variable}, {mb} MB of the sum" for variable, mb in largest)
        )
    return {"fits": not problems, "problems": problems, "table": _table("Memory, in MB", lines)}


def connection_ledger(plan: Mapping[str, Any], settings: Mapping[str, Any]) -> Ledger:
    """Whether the connections of each stage fit the next one.

    `plan`: application_processes, application_overlap_percent, application_pool_size; max_client_conn;
    users, pool_size, pool_reserve, auth_connections of each of `bouncers`; operator_connections.
    `settings`: PostgreSQL's, of which max_connections and what it keeps for superusers count.
    """
    processes = _count(plan, "application_processes", 0)
    overlap = _count(plan, "application_overlap_percent", 0)
    pool = _count(plan, "application_pool_size", 1)
    most = most_processes(processes, overlap)
    clients, max_clients = most * pool, _count(plan, "max_client_conn", 1)
    admitted = max_clients * CLIENTS_ADMITTED_PERCENT // 100

    size, reserve = _count(plan, "pool_size", 1), _count(plan, "pool_reserve", 0)
    auth, bouncers = int(plan["auth_connections"]), int(plan["bouncers"])
    servers = (len(plan["users"]) * (size + reserve) + auth) * bouncers

    limit, operators = int(settings["max_connections"]), _count(plan, "operator_connections", 0)
    superusers = int(settings["superuser_reserved_connections"]) + int(
        settings.get("reserved_connections", 0)
    )
    left = limit - superusers - operators
    problems = []
    if clients > admitted:
        problems.append(
            f"the application may open {clients} connections, PgBouncer admits {admitted}: lower "
            "common_application_processes, common_application_overlap_percent or "
            "pgbouncer_application_pool_size, or raise pgbouncer_max_client_conn to "
            f"{ceil(clients * 100 / CLIENTS_ADMITTED_PERCENT)}"
        )
    if servers > left:
        problems.append(
            f"PgBouncer may open {servers} connections, PostgreSQL has {left} for it: lower "
            "common_pool_size or common_pool_reserve, or raise postgresql_max_connections to "
            f"{servers + superusers + operators}"
        )
    lines = [
        ("", "", "set by"),
        (str(processes), "processes of the application", "common_application_processes"),
        (f"+ {most - processes}", f"more while a deployment replaces them, {overlap} %",
         "common_application_overlap_percent"),
        (f"x {pool}", "connections in the pool of each", "pgbouncer_application_pool_size"),
        (f"= {clients}", "clients of PgBouncer", ""),
        (str(admitted), f"admitted: {CLIENTS_ADMITTED_PERCENT} % of {max_clients}{_mark(clients > admitted)}",
         "pgbouncer_max_client_conn"),
        ("", "", ""),
        *((str(size + reserve), f"PgBouncer's pool for {user}: {size} and {reserve} more when clients wait",
           "common_pool_size, common_pool_reserve") for user in plan["users"]),
        (f"+ {auth}", "to ask for passwords", ""),
        (f"x {bouncers}", "PgBouncer, each with pools of its own", ""),
        (f"= {servers}", "clients of PostgreSQL", ""),
        ("", "", ""),
        (str(limit), "max_connections", "postgresql_max_connections"),
        (f"- {superusers}", "for superusers", ""),
        (f"- {operators}", "for operators, migrations, LISTEN", "postgresql_operator_connections"),
        ("- 0", "for replication, which has max_wal_senders of its own", ""),
        (f"= {left}", f"for PgBouncer{_mark(servers > left)}", ""),
    ]  # fmt: skip
    return {"fits": not problems, "problems": problems, "table": _table("Connections", lines)}


def redis_connection_ledger(
    processes: int, overlap_percent: int, instances: Mapping[str, Mapping[str, Any]]
) -> Ledger:
    """Whether each instance admits what the application's processes open.

    `instances`: connections (of one process) and maxclients of each.
    """
    most = most_processes(processes, overlap_percent)
    lines = [
        ("", "", "set by"),
        (str(processes), "processes of the application", "common_application_processes"),
        (f"+ {most - processes}", f"more while a deployment replaces them, {overlap_percent} %",
         "common_application_overlap_percent"),
    ]  # fmt: skip
    problems = []
    for name, instance in sorted(instances.items()):
        connections, maxclients = int(instance["connections"]), int(instance["maxclients"])
        clients, admitted = most * connections, maxclients * CLIENTS_ADMITTED_PERCENT // 100
        where = f"redis_instances.{name}"
        if clients > admitted:
            problems.append(
                f"the application may open {clients} connections to Redis's instance {name}, which admits "
                f"{admitted}: lower common_application_processes, common_application_overlap_percent or "
                f"{where}.pool_size, or raise {where}.settings.maxclients to "
                f"{ceil(clients * 100 / CLIENTS_ADMITTED_PERCENT)}"
            )
        lines += [
            ("", "", ""),
            (f"x {connections}", f"connections of each to {name}: pool, Socket.IO's adapters, expiry events",
             f"{where}.pool_size, redis_socketio_adapter"),
            (f"= {clients}", f"clients of {name}", ""),
            (str(admitted),
             f"admitted: {CLIENTS_ADMITTED_PERCENT} % of maxclients, {maxclients}{_mark(clients > admitted)}",
             f"{where}.settings.maxclients"),
        ]  # fmt: skip
    return {"fits": not problems, "problems": problems, "table": _table("Connections to Redis", lines)}


def _mark(short: bool) -> str:
    return " <-- NOT ENOUGH" if short else ""


def _count(plan: Mapping[str, Any], name: str, least: int) -> int:
    """A whole number of the plan, by the name that follows its role's."""
    value = int(plan[name])
    if value < least:
        raise AnsibleFilterError(f"*_{name} is {value}; allowed: {least} or more")
    return value


def _table(title: str, lines: Iterable[tuple[str, str, str]]) -> str:
    """Three aligned columns under a title: numbers to the right, text (perhaps several lines) left."""
    rows = []
    for number, text, last in lines:
        first, *more = text.split("\n")
        rows += [(number, first, last), *(("", f"  {line}", "") for line in more)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(
        [title]
        + [f"{number:>{widths[0]}}  {text:<{widths[1]}}  {last}".rstrip() for number, text, last in rows]
    )


class FilterModule:
    """The filters that the roles' defaults, preflight and playbooks/ledger.yml use."""

    def filters(self) -> dict[str, Any]:
        return {
            "connection_ledger": connection_ledger,
            "memory_ledger": memory_ledger,
            "most_processes": most_processes,
            "pgbouncer_memory_rows": pgbouncer_memory_rows,
            "pool_size": pool_size,
            "postgresql_share": postgresql_share,
            "redis_connection_ledger": redis_connection_ledger,
            "redis_memory_rows": redis_memory_rows,
        }
