"""Figures of the play: second run and --check beside `ansible -m ping`, and where the second run's time goes.

The runs of one round follow each other, so that the machine's mood falls on all alike;
every figure is also given as its ratio to the ping of its round.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
INVENTORY = PROJECT / "benchmarks/inventory"
BIN = Path(sys.executable).parent
PROFILE = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks,ansible.posix.profile_roles",
    "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
}

Times = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """One run: seconds, the controller's of CPU, executed tasks, its peak in MB, seconds by task and role."""

    seconds: float
    cpu_seconds: float
    executed: int
    peak_mb: float
    tasks: Times = field(default_factory=dict)
    roles: Times = field(default_factory=dict)


def run(command: str, *arguments: str, inventory: Path = INVENTORY) -> Sample:
    """Run one of Ansible's commands to its end; raises CalledProcessError with its output if it fails."""
    began = time.monotonic()
    process = subprocess.Popen(
        [BIN / command, "-i", inventory, *arguments],
        cwd=PROJECT, env=os.environ | PROFILE, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101  Popen was told to make it
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if status != 0:
        print(output[-6000:], file=sys.stderr)
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), process.args)
    executed = sum(int(count) for count in re.findall(r": ok=(\d+)", output))
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Sample(seconds, cpu_seconds, executed, usage.ru_maxrss / 1024, *profile(output))


def profile(output: str) -> tuple[Times, Times]:
    """Seconds by task and by role, as the callbacks profile_tasks and profile_roles print them at the end."""
    _, _, recap = output.partition("\nTASKS RECAP")
    found: list[Times] = []
    for part in recap.partition("\nROLES RECAP")[::2]:
        times: Times = {}
        for name, seconds in re.findall(r"^(.+?) -+ ([\d.]+)s$", part, re.MULTILINE):
            times[name] = times.get(name, 0) + float(seconds)
        times.pop("total", None)
        found.append(times)
    return found[0], found[1]


def ping() -> Sample:
    return run("ansible", "all", "-m", "ansible.builtin.ping")


def line(name: str, samples: list[Sample], pings: list[Sample]) -> str:
    """A row: median and range of the seconds, median ratio to the ping of the same round, tasks."""
    seconds = [sample.seconds for sample in samples]
    ratios = [sample.seconds / reference.seconds for sample, reference in zip(samples, pings, strict=True)]
    return (
        f"{name:<12} {statistics.median(seconds):7.1f} s  ({min(seconds):.1f} to {max(seconds):.1f})"
        f"  {statistics.median(ratios):6.1f} x ping  {samples[0].executed:4d} tasks"
    )


def shares(title: str, rounds: list[Times], whole: float, most: int | None = None) -> str:
    """A table: the median seconds of each name and their part of `whole`, the largest first."""
    names = {name for times in rounds for name in times}
    medians = {name: statistics.median(times.get(name, 0.0) for times in rounds) for name in names}
    rows = sorted(medians.items(), key=lambda row: -row[1])[:most]
    lines = [f"  {seconds:5.2f} s  {100 * seconds / whole:4.1f} %  {name[:80]}" for name, seconds in rows]
    return "\n".join([title, *lines])


def report(cold: Sample, cold_ping: Sample, rounds: int) -> None:
    """Measure the runs that come after the first, and print all figures."""
    pings: list[Sample] = []
    seconds: list[Sample] = []
    checks: list[Sample] = []
    for number in range(rounds):
        pings.append(ping())
        seconds.append(run("ansible-playbook", "playbook.yml"))
        checks.append(run("ansible-playbook", "playbook.yml", "--check"))
        print(
            f"round {number + 1}  ping {pings[-1].seconds:.1f} s, second run {seconds[-1].seconds:.1f} s,"
            f" --check {checks[-1].seconds:.1f} s",
            flush=True,
        )
    print()
    print(line("ping", pings, pings))
    print(line("first run", [cold], [cold_ping]))
    print(line("second run", seconds, pings))
    print(line("--check", checks, pings))
    peak = max(sample.peak_mb for sample in [cold, *seconds, *checks])
    print(f"controller's peak memory, one process: {peak:.0f} MB")

    whole = statistics.median(sample.seconds for sample in seconds)
    # Outside: Python and Ansible start, the inventory and the vault are read, the plays are put together.
    roles = [
        sample.roles | {"(outside tasks)": sample.seconds - sum(sample.roles.values())} for sample in seconds
    ]
    print()
    print(shares("a second run by role, whose preflight counts as its own", roles, whole))
    print()
    print(shares("and its slowest tasks", [sample.tasks for sample in seconds], whole, most=10))
