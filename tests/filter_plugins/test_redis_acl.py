"""Redis's ACL users, as text."""

from __future__ import annotations

import hashlib

import pytest

from filter_plugins import redis_acl as acl

from .test_redis_tuning import instances

PLAN = {"adapters": ["classic"], "namespaces": ["/"]}
PASSWORDS = {name: f"password of {name}" for name in ("chat_admin", "chat_monitor", *acl.USERS.values())}


def of(instance, version="8.0", **plan):
    return acl.redis_users(instance, PLAN | {"version": version} | plan)


def test_each_purpose_has_its_user_and_every_instance_the_operators():
    both = instances()
    assert set(of(both["sessions"])) == {"chat_admin", "chat_monitor", "chat_app_sessions"}
    assert set(of(both["realtime"])) == {"chat_admin", "chat_monitor", "chat_app_realtime", "chat_socketio"}


@pytest.mark.parametrize("name", ["sessions", "realtime"])
def test_only_the_administrator_may_do_what_looks_over_or_changes_everything(name):
    for user, rules in of(instances()[name]).items():
        if user != "chat_admin":
            forbidden = {
                "keys",
                "scan",
                "flushall",
                "flushdb",
                "config",
                "debug",
                "shutdown",
                "module",
                "acl",
            }
            assert not {rule.lstrip("+").split("|")[0] for rule in rules if rule.startswith("+")} & forbidden
            assert "+@all" not in rules
            assert "~*" not in rules


def test_scripts_are_for_tokens_alone():
    both = instances()
    assert "+evalsha" in of(both["sessions"])["chat_app_sessions"]
    assert "+evalsha" not in of(both["realtime"])["chat_app_realtime"]


@pytest.mark.parametrize(("version", "known"), [("7.0", False), ("8.0", True), ("8.1", True)])
def test_command_that_the_server_does_not_know_is_left_out(version, known):
    for rules in of(instances()["realtime"], version).values():
        assert ("+client|setinfo" in rules) == (known and "+client|setname" in rules)


def test_namespaces_have_a_pattern_each():
    rules = acl.socketio_rules(["classic"], ["/", "/admin"], "8.0")
    assert "&socket.io#/#*" in rules
    assert "&socket.io#/admin#*" in rules
    assert "&socket.io#*" not in rules


def test_adapter_gets_nothing_of_another():
    rules = acl.socketio_rules(["python"], ["/"], "8.0")
    assert "+xadd" not in rules
    assert "+psubscribe" not in rules
    assert [rule for rule in rules if rule[0] in "~&"] == ["&socketio"]


@pytest.mark.parametrize("adapter", ["classic", "sharded", "streams"])
def test_channels_are_those_of_the_namespaces(adapter):
    rules = acl.socketio_rules([adapter], ["/", "/admin"], "8.0")
    channels = [rule for rule in rules if rule.startswith("&")]
    assert channels
    assert {rule.split("#")[1] for rule in channels} == {"/", "/admin"}


def test_several_adapters_name_each_command_once():
    rules = acl.socketio_rules(["classic", "sharded", "streams", "python"], ["/"], "8.0")
    assert len(rules) == len(set(rules))


def test_users_of_an_instance_come_beside():
    own = {"jobs": {"password": "of jobs", "keys": ["job:*"], "commands": ["+lpush"]}}
    instance = instances(sessions={"users": own})["sessions"]
    users = of(instance)
    assert users["jobs"][:3] == ["~job:*", "resetchannels", "-@all"]
    assert users["jobs"][-1] == "+lpush"
    assert hashlib.sha256(b"of jobs").hexdigest() in acl.acl_file(users, instance["users"], PASSWORDS, {})


def test_file_holds_hashes_alone_and_a_second_one_during_a_change():
    users = of(instances()["sessions"])
    text = acl.acl_file(users, {}, PASSWORDS, {"chat_app_sessions": "the old one"})
    first, *lines = text.splitlines()
    assert first == "user default off sanitize-payload ~* resetchannels -@all +@write +select"
    assert [line.split()[1] for line in lines] == sorted(users)
    assert "password of" not in text
    assert "the old one" not in text
    for line in lines:
        assert line.count("#") == (2 if "chat_app_sessions" in line else 1)


def test_clients_of_sentinel_hear_of_masters_and_change_nothing():
    text = acl.sentinel_acl(
        dict.fromkeys(["chat_admin", "chat_sentinel", "chat_sentinel_client"], "p"), {}, "8.0"
    )
    [rules] = [line.split() for line in text.splitlines() if "chat_sentinel_client" in line]
    # What createSentinel of node-redis asks and subscribes to as it connects, or it does not.
    patterns = ("switch-master", "[-+]sdown", "+slave", "+sentinel", "[-+]odown", "+slave-reconf-done")
    assert {f"&{pattern}" for pattern in patterns} <= set(rules)
    assert {"+sentinel|master", "+sentinel|sentinels", "+sentinel|replicas"} <= set(rules)
    assert {"+@pubsub", "-publish"} <= set(rules)  # Redis 7.0 lists them so
    changing = ("set", "failover", "reset", "monitor", "remove", "config", "flushconfig", "simulate-failure")
    assert not {f"+sentinel|{name}" for name in changing} & set(rules)
    assert not {"&*", "+sentinel", "+@all", "+publish"} & set(rules)
