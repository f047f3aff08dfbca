"""All figures, on one fresh Debian 13 host in a container, which goes again at the end.

make bench
python benchmarks/bench.py [--only PART...] [--rounds N] [--seconds S] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.provision import BIN, INVENTORY, PROJECT, ping, report, run

HOST = "bench1"
PARTS = ("provision", "chat_load", "migrations", "redis", "chatdata", "seed")


def say(began: float, words: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    print(f"\n==> {minutes:2d}:{seconds:02d}  {words}", flush=True)


def host_variables() -> dict[str, str]:
    """The host's variables as the inventory has them."""
    words = [str(BIN / "ansible-inventory"), "-i", str(INVENTORY), "--host", HOST]
    done = subprocess.run(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    variables: dict[str, str] = json.loads(done.stdout)
    return variables


def on_host(*words: str, stdin: str = "") -> None:
    """Run a program of the project on the host, where it is mounted, as root; show its output meanwhile."""
    variables = host_variables()
    state = INVENTORY / ".state"
    options = ["-i", str(state / "id_ed25519"), "-o", f"UserKnownHostsFile={state / 'known_hosts'}"]
    target = f"{variables['ansible_user']}@{variables['ansible_host']}"
    program = ["sudo", "python3", "-B", "-u", *words]
    ssh = ["ssh", *options, "-o", "BatchMode=yes", target, "cd /project &&", *program]
    subprocess.run(ssh, input=stdin, text=True, check=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, help="instead of each part's own number")
    parser.add_argument("--seconds", type=int, help="that chat_load counts in each run")
    parser.add_argument("--keep", action="store_true", help="keep the host, and use one that was kept")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    began = time.monotonic()
    rounds = ("--rounds", str(options.rounds)) if options.rounds else ()
    seconds = ("--seconds", str(options.seconds)) if options.seconds else ()

    say(began, f"a Debian 13 host in a container; this machine has {os.cpu_count()} cores")
    run("ansible-playbook", "playbooks/environment.yml", "-e", "environment_name=benchmarks/inventory")
    if not options.keep:
        run("ansible-playbook", "molecule/shared/destroy.yml")
    run("ansible-playbook", "molecule/shared/create.yml")
    try:
        say(began, "the first run of the play")
        cold_ping = ping()
        cold = run("ansible-playbook", "playbook.yml")
        if "provision" in options.only:
            say(began, "provision: the play again and again, with nothing to change")
            report(cold, cold_ping, options.rounds or 5)
        if {"chat_load", "migrations"} & set(options.only):
            # The ledger and the module's harness import Ansible.
            apt = "name=ansible-core install_recommends=false"
            run("ansible", "all", "--become", "-m", "ansible.builtin.apt", "-a", apt)
        if "chat_load" in options.only:
            say(began, "chat_load: our settings beside others, on the host")
            variables = host_variables()
            told = (
                "--memory-mb",
                str(variables["common_memory_mb"]),
                "--cores",
                str(variables["common_cores"]),
            )
            on_host("benchmarks/chat_load/run.py", *told, *rounds, *seconds)
        if "migrations" in options.only:
            say(began, "migrations: the module beside its peers, on the host")
            on_host("benchmarks/migrations.py", *(rounds or ("--rounds", "3")), "--quick")
        if "redis" in options.only:
            say(began, "redis: TLS and ACL users beside a stock server, and an AOF rewrite, on the host")
            users = ("chat_admin", "chat_app_sessions", "chat_app_realtime")
            variables = host_variables()
            passwords = {user: variables[f"vault_redis_{user}_password"] for user in users}
            on_host("benchmarks/redis/run.py", *rounds, stdin=json.dumps(passwords))
        if "chatdata" in options.only:
            say(began, "chatdata: repositories beside psycopg and SQLAlchemy, from this machine")
            subprocess.run([sys.executable, "benchmarks/chatdata/run.py", *rounds], cwd=PROJECT, check=True)
        if "seed" in options.only:
            say(began, "seed: chatdata's rows beside a bare COPY of the same messages, from this machine")
            here = os.environ | {"CHATDATA_INVENTORY": str(INVENTORY)}
            words = [sys.executable, "benchmarks/chatdata/seed.py", *rounds]
            subprocess.run(words, cwd=PROJECT, env=here, check=True)
    finally:
        if not options.keep:
            run("ansible-playbook", "molecule/shared/destroy.yml")
    say(began, "done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
