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


def steps(monkeypatch: pytest.MonkeyPatch, password: str, update: str) -> list[str]:
    """What is to be done for the user patroni, in words."""
    monkeypatch.setattr(etcd_auth, "Etcdctl", Etcd)
    user = {"name": "patroni", "password": password, "update_password": update, "prefix": "/service/"}
    module = SimpleNamespace(params={"root_password": "r", "users": [user]})
    return [what for what, _arguments, _given in etcd_auth.plan(module, Etcd(module, (), "root:r"), True)]


@pytest.mark.parametrize("update", ["always", "on_create"])
def test_user_with_its_password_is_left_alone(monkeypatch: pytest.MonkeyPatch, update: str) -> None:
    assert steps(monkeypatch, "old", update) == []


def test_another_password_is_set_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps(monkeypatch, "new", "always") == ["set the password of patroni"]
    assert steps(monkeypatch, "new", "on_create") == []


@pytest.mark.parametrize("update", ["always", "on_create"])
def test_new_user_gets_its_password(monkeypatch: pytest.MonkeyPatch, update: str) -> None:
    monkeypatch.delitem(KNOWN, "patroni")
    assert steps(monkeypatch, "new", update)[-2:] == [
        "add the user patroni",
        "give the role patroni to patroni",
    ]


def test_role_gets_exactly_its_prefix() -> None:
    wide = [{"permType": 2, "key": base64.b64encode(b"/").decode()}]
    assert [what for what, _arguments, _given in etcd_auth.steps_for_role("patroni", "/service/", wide)] == [
        "take / from the role patroni",
        "give /service/ to the role patroni",
    ]
