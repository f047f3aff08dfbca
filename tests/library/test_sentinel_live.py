"""What Sentinel's own file and lists say, and where an instance is not in its place."""

from __future__ import annotations

import pytest
import redis

from filter_plugins.redis_acl import sentinel_acl
from library import redis_masters_info
from library.redis_masters_info import stored, written_master
from library.redis_replica import caught_up, eligible, has_data, in_place, to_follow
from library.sentinel_live import _shown, differences, users, written

FILE = """\
port 0
sentinel monitor sessions 192.0.2.1 6380 2
sentinel auth-user sessions chat_sentinel
sentinel auth-pass sessions "se#same"
sentinel known-replica sessions 192.0.2.2 6380
"""


def test_only_the_file_says_the_login():
    assert written(FILE) == {"sessions": {"auth-user": "chat_sentinel", "auth-pass": "se#same"}}


def test_difference_is_in_what_is_wanted_alone_and_shows_no_password():
    assert differences({"quorum": "1", "runid": "x"}, {"quorum": 2}) == {"quorum": ("1", "2")}
    assert _shown("sessions auth-pass", "sesame") == "(hidden)"
    assert _shown("quorum", "2") == "2"


@pytest.mark.parametrize(("version", "known"), [("7.0", False), ("8.0", True)])
def test_users_are_compared_in_whatever_order_their_rules_are(version, known):
    text = sentinel_acl(
        dict.fromkeys(["chat_admin", "chat_sentinel", "chat_sentinel_client"], "p"), {}, version
    )
    turned = "\n".join(" ".join([*line.split()[:2], *line.split()[:1:-1]]) for line in text.splitlines())
    assert users(text) == users(turned)
    assert ("+client|setinfo" in text) == known
    assert users(text)["default"] == ("-@all", "off", "resetchannels", "sanitize-payload")
    assert users(text.replace("default off", "default on")) != users(text)


class Server:
    """A Redis that knows one password, or does not answer at all."""

    def __init__(self, known: str, given: str) -> None:
        self._known, self._given = known, given

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def info(self, _section):
        if not self._known:
            raise redis.exceptions.ConnectionError("nobody there")
        if self._known != self._given:
            raise redis.exceptions.ResponseError("WRONGPASS invalid username-password pair")
        return {"role": "slave", "master_host": "192.0.2.2"}

    def dbsize(self):
        return 3


@pytest.mark.parametrize("known", ["new", "old"])
def test_password_that_the_server_knows_is_found(known, monkeypatch):
    monkeypatch.setattr(redis_masters_info, "by_socket", lambda _socket, _user, given: Server(known, given))
    options = {"username": "chat_admin", "passwords": ["new", "old"]}
    found = {"copies": "192.0.2.2", "data": True, "runs": True}
    assert redis_masters_info._own(options, {"socket": "/x"}) == found


def test_server_that_knows_no_password_is_no_server_that_is_down(monkeypatch, tmp_path):
    known = "another"
    monkeypatch.setattr(redis_masters_info, "by_socket", lambda _socket, _user, given: Server(known, given))
    options = {"username": "chat_admin", "passwords": ["new", "old"]}
    instance = {"socket": "/x", "main": str(tmp_path / "x.conf"), "data": str(tmp_path)}
    with pytest.raises(PermissionError):
        redis_masters_info._own(options, instance)
    known = ""
    assert redis_masters_info._own(options, instance) == {"copies": "", "data": False, "runs": False}
    busy = instance | {"socket": str(tmp_path)}  # it is there, and does not answer
    assert redis_masters_info._own(options, busy)["runs"]


def test_two_passwords_of_a_user_may_be_good():
    passwords = dict.fromkeys(["chat_admin", "chat_sentinel", "chat_sentinel_client"], "p")
    [line] = [
        line
        for line in sentinel_acl(passwords, {"chat_admin": "old"}, "8.0").splitlines()
        if "chat_admin" in line
    ]
    assert line.count("#") == 2


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ""),
        ("replicaof 192.0.2.1 6380\n", "192.0.2.1"),
        ("replicaof 192.0.2.1 6380\nreplicaof no one\n", "192.0.2.1"),
        ("# replicaof 192.0.2.1 6380\n", ""),
        ("slaveof 192.0.2.1 6380\nreplicaof 192.0.2.2 6380\n", "192.0.2.2"),
    ],
)
def test_file_says_whom_an_instance_copies(text, address):
    assert written_master(text) == address


def test_new_instance_has_left_no_data(tmp_path):
    assert not stored(str(tmp_path / "none"))
    (tmp_path / "appendonly.aof.1.base.rdb").write_bytes(b"x" * 88)
    (tmp_path / "appendonly.aof.1.incr.aof").write_bytes(b"")
    assert not stored(str(tmp_path))
    (tmp_path / "appendonly.aof.1.incr.aof").write_bytes(b"x" * 200)
    assert stored(str(tmp_path))


@pytest.mark.parametrize(
    ("role", "data", "master", "lack"),
    [
        ("master", False, "192.0.2.1", "follow"),
        ("master", True, "192.0.2.1", "corrected"),
        ("master", True, "192.0.2.2", ""),
        ("slave", True, "192.0.2.1", ""),
        ("master", False, "", ""),
    ],
)
def test_nothing_that_has_data_is_made_a_copy(role, data, master, lack):
    assert to_follow({"role": role}, data, "192.0.2.2", master) == lack


class Loading:
    """A client of an instance that was just started: INFO is answered, the rest is refused."""

    def refuse(self):
        raise redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory")

    dbsize = ping = refuse

    def info(self, _section):
        return {"role": "master"}


def test_instance_that_loads_its_data_has_some_and_is_waited_for():
    assert has_data(Loading())
    with pytest.raises(redis.exceptions.BusyLoadingError):
        in_place(Loading())


@pytest.mark.parametrize(
    ("copies", "all_have_it"),
    [
        ([], False),
        ([("online", 50)], True),
        ([("online", 50), ("online", 49)], False),
        ([("online", 50), ("wait_bgsave", 0)], True),
    ],
)
def test_master_hands_over_when_its_copies_have_all(copies, all_have_it):
    lines = [f"slave{i}:ip=x,port=1,state={state},offset={at},lag=0" for i, (state, at) in enumerate(copies)]
    assert caught_up("\n".join(["master_repl_offset:50", *lines])) == all_have_it


@pytest.mark.parametrize(
    ("flags", "link", "chosen"),
    [
        ("slave", "ok", True),
        ("s_down,slave", "ok", False),
        ("slave,disconnected", "ok", False),
        ("slave", "err", False),
    ],
)
def test_only_a_replica_that_answers_and_copies_may_take_over(flags, link, chosen):
    assert eligible({"flags": flags, "master-link-status": link}) == chosen
