"""Which steps bring etcd's users to what is wanted."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from library import etcd_auth

KNOWN = {"root": "r", "patroni": "old"}


class Etcd:
    """An etcd that has the users root and patroni, with the passwords in KNOWN, and what they may."""

    endpoints = ("https://127.0.0.1:2379",)

    def __init__(self, _module: object, _endpoints: object, login: str) -> None:
        self._name, _, self._password = login.partition(":")

    def ask(self, *words: str) -> dict[str, Any]:
        encoded = [base64.b64encode(key).decode() for key in (b"/service/", b"/service0")]
        return {
            ("user", "list"): {"users": list(KNOWN)},
            ("role", "list"): {"roles": list(KNOWN)},
            ("role", "get", "patroni"): {
                "perm": [{"permType": 2, "key": encoded[0], "range_end": encoded[1]}]
            },
            ("user", "get", "root"): {"roles": ["root"]},
            ("user", "get", "patroni"): {"roles": ["patroni"]},
        }[words]

    def knows(self) -> bool:
        return KNOWN[self._name] == self._password


def plan(
    monkeypatch: pytest.MonkeyPatch, name: str, password: str, *, exclusive: bool
) -> tuple[list[str], list[str]]:
    """What is to be done for a user, in words, and which others stay."""
    monkeypatch.setattr(etcd_auth, "Etcdctl", Etcd)
    user = {"name": name, "password": password, "prefix": "/service/"}
    module = SimpleNamespace(params={"root_password": "r", "users": [user], "exclusive": exclusive})
    steps, others = etcd_auth.plan(module, Etcd(module, (), "root:r"), True)
    return [what for what, _arguments, _given in steps], others


@pytest.mark.parametrize("exclusive", [True, False])
def test_user_with_its_password_is_left_alone(monkeypatch: pytest.MonkeyPatch, exclusive: bool) -> None:
    assert plan(monkeypatch, "patroni", "old", exclusive=exclusive) == ([], [])


def test_another_password_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, "patroni", "new", exclusive=True) == (["set the password of patroni"], [])


def test_former_user_stays_until_it_is_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    added = ["add the role p2", "give /service/ to the role p2", "add the user p2", "give the role p2 to p2"]
    assert plan(monkeypatch, "p2", "new", exclusive=False) == (added, ["patroni"])
    gone = ["remove the user patroni", "remove the role patroni"]
    assert plan(monkeypatch, "p2", "new", exclusive=True) == (gone + added, [])


def test_role_gets_exactly_its_prefix() -> None:
    wide = [{"permType": 2, "key": base64.b64encode(b"/").decode()}]
    assert [what for what, _arguments, _given in etcd_auth.steps_for_role("patroni", "/service/", wide)] == [
        "take / from the role patroni",
        "give /service/ to the role patroni",
    ]
