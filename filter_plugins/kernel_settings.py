"""The kernel's settings for a host of PostgreSQL or Redis, each with its reason.

Pure functions over numbers. The role `kernel` writes the result into the files that the next boot
reads, and brings the running kernel to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

# Not a sysctl, so it lies elsewhere.
TRANSPARENT_HUGE_PAGES = "transparent_hugepage"
SOMAXCONN_DEFAULT = 4096  # the kernel's own since 5.4; never lowered
HALF_SECOND_MB = {"hdd": 64, "ssd": 256, "nvme": 512}  # what such a disk writes at least
MODES = ("always", "madvise", "never")

# What the kernel takes, of the settings that an inventory may set.
LIMITS = {
    "net.core.somaxconn": (128, 65535),
    "vm.dirty_background_bytes": (8192, 2**40),
    "vm.dirty_bytes": (8192, 2**40),
    "vm.overcommit_memory": (0, 2),
    "vm.overcommit_ratio": (1, 100),
    "vm.swappiness": (0, 200),
}

Settings = dict[str, dict[str, Any]]


def kernel_settings(host: Mapping[str, Any], overrides: Mapping[str, Any]) -> Settings:
    """Each setting's name to {"value", "why", "path"}, in an order in which they can be applied.

    `host`: memory_mb (what the roles may plan with), total_mb and swap_mb (what the kernel has),
    disk (hdd, ssd or nvme), postgresql and redis (whether they are here), persists (whether a Redis does),
    promised_mb (the ledger's daemons), fits (the ledger), backlogs (daemon to connections that may wait).
    `overrides`: other values by name; None leaves a setting to the kernel.
    Raises AnsibleFilterError for a value that the kernel would refuse.
    """
    computed = {
        **_swapping(),
        **_writeback(int(host["memory_mb"]), str(host["disk"])),
        **_overcommit(host),
        **_backlog(host["backlogs"]),
        **_transparent_huge_pages(),
    }
    if not isinstance(overrides, Mapping):
        raise AnsibleFilterError(f"kernel_settings is {overrides!r}; allowed: a dictionary of name and value")
    for name, value in overrides.items():
        computed[name] = (_allowed(name, value), "kernel_settings in the inventory.")
    if computed.get("vm.overcommit_memory", (0,))[0] != 2 and "vm.overcommit_ratio" not in overrides:
        computed.pop("vm.overcommit_ratio", None)
    return {
        name: {"value": value, "why": why, "path": path_of(name)}
        for name, (value, why) in computed.items()
        if value is not None
    }


def path_of(name: str) -> str:
    """The file by which the running kernel shows and takes the setting."""
    if name == TRANSPARENT_HUGE_PAGES:
        return "/sys/kernel/mm/transparent_hugepage/enabled"
    return "/proc/sys/" + name.replace(".", "/")


def _allowed(name: str, value: Any) -> Any:
    """`value` if the kernel takes it for `name`, numbers as int."""
    if value is None:
        return None
    if name == TRANSPARENT_HUGE_PAGES:
        allowed, good = ", ".join(MODES), value in MODES
    elif name in LIMITS:
        least, most = LIMITS[name]
        allowed = f"a whole number from {least} to {most}"
        good = re.fullmatch(r"\d+", str(value)) is not None and least <= int(value) <= most
    else:
        raise AnsibleFilterError(
            f"kernel_settings: {name} is none that the role sets; allowed: "
            + ", ".join([*LIMITS, TRANSPARENT_HUGE_PAGES])
        )
    if not good:
        raise AnsibleFilterError(
            f"kernel_settings: {name} is {value!r}; allowed: {allowed}, or null to leave it to the kernel"
        )
    return value if name == TRANSPARENT_HUGE_PAGES else int(value)


def _swapping() -> dict[str, tuple[Any, str]]:
    return {
        "vm.swappiness": (
            1,
            "A page of shared_buffers or of Redis on disk is a stall; swap only at the last.",
        )
    }


def _writeback(memory_mb: int, disk: str) -> dict[str, tuple[Any, str]]:
    """How much written data may wait: what the disk takes in half a second, and in two seconds.

    The stock 10 % and 20 % of memory let gigabytes gather, for which a checkpoint's fsync then waits; on
    a small host they are the less, and hold.
    """
    half_second_mb = HALF_SECOND_MB[disk]
    background = min(half_second_mb, memory_mb * 10 // 100)
    most = min(4 * half_second_mb, memory_mb * 20 // 100)
    return {
        "vm.dirty_background_bytes": (
            background * 2**20,
            f"{background} MB: the disk ({disk}) is written to early, so that fsync finds little left.",
        ),
        "vm.dirty_bytes": (
            most * 2**20,
            f"{most} MB: what the disk ({disk}) writes in about two seconds; beyond it writers wait.",
        ),
    }


def _overcommit(host: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """The one rule for vm.overcommit_memory.

    1 where a Redis persists and the ledger holds: its fork promises its whole memory twice, and the
    ledger has room for what the fork really copies. 2 where PostgreSQL is alone: a query that asks
    for too much gets an error, instead of the OOM killer taking the server. Otherwise the kernel's own.
    """
    if host["redis"] and host["persists"] and host["fits"]:
        return {
            "vm.overcommit_memory": (
                1,
                "A persistent Redis forks and promises its memory twice; the ledger has the real need.",
            )
        }
    if host["postgresql"] and not host["redis"]:
        ratio = overcommit_ratio(
            int(host["memory_mb"]), int(host["total_mb"]), int(host["swap_mb"]), int(host["promised_mb"])
        )
        return {
            "vm.overcommit_ratio": (
                ratio,
                f"Of {host['memory_mb']} MB the ledger promises {host['promised_mb']}; "
                "half of the rest stays for the page cache.",
            ),
            "vm.overcommit_memory": (
                2,
                "PostgreSQL alone: a query that wants too much gets an error, no process is killed.",
            ),
        }
    return {}


def overcommit_ratio(memory_mb: int, total_mb: int, swap_mb: int, promised_mb: int) -> int:
    """vm.overcommit_ratio with which everything but half of the plan's free memory may be promised.

    CommitLimit = (memory - huge pages) * ratio / 100 + swap. Swap is no memory to plan with, so it is taken
    off. Huge pages lower the limit by less than they take off what is promised, so it suffices whether
    PostgreSQL gets them or not. What `memory_mb` leaves of `total_mb` is others', who promise too.
    """
    page_cache = max(0, memory_mb - promised_mb) // 2
    limit = max(promised_mb, total_mb - page_cache)
    return max(1, min(100, -(-(limit - swap_mb) * 100 // total_mb)))


def _backlog(backlogs: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """The kernel cuts every listen queue to this: a power of two that none of the daemons exceeds."""
    value, largest = SOMAXCONN_DEFAULT, max(int(backlog) for backlog in backlogs.values())
    while value < min(largest, LIMITS["net.core.somaxconn"][1]):
        value *= 2
    wants = ", ".join(f"{name} {backlog}" for name, backlog in backlogs.items())
    return {
        "net.core.somaxconn": (
            min(value, LIMITS["net.core.somaxconn"][1]),
            f"Connections that may wait to be accepted ({wants}), and never less than the stock 4096.",
        )
    }


def _transparent_huge_pages() -> dict[str, tuple[Any, str]]:
    return {
        TRANSPARENT_HUGE_PAGES: (
            "never",
            "After Redis's fork each write would copy 2 MB; PostgreSQL asks for its huge pages itself.",
        )
    }


class FilterModule:
    """The filter that the role `kernel` uses."""

    def filters(self) -> dict[str, Any]:
        return {"kernel_settings": kernel_settings}
