"""Debian 12's Patroni takes the primary's key only where nobody else has it; its library is none of ours."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/packages/files/patroni_of_debian_12.py"


class Retry:
    """Patroni's own, which passes on what it is called with."""

    deadline, stoptime = 5.0, time.monotonic()

    def copy(self) -> Retry:
        self.stoptime = time.time() + 5
        return self


class Member:
    """A member with the lease `lease`, at an etcd where `holder` has had the key since revision `index`."""

    def __init__(self, lease: str, seen: Any, holder: str, index: int) -> None:
        self._retry, self._lease, self._name, self.leader_path = Retry(), lease, "node1", "/leader"
        self.cluster = SimpleNamespace(leader=seen)
        self._holder, self._index = holder, index
        self._client = SimpleNamespace(put=self._put)

    def _do_refresh_lease(self, force: bool) -> None:
        assert force

    def _run_and_handle_exceptions(self, method: Any, *args: Any, retry: Any, **kwargs: Any) -> Any:
        assert callable(retry)
        return method(*args, **kwargs)

    def _put(
        self, key: str, name: str, lease: str, *, mod_revision: int = -1, create_revision: int = -1
    ) -> bool:
        assert (key, name, lease) == ("/leader", "node1", "8")
        free = create_revision == 0 and not self._holder
        done = free or (bool(self._holder) and mod_revision == self._index)
        if done:
            self._holder = name
        return done


@pytest.fixture
def update_leader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the script puts in place of the library's own."""
    etcd = type("Etcd3", (), {})
    library = {
        "patroni": {},
        "patroni.__main__": {"main": None},
        "patroni.dcs": {"catch_return_false_exception": lambda function: function},
        "patroni.dcs.etcd3": {"Etcd3": etcd, "Etcd3Error": RuntimeError},
    }
    for name, content in library.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("patroni_of_debian_12", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return vars(etcd)["_update_leader"]


OURS = SimpleNamespace(name="node1", session="7", index=12)
OTHERS = SimpleNamespace(name="node2", session="5", index=12)


@pytest.mark.parametrize(
    ("lease", "seen", "holder", "index", "holds"),
    [
        ("7", OURS, "node1", 12, True),  # the lease that it had: there is nothing to do
        ("8", OURS, "node1", 12, True),  # another lease for the key that is still ours
        ("8", OURS, "", 0, True),  # the key has run out, and nobody has taken it
        ("8", OURS, "node2", 15, False),  # somebody has: what was read is old
        ("8", OTHERS, "node2", 12, False),
        ("8", None, "node2", 12, False),
        ("8", None, "", 0, True),
        (None, OURS, "node1", 12, False),
    ],
)
def test_key_of_another_member_is_left(
    update_leader: Any, lease: str, seen: Any, holder: str, index: int, holds: bool
) -> None:
    member = Member(lease, seen, holder, index)
    assert update_leader(member) is holds
    assert (member._holder == "node2") == (holder == "node2")
