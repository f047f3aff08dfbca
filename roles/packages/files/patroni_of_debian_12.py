#!/usr/bin/python3
"""Patroni 3.0.2, made to take the primary's key only where it is free or still its own, as 3.0.3 does.

Patroni reads a member of etcd that may be behind, its own host's for one that is cut off, and goes on to
renew its lease. Where that has run out it is granted another one, and 3.0.2 then puts the key without a
condition (mended by Patroni's pull requests 2689 and 2693). A former primary whose way to etcd comes back
between the two thereby takes the key from the one that was promoted meanwhile, and promotes itself without
what that one acknowledged.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from patroni.__main__ import main
from patroni.dcs import catch_return_false_exception
from patroni.dcs.etcd3 import Etcd3, Etcd3Error


@catch_return_false_exception
def _update_leader(self: Any) -> bool:
    """Renew the lease, and put the key under a new one only if nobody has changed it since it was read."""
    retry = self._retry.copy()

    def within_its_time(*args: Any, **kwargs: Any) -> Any:
        return retry(*args, retry=retry, **kwargs)

    self._run_and_handle_exceptions(self._do_refresh_lease, True, retry=within_its_time)
    leader = self.cluster and self.cluster.leader
    if not self._lease or (leader and leader.session == self._lease):
        return bool(self._lease)
    retry.deadline = retry.stoptime - time.time()
    if retry.deadline < 1:
        raise Etcd3Error("update_leader timeout")
    unchanged = [{"mod_revision": leader.index}] if leader and leader.name == self._name else []
    return any(
        self._run_and_handle_exceptions(
            self._client.put, self.leader_path, self._name, self._lease, retry=within_its_time, **condition
        )
        for condition in [*unchanged, {"create_revision": 0}]
    )


Etcd3._update_leader = _update_leader

if __name__ == "__main__":
    sys.exit(main())
