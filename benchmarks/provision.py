"""Figures of the play on one fresh Debian 13 host: cold run, second run, --check, beside `ansible -m ping`.

    make bench

The runs of one round follow each other, so that the machine's mood falls on all alike;
every figure is also given as its ratio to the ping of its round. A container of
benchmarks/inventory serves as the host and goes again at the end.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
INVENTORY = PROJECT / "benchmarks/inventory"
ROUNDS = 5
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Sample:
    """One run: wall-clock seconds, tasks that were executed, MB at the controller's peak."""

    seconds: float
    tasks: int
    peak_mb: float


def run(command: str, *arguments: str) -> Sample:
    """Run one of Ansible's commands to its end; raises CalledProcessError with its output if it fails."""
    began = time.monotonic()
    process = subprocess.Popen(
        [BIN / command, "-i", INVENTORY, *arguments],
        cwd=PROJECT, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101  Popen was told to make it
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if status != 0:
        print(output[-6000:], file=sys.stderr)
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), process.args)
    tasks = sum(int(count) for count in re.findall(r": ok=(\d+)", output))
    return Sample(seconds, tasks, usage.ru_maxrss / 1024)


def ping() -> Sample:
    return run("ansible", "all", "-m", "ansible.builtin.ping")


def line(name: str, samples: list[Sample], pings: list[Sample]) -> str:
    """A row: median and range of the seconds, median ratio to the ping of the same round, tasks."""
    seconds = [sample.seconds for sample in samples]
    ratios = [sample.seconds / reference.seconds for sample, reference in zip(samples, pings, strict=True)]
    return (
        f"{name:<12} {statistics.median(seconds):7.1f} s  ({min(seconds):.1f} to {max(seconds):.1f})"
        f"  {statistics.median(ratios):6.1f} x ping  {samples[0].tasks:4d} tasks"
    )


def main() -> int:
    print(f"one Debian 13 host, {ROUNDS} rounds, {os.cpu_count()} cores")
    environment = ("playbooks/environment.yml", "-e", "environment_name=benchmarks/inventory")
    run("ansible-playbook", *environment)
    run("ansible-playbook", "molecule/shared/destroy.yml")
    run("ansible-playbook", "molecule/shared/create.yml")
    try:
        cold_ping = ping()
        cold = run("ansible-playbook", "playbook.yml")
        pings, seconds, checks = [], [], []
        for _ in range(ROUNDS):
            pings.append(ping())
            seconds.append(run("ansible-playbook", "playbook.yml"))
            checks.append(run("ansible-playbook", "playbook.yml", "--check"))
        print(line("ping", pings, pings))
        print(line("cold run", [cold], [cold_ping]))
        print(line("second run", seconds, pings))
        print(line("--check", checks, pings))
        peak = max(sample.peak_mb for sample in [cold, *seconds, *checks])
        print(f"controller's peak memory, one process: {peak:.0f} MB")
    finally:
        run("ansible-playbook", "molecule/shared/destroy.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
