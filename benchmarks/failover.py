"""How long clients cannot write when a cluster loses something: many failovers of each kind.

The cluster is there already (`molecule converge -s cluster` makes one), and its data is of no value. The
faults take turns, so that whatever else happens on the machine meets all of them alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / ".cache/gameday.jsonl"
KINDS = "kill_host or freeze_host or cut_from_peers or kill_postmaster or switchover or kill_redis"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inventory", help="such as molecule/cluster/inventory")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--faults", default=KINDS, help="pytest's expression; names: tests/gameday/faults.py")
    given = parser.parse_args()
    before = len(RESULTS.read_text().splitlines()) if RESULTS.exists() else 0
    extra = json.dumps({"gameday_rounds": given.rounds, "gameday_faults": given.faults})
    playbook = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [playbook, "playbooks/gameday.yml", "-i", given.inventory, "-e", extra], cwd=PROJECT, check=False
    )
    found = [json.loads(line) for line in RESULTS.read_text().splitlines()[before:]]
    print(f"\n{'':20}{'rows: gap in s':>24}{'':>22}tokens: gap in s")
    print(
        f"{'fault':20}"
        + "{:>8}{:>8}{:>8}{:>14}{:>6}".format("min", "median", "max", "acknowledged", "lost") * 2
    )
    for fault in dict.fromkeys(result["fault"] for result in found):
        line = f"{fault:20}"
        for kind in ("rows", "tokens"):
            these = [result[kind] for result in found if result["fault"] == fault]
            gaps = [result["gap_s"] for result in these]
            acknowledged, lost = (sum(result[key] for result in these) for key in ("acknowledged", "lost"))
            line += f"{min(gaps):8.1f}{statistics.median(gaps):8.1f}{max(gaps):8.1f}{acknowledged:14}{lost:6}"
        print(line)
    twice = sum(result["twice"] for result in found)
    print(f"{len(found)} failovers; two nodes accepted writes at once: {twice} times")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
