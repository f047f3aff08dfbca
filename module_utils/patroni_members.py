"""A Patroni cluster as its own library sees it: what etcd holds, and what each member answers."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

try:
    from patroni.config import Config
    from patroni.dcs import get_dcs
    from patroni.exceptions import PatroniException
    from patroni.request import PatroniRequest
except ImportError:
    HAS_PATRONI = False
else:
    HAS_PATRONI = True


class PatroniError(Exception):
    """What went wrong between us and Patroni or etcd."""


@dataclass(frozen=True)
class Cluster:
    """One look at etcd: the primary's name ("" without one), whether there ever was one, what all share."""

    leader: str
    initialized: bool
    config: dict[str, Any] | None
    rest: dict[str, str]  # member's name -> URL of its REST interface
    synchronous: list[str]
    retained: list[str]  # slots that are kept for copies that went away; Patroni 3 keeps none


ETCD_S = 20
PAUSED = (
    "Patroni is paused (patronictl pause): somebody works on the database, and a run would end that. When "
    "they are done: patronictl -c /etc/patroni/config.yml resume, and run again."
)


def _give_up(_signal: int, _frame: Any) -> None:
    raise PatroniError(
        f"etcd does not answer within {ETCD_S} s: is a majority of its members up? (etcdctl endpoint health)"
    )


class Members:
    """The cluster of a Patroni configuration file, as its operator."""

    def __init__(self, path: str) -> None:
        logging.disable(logging.CRITICAL)  # the library's own words, which nobody reads here
        with self._failures():
            configuration = Config(path, validator=None).copy()
            configuration["patronictl"] = True  # no watching in the background
            self._dcs = get_dcs(configuration)
            self._request = PatroniRequest(configuration)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        # The library tries for ever.
        previous = signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(ETCD_S)
        try:
            yield
        except PatroniException as error:
            raise PatroniError(f"etcd: {error}") from error
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)

    def look(self) -> Cluster:
        """What etcd holds now. Raises PatroniError."""
        with self._failures():
            seen = self._dcs.get_cluster()
        return Cluster(
            leader=seen.leader.name if seen.leader and seen.leader.name else "",
            initialized=bool(seen.initialize),
            config=dict(seen.config.data) if seen.config and seen.config.data else None,
            rest={member.name: member.data["api_url"] for member in seen.members if "api_url" in member.data},
            synchronous=sorted(seen.sync.members) if seen.sync and not seen.sync.is_empty else [],
            retained=list(getattr(getattr(seen, "status", None), "retain_slots", [])),
        )

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Replace the shared configuration as a whole. Raises PatroniError."""
        with self._failures():
            self._dcs.set_config_value(json.dumps(config, separators=(",", ":")))

    def call(
        self, member: str, method: str, path: str, body: Any = None, timeout_s: float = 10
    ) -> tuple[int, str]:
        """A member's answer: its status and text; (0, why) where it gives none."""
        url = self.look().rest.get(member)
        if not url:
            return 0, f"{member} is no member"
        url = url.rsplit("/", 1)[0] + path
        try:
            answer = self._request.request(method, url, body, timeout=timeout_s, retries=False)
        except Exception as error:  # whatever urllib3 of either release raises
            return 0, str(error)
        return int(answer.status), answer.data.decode(errors="replace")

    def status(self, member: str) -> dict[str, Any]:
        """What a member says of its PostgreSQL; nothing where it does not answer."""
        code, text = self.call(member, "GET", "/patroni")
        try:
            return dict(json.loads(text)) if code else {}
        except ValueError:
            return {}

    def streaming(self) -> set[str]:
        """The copies that stream from the primary, by the primary's own word (pg_stat_replication)."""
        leader = self.look().leader
        replication = self.status(leader).get("replication") or [] if leader else []
        return {entry["application_name"] for entry in replication if entry.get("state") == "streaming"}

    def await_(self, what: Any, timeout_s: float) -> bool:
        """Whether `what()` becomes true in time; what fails on the way is tried again."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(PatroniError):
                if what():
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
