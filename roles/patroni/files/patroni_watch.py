"""Watch over Patroni: kill it where it hangs, and let go of a primary that is lost.

**It hangs.** Its /liveness answers 503, or nothing, when its main loop has not come round within ttl. It
is killed and started anew by its unit; PostgreSQL runs on meanwhile. Not one that is being stopped, nor one
that has only begun: it answers when it has reached etcd.

**The primary is lost.** Patroni itself waits until the primary's key in etcd has run out: ttl is 20 s at
least. Only a fence makes it safe to be faster, and strict synchronous replication is one: the primary
acknowledges no write that its synchronous copies do not have, so it acknowledges nothing any more once one
of these is primary itself, whether the old one is dead, frozen or cut off. So a synchronous copy, and
nobody else, deletes the key, when all of these hold: etcd (a majority of it) still names it as one for
which the primary waits; it gets no WAL; the primary's Patroni does not answer; and the primary has not
renewed its key for longer than its loop takes, which it would if only the way between the two were broken.
The deletion fails if the primary, or who waits for whom, has changed meanwhile. An old primary that is back
while its lease lasts may hold its key for there still, by the word of its own host's etcd; it promotes itself
only when it has written the synchronous state, by a comparison that fails since the new one wrote its own.
What remains: a client that is cut off together with an old primary may read from it, and wait in vain for a
write, until that one's own Patroni gives up (ttl at most); and a session that has switched synchronous_commit
off is not protected, as in any failover.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

try:
    from patroni.config import Config
    from patroni.dcs import get_dcs
    from patroni.dcs.etcd3 import base64_encode
except ImportError:  # where its functions are tested
    pass

PAUSE_S = 1
ANSWER_S = 2
FAILURES = 2
START_S = 30  # for one that has not answered yet
LATE_S = 3  # beyond its loop, before the primary counts as one that does not renew its key
ETCD_S = 3

# Of a copy that gets nothing, from whom it would. A primary that has nothing to send says so every 2.5 s.
STARVED = """
SELECT current_setting('primary_conninfo') WHERE pg_is_in_recovery()
  AND NOT EXISTS (
    SELECT FROM pg_stat_wal_receiver
    WHERE status = 'streaming' AND last_msg_receipt_time > clock_timestamp() - interval '3.5 s')
"""


def answers(url: str, context: ssl.SSLContext) -> bool:
    """Whether Patroni says there that its main loop comes round."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S, context=context) as answer:  # noqa: S310  our own https
            return bool(answer.status == 200)
    except OSError:
        return False


