#!/usr/bin/python3
# Ansible managed
"""Gives PostgreSQL exactly the huge pages that it needs, just before it starts.

usage: chat-huge-pages VERSION-CLUSTER

The kernel's pool becomes what others use plus what the stopped server asks for. If the kernel cannot find
that many, the pool gets back what it had to give: pages that PostgreSQL cannot use would be lost to all.
PostgreSQL's huge_pages = off leaves the pool alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

POOL = Path("/proc/sys/vm/nr_hugepages")
MEMORY = Path("/proc/meminfo")
AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]  # no session, no log line


def in_use(meminfo: str) -> int:
    """Huge pages that processes hold or have reserved, from /proc/meminfo's text."""
    pages = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in meminfo.splitlines())}
    return pages["HugePages_Total"] - pages["HugePages_Free"] + pages["HugePages_Rsvd"]


def provide(need: int, pool: Path, memory: Path) -> str:
    """Make the pool hold `need` free pages, or none; what came of it, in a sentence."""
    others = in_use(memory.read_text())
    if int(pool.read_text()) == others + need:
        return f"{need} huge pages were there"
    try:
        pool.write_text(f"{others + need}\n")
        got = max(0, int(pool.read_text()) - others)
        if got >= need:
            return f"{need} huge pages provided"
        pool.write_text(f"{others}\n")
    except OSError as error:
        return f"{pool}: {error.strerror}; PostgreSQL uses the huge pages that the machine's owner provides"
    return f"the kernel found {got} huge pages of {need} and has them back; PostgreSQL uses ordinary pages"


def ask(cluster: str) -> Callable[[str], str]:
    """A function that gives a setting of the stopped server, computed ones included."""
    version, name = cluster.split("-", 1)
    postgres = [f"/usr/lib/postgresql/{version}/bin/postgres", "-D", f"/etc/postgresql/{version}/{name}"]

    def setting(wanted: str) -> str:
        command = [*AS_POSTGRES, *postgres, "-C", wanted]
        return subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=60, cwd="/"
        ).stdout.strip()

    return setting


def main(cluster: str) -> None:
    setting = ask(cluster)
    if setting("huge_pages") == "off":
        print("huge_pages is off; the pool stays as it is")
        return
    need = int(setting("shared_memory_size_in_huge_pages"))
    print("huge pages do not exist here" if need < 0 else provide(need, POOL, MEMORY))


if __name__ == "__main__":
    main(*sys.argv[1:])
