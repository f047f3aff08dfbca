"""Kill a Patroni that hangs: its unit starts it anew, and PostgreSQL runs on meanwhile.

Patroni's /liveness answers 503, or nothing, when its main loop has not come round within ttl. A process that
is stopped answers nothing at once; two answers that stay away are enough, well before ttl is over.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml

PAUSE_S = 1
ANSWER_S = 2
FAILURES = 2


def lives(url: str, context: ssl.SSLContext) -> bool:
    """Whether Patroni says that its main loop comes round."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S, context=context) as answer:  # noqa: S310  our own https
            return bool(answer.status == 200)
    except OSError:
        return False


def main_process() -> int:
    """Patroni's process; 0 where its unit does not run."""
    shown = subprocess.run(
        ["/usr/bin/systemctl", "show", "--property=MainPID", "--value", "patroni.service"],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(shown.stdout)


def main() -> None:
    rest = yaml.safe_load(Path(sys.argv[1]).read_text())["restapi"]
    url = f"https://{rest['connect_address']}/liveness"
    context = ssl.create_default_context(cafile=rest["cafile"])
    silent_since, failures = 0, 0
    while True:
        time.sleep(PAUSE_S)
        if lives(url, context):
            failures = 0
            continue
        process = main_process()
        failures = failures + 1 if process == silent_since else 1  # a new process has time to start
        silent_since = process
        if process and failures >= FAILURES:
            print(f"Patroni (process {process}) did not answer {failures} times: it is killed", flush=True)
            os.kill(process, signal.SIGKILL)
            failures = 0


if __name__ == "__main__":
    main()
