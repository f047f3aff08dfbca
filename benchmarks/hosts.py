"""How the time of a run that changes nothing grows from one host to three and to nine.

One host with everything; a cluster of three with everything; one of nine, three for each of etcd (with
HAProxy and the application), PostgreSQL and Redis. Their runs take turns. All the hosts are containers of
this machine, which works for them and for the controller: with few cores it shows their sum, and so the
controller's own seconds of CPU stand beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provision import INVENTORY, PROJECT, Sample, run

FOLDER = PROJECT / ".cache/hosts"
DATA = ("postgresql", "pgbouncer")
CACHE = ("redis", "redis_sentinel")
FRONT = ("etcd", "haproxy", "app")
LAYOUTS: dict[int, list[tuple[str, ...]]] = {
    1: [("postgresql", "pgbouncer", "redis", "app")],
    3: [(*DATA, *CACHE, *FRONT)] * 3,
    9: [DATA] * 3 + [CACHE] * 3 + [FRONT] * 3,
}


def inventory(number: int) -> Path:
    """Write the inventory of so many hosts, as benchmarks/inventory has it for one."""
    folder = FOLDER / str(number)
    (folder / "group_vars/all").mkdir(parents=True, exist_ok=True)
    (folder / "group_vars/all/main.yml").write_text("common_allow_restart: true\n")
    subnet = f"10.203.{60 + number}"
    variables = yaml.safe_load((INVENTORY / "group_vars/containers.yml").read_text())
    variables |= {"containers_network": f"chat-hosts{number}", "containers_subnet": f"{subnet}.0/24"}
    del variables["containers_volumes"]
    (folder / "group_vars/containers.yml").write_text(yaml.safe_dump(variables))
    groups: dict[str, dict[str, Any]] = {}
    for index, names in enumerate(LAYOUTS[number], 1):
        for name in (*names, "containers"):
            hosts = groups.setdefault(name, {"hosts": {}})["hosts"]
            hosts[f"host{index}"] = {"ansible_host": f"{subnet}.{10 + index}"}
    (folder / "hosts.yml").write_text(yaml.safe_dump(groups))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    inventories = {number: inventory(number) for number in LAYOUTS}
    samples: dict[int, list[Sample]] = {number: [] for number in LAYOUTS}
    try:
        for number, where in inventories.items():
            name = f"environment_name={where.relative_to(PROJECT)}"
            run("ansible-playbook", "playbooks/environment.yml", "-e", name, inventory=where)
            run("ansible-playbook", "molecule/shared/destroy.yml", inventory=where)
            run("ansible-playbook", "molecule/shared/create.yml", inventory=where)
            first = run("ansible-playbook", "playbook.yml", inventory=where)
            print(f"{number} hosts: first run {first.seconds:.0f} s, {first.executed} tasks", flush=True)
        for turn in range(rounds):
            for number, where in inventories.items():
                samples[number].append(run("ansible-playbook", "playbook.yml", inventory=where))
            figures = ", ".join(f"{number}: {samples[number][-1].seconds:.1f} s" for number in LAYOUTS)
            print(f"round {turn + 1}  {figures}", flush=True)
    finally:
        for where in inventories.values():
            run("ansible-playbook", "molecule/shared/destroy.yml", inventory=where)
    print(
        f"\na run that changes nothing, on a machine with {os.cpu_count()} cores; x: its ratio to one host's"
    )
    for number, found in samples.items():
        pairs = list(zip(found, samples[1], strict=True))
        print(
            f"{number} hosts  {median(sample.seconds for sample in found):6.1f} s"
            f"  {median(sample.seconds / one.seconds for sample, one in pairs):5.2f} x"
            f"   controller's CPU {median(sample.cpu_seconds for sample in found):6.1f} s"
            f"  {median(sample.cpu_seconds / one.cpu_seconds for sample, one in pairs):5.2f} x"
            f"  {found[0].executed:5d} tasks"
        )


if __name__ == "__main__":
    main()