def main_process() -> tuple[int, float]:
    """Patroni's process, 0 where its unit does not run or is to stop; its start, by time.monotonic()."""
    shown = subprocess.run(
        [
            "/usr/bin/systemctl",
            "show",
            "--property=ActiveState,MainPID,ExecMainStartTimestampMonotonic",
            "patroni.service",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    unit = dict(line.split("=", 1) for line in shown.stdout.splitlines())
    runs = unit["ActiveState"] in ("active", "reloading")
    return int(unit["MainPID"]) if runs else 0, int(unit["ExecMainStartTimestampMonotonic"]) / 1e6


def hangs(began_s: float, heard_s: float, now_s: float) -> bool:
    """Whether a process that gives no answer should: it has done so once, or has had the time to begin."""
    return heard_s > began_s or now_s - began_s > START_S


def fenced(cluster: Any, member: str) -> bool:
    """Whether each write waits for `member`, and nobody has other plans; `cluster` is Patroni's."""
    config = cluster.config.data if cluster.config else {}
    return bool(
        config.get("synchronous_mode")
        and config.get("synchronous_mode_strict")
        and not config.get("pause")
        and not cluster.failover
        and cluster.leader
        and cluster.leader.name
        and cluster.sync
        and cluster.sync.leader == cluster.leader.name
        and member in cluster.sync.members
    )


def silent_s(dcs: Any, lease: str) -> int:
    """For how long the holder of an etcd lease has not renewed it."""
    lease_now = dcs._client.call_rpc("/lease/timetolive", {"ID": lease})
    return int(lease_now.get("grantedTTL", 0)) - int(lease_now.get("TTL", 0))


def let_go(dcs: Any, cluster: Any) -> bool:
    """Delete the leader's key, unless it or a synchronous copy is another one by now."""
    leader, sync = base64_encode(dcs.leader_path), base64_encode(dcs.sync_path)
    same = [
        {"key": leader, "target": "MOD", "mod_revision": cluster.leader[0]},
        {"key": sync, "target": "MOD", "mod_revision": cluster.sync[0]},
    ]
    done = dcs._client.call_rpc(
        "/kv/txn", {"compare": same, "success": [{"request_delete_range": {"key": leader}}]}
    )
    return bool(done.get("succeeded"))


@contextmanager
def soon() -> Iterator[None]:
    """Raise TimeoutError where etcd's client, which tries for ever, takes too long."""
    signal.alarm(ETCD_S)
    try:
        yield
    finally:
        signal.alarm(0)


def _too_long(_signal: int, _frame: Any) -> None:
    raise TimeoutError("etcd does not answer")


class Watch:
    """This member's watch over the primary."""

    def __init__(self, path: str) -> None:
        logging.disable(logging.CRITICAL)  # Patroni's own log has its words
        signal.signal(signal.SIGALRM, _too_long)
        self.configuration = Config(path, validator=None).copy()
        self.configuration["patronictl"] = True  # no threads in the background
        self._port = self.configuration["postgresql"]["connect_address"].rsplit(":", 1)[1]
        self._connection: psycopg.Connection[Any] | None = None  # kept: each login is two lines in the log
        self._etcd: dict[str, Any] = {}  # kept while a primary is lost: a login costs etcd half a second

    def starved_of(self) -> str:
        """The address from which PostgreSQL here gets nothing; empty where all is well, or it is down."""
        try:
            self._connection = self._connection or psycopg.connect(
                f"dbname=postgres port={self._port} application_name=patroni-watch",
                connect_timeout=ANSWER_S,
                options=f"-c statement_timeout={ANSWER_S}s",
                autocommit=True,
            )
            row = self._connection.execute(STARVED).fetchone()
        except psycopg.Error:
            if self._connection:
                self._connection.close()
            self._connection = None
            return ""
        if row is None:
            self._etcd = {}
            return ""
        return str(psycopg.conninfo.conninfo_to_dict(row[0]).get("host", ""))

    def look(self, primary: str, context: ssl.SSLContext) -> None:
        """Let go of the primary, which has this address, if it is lost."""
        name = self.configuration["name"]
        try:
            with soon():
                dcs = self._etcd_without(primary)
                cluster = dcs.get_cluster()
                if not fenced(cluster, name):
                    return
            rest = cluster.leader.data["api_url"].rsplit("/", 1)[0]
            if answers(f"{rest}/liveness", context):
                return
            late_s = int(cluster.config.data["loop_wait"]) + LATE_S
            with soon():
                rest_s = late_s - silent_s(dcs, cluster.leader.session)
            time.sleep(min(max(rest_s, 0), ANSWER_S))  # the next look may take longer than that
            with soon():
                if silent_s(dcs, cluster.leader.session) >= late_s and let_go(dcs, cluster):
                    print(
                        f"{cluster.leader.name} is lost, and waits for {name}: its key is deleted", flush=True
                    )
        except Exception as error:  # whatever etcd's client raises: the next look tells more
            self._etcd = {}
            print(f"The primary gives no WAL, and etcd cannot be asked: {error}", flush=True)

    def _etcd_without(self, primary: str) -> Any:
        """Patroni's client of the members elsewhere: that of a frozen host accepts, and answers nothing."""
        if primary not in self._etcd:
            etcd = self.configuration["etcd3"]
            others = [host for host in etcd["hosts"] if not host.startswith(f"{primary}:")]
            elsewhere = {**etcd, "hosts": others, "use_proxies": True}
            self._etcd = {primary: get_dcs({**self.configuration, "etcd3": elsewhere})}
        return self._etcd[primary]


def main() -> None:
    watch = Watch(sys.argv[1])
    rest = watch.configuration["restapi"]
    context = ssl.create_default_context(cafile=rest["cafile"])
    heard_s, failures = 0.0, 0
    while True:
        time.sleep(PAUSE_S)
        if answers(f"https://{rest['connect_address']}/liveness", context):
            heard_s, failures = time.monotonic(), 0
            if primary := watch.starved_of():
                watch.look(primary, context)
            continue
        process, began_s = main_process()
        failures = failures + 1 if process and hangs(began_s, heard_s, time.monotonic()) else 0
        if failures >= FAILURES:
            print(f"Patroni (process {process}) did not answer {failures} times: it is killed", flush=True)
            os.kill(process, signal.SIGKILL)
            failures = 0


if __name__ == "__main__":
    main()
