"""Each Redis instance's settings over plain numbers, and what is refused."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins import redis_tuning as tuning

PLAN = {
    "flavour": "redis", "version": "8.0", "memory_mb": 4096, "processes": 16,
    "adapters": ["classic", "python"], "namespaces": ["/"],
    "messages_per_s": 50, "message_bytes": 2048,
}  # fmt: skip
SESSIONS = {
    "port": 6380, "serves": ["tokens"], "maxmemory_mb": 300, "maxmemory_policy": "noeviction",
    "persistence": True,
}  # fmt: skip
REALTIME = {
    "port": 6381, "serves": ["presence", "socketio"], "maxmemory_mb": 300, "maxmemory_policy": "volatile-ttl",
    "persistence": False, "notify_keyspace_events": "Ex",
}  # fmt: skip


def instances(realtime=None, sessions=None, **both):
    """redis_instances as the role's defaults have it, with other options, complete."""
    return tuning.redis_instances_complete(
        {"sessions": SESSIONS | both | (sessions or {}), "realtime": REALTIME | both | (realtime or {})}
    )


def values(instance, **plan):
    """What an instance is tuned to, without the reasons."""
    return {name: setting["value"] for name, setting in tuning.tune_redis(instance, PLAN | plan).items()}


def test_defaults_are_not_refused():
    assert tuning.redis_instance_problems(instances(), PLAN) == []


@pytest.mark.parametrize(
    ("realtime", "sessions", "words"),
    [
        ({}, {"maxmemory_policy": "allkeys-lru"}, ["sessions.maxmemory_policy is allkeys-lru", "noeviction"]),
        ({}, {"maxmemory_policy": "volatile-ttl"}, ["sessions.maxmemory_policy is volatile-ttl"]),
        ({"notify_keyspace_events": "E"}, {}, ["is E, which delivers nothing", "such as Ex"]),
        ({"notify_keyspace_events": "x"}, {}, ["is x, which delivers nothing"]),
        ({}, {"notify_keyspace_events": "K"}, ["sessions.notify_keyspace_events is K, which"]),
        ({"notify_keyspace_events": "Kx"}, {}, ["is Kx; it serves presence", "Ex"]),
        ({"notify_keyspace_events": ""}, {}, ["is empty; it serves presence"]),
        ({"notify_keyspace_events": "Exq"}, {}, ["q is no flag"]),
        ({"port": 80}, {}, ["realtime.port is 80", "1024 to 65535"]),
        ({"maxmemory_mb": 1}, {}, ["realtime.maxmemory_mb is 1"]),
        ({"pool_size": 0}, {}, ["realtime.pool_size is 0"]),
        ({"settings": {"Port": 1, "hz": 20}}, {}, ["realtime.settings has port, which it must not"]),
        ({"serves": ["presence"]}, {}, ["socketio is served by none"]),
        ({"serves": ["presence", "socketio", "tokens"], "maxmemory_policy": "noeviction"}, {},
         ["tokens is served by sessions and realtime"]),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(realtime, sessions, words):
    problems = "\n".join(
        tuning.redis_instance_problems(dict(reversed(instances(realtime, sessions).items())), PLAN)
    )
    for word in words:
        assert word in problems


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"namespaces": ["/", "admin"]}, "redis_socketio_namespaces has 'admin'; allowed: a slash"),
        ({"namespaces": ["/a*"]}, "has '/a*'"),
        ({"message_bytes": 0}, "redis_socketio_message_bytes is 0; allowed: 1 or more"),
    ],
)
def test_plan_that_is_none_is_refused(plan, words):
    [problem] = tuning.redis_instance_problems(instances(), PLAN | plan)
    assert words in problem


def test_older_password_of_nobody_is_refused():
    [problem] = tuning.redis_instance_problems(instances(), PLAN, ["chat_admin"], ["chat_admin", "jo"])
    assert problem == "redis_previous_passwords has jo; allowed: chat_admin"


class Lazy(dict):
    """A container of Ansible's, of which a copy takes every variable along."""

    def __deepcopy__(self, _memo):
        raise AssertionError("copied")


def test_ansible_containers_are_not_copied():
    own = Lazy(password="of jobs", commands=["+get"])
    complete = instances(sessions=Lazy(users=Lazy(jobs=own), settings=Lazy(hz=20)))
    assert complete["sessions"]["users"]["jobs"]["commands"] == ["+get"]


def test_instance_has_its_place_and_overrides_what_all_have():
    common = {"hz": {"value": "5", "why": "all"}, "port": {"value": "0", "why": "TLS alone"}}
    acls = {"sessions": "user a", "realtime": "user b"}
    first, second = tuning.redis_configured(instances(), PLAN, common, acls)
    assert (first["name"], first["acl"], second["name"], second["acl"]) == (
        "realtime", "user b", "sessions", "user a",
    )  # fmt: skip
    settings = tuning.redis_compared([second])[0]["settings"]
    assert settings["port"] == "0"
    assert settings["tls-port"] == "6380"
    assert settings["hz"] == "10"
    assert settings["aclfile"] == "/etc/redis/chat-sessions.acl"


def test_files_are_those_that_the_unit_and_the_trial_read():
    acls = {"sessions": "user a\n", "realtime": ""}
    configured = tuning.redis_configured(instances(), {**PLAN, "flavour": "valkey"}, {}, acls)
    files = {entry["path"]: entry for entry in tuning.redis_files(configured, "valkey")}
    assert files["/etc/valkey/valkey-sessions.conf"]["once"]
    assert files["/etc/valkey/chat-sessions.acl"]["content"] == "user a\n"
    assert (
        '\n# maxmemory_policy\nmaxmemory-policy "noeviction"\n'
        in files["/etc/valkey/chat-sessions.conf"]["content"]
    )
    assert {entry["mode"] for entry in files.values()} == {"0640"}
    argv = tuning.redis_trials(configured, "valkey", [])[1]["argv"]
    assert argv[:2] == ["/usr/bin/valkey-server", "%s/chat-sessions.conf"]


def test_traffic_that_no_subscriber_could_lag_behind_is_refused():
    [problem] = tuning.redis_instance_problems(
        instances({"maxmemory_mb": 100}), PLAN | {"message_bytes": 20_000}
    )
    assert "a quarter may wait for a subscriber: less than 5 s of 15.3 MB/s. Raise it to 306" in problem


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maxmemory": 5}, "redis_instances.sessions has no option maxmemory; allowed: port, serves"),
        ({"persistence": "maybe"}, "redis_instances.sessions: .*persistence"),
        ({"maxmemory_policy": "lru"}, "value of maxmemory_policy must be one of: noeviction"),
        ({"users": {"jo": {"commands": ["+get"]}}}, "redis_instances.sessions.users.jo: .*password"),
        ({"users": {"jo": ["+get"]}}, "redis_instances.sessions.users.jo is .*allowed: a dictionary"),
    ],
)
def test_option_that_is_none_is_refused(options, words):
    with pytest.raises(AnsibleFilterError, match=words):
        instances(sessions=options)


def test_password_of_an_own_user_is_in_no_error():
    with pytest.raises(AnsibleFilterError) as refused:
        instances(sessions={"users": {"jo": {"password": "secret-of-jo", "commands": ["+get"], "key": "x"}}})
    assert "has no option key" in str(refused.value)
    assert "secret-of-jo" not in str(refused.value)


def test_tokens_persist_and_presence_does_not():
    sessions, realtime = values(instances()["sessions"]), values(instances()["realtime"])
    assert (sessions["appendonly"], sessions["save"]) == ("yes", "3600 1 300 100 60 10000")
    assert (realtime["appendonly"], realtime["save"]) == ("no", "")


def test_expiry_is_looked_for_where_it_is_announced():
    sessions, realtime = values(instances()["sessions"]), values(instances()["realtime"])
    assert int(realtime["hz"]) > int(sessions["hz"])
    assert int(realtime["active-expire-effort"]) > int(sessions["active-expire-effort"])


def test_clients_are_those_of_every_process_while_a_deployment_runs():
    tuned = tuning.redis_instances_tuned(instances(), PLAN | {"processes": 100})
    # A pool of 10; two connections of one adapter, five of the other, and one that hears of expired keys.
    assert (tuned["sessions"]["connections"], tuned["sessions"]["maxclients"]) == (10, 1300)
    assert (tuned["realtime"]["connections"], tuned["realtime"]["maxclients"]) == (18, 2300)
    assert tuned["realtime"]["backlog"] == 2300


def test_connections_of_a_process_are_the_sum_of_its_pools():
    tuned = tuning.redis_instances_tuned(instances(), PLAN)
    assert tuned["sessions"]["pools"] == {"tokens": 10}
    assert tuned["realtime"]["pools"] == {"presence": 11, "socketio": 7}
    both = tuning.redis_instances_tuned(instances(realtime={"serves": ["tokens", "presence"]}), PLAN)
    assert both["realtime"]["connections"] == 21
    alone = tuning.redis_instances_tuned(instances(realtime={"serves": []}), PLAN)
    assert (alone["realtime"]["connections"], alone["realtime"]["pools"]) == (10, {})


def test_small_application_has_room_to_grow():
    assert tuning.redis_instances_tuned(instances(), PLAN)["sessions"]["maxclients"] == 1000


def test_ledger_counts_what_is_really_set():
    tuned = tuning.redis_instances_tuned(instances({"settings": {"maxclients": 20000}}), PLAN)
    assert tuned["realtime"]["maxclients"] == 20000
    with pytest.raises(AnsibleFilterError, match=r"maxclients is many; allowed: a whole number"):
        tuning.redis_instances_tuned(instances({"settings": {"maxclients": "many"}}), PLAN)


@pytest.mark.parametrize(
    ("maxmemory", "message_bytes", "hard_mb"),
    [(300, 2048, 47), (1000, 2048, 47), (1000, 512, 32), (100, 2048, 25)],  # 30 s of it, 32 MB, a quarter
)
def test_subscriber_may_lag_by_seconds_of_the_traffic(maxmemory, message_bytes, hard_mb):
    [realtime] = [instances({"maxmemory_mb": maxmemory})["realtime"]]
    limit = values(realtime, message_bytes=message_bytes)["client-output-buffer-limit"]
    assert limit.endswith(f" pubsub {hard_mb * 1024**2} {hard_mb * 1024**2 // 2} 60")


@pytest.mark.parametrize(
    ("cores", "version", "threads"), [(16, "7.0", 1), (2, "8.0", 1), (4, "8.0", 2), (64, "8.1", 8)]
)
def test_threads_where_they_can_share_out_tls(cores, version, threads):
    assert tuning.redis_io_threads(cores, version)["value"] == str(threads)


def test_file_gives_each_setting_its_reason_and_quotes_what_is_one_string():
    text = tuning.redis_file(
        {
            "save": {"value": "3600 1 300 100", "why": "a second line"},
            "tls-protocols": {"value": "TLSv1.2 TLSv1.3", "why": "older ones are broken"},
            "logfile": {"value": "", "why": "the journal has it"},
        }
    )
    assert text == (
        '# the journal has it\nlogfile ""\n# a second line\nsave ""\nsave 3600 1 300 100\n'
        '# older ones are broken\ntls-protocols "TLSv1.2 TLSv1.3"\n'
    )


def test_what_the_checks_are_told_holds_no_password():
    own = {"jobs": {"password": "secret-of-jobs", "commands": ["+lpush"]}}
    tuned = tuning.redis_instances_tuned(instances(sessions={"users": own}), PLAN)
    assert (tuned["sessions"]["port"], tuned["sessions"]["serves"]) == (6380, ["tokens"])
    assert "secret-of-jobs" not in str(tuned)


def test_settings_override_what_is_computed():
    table = tuning.tune_redis(instances({"settings": {"HZ": 20, "lfu-decay-time": 2}})["realtime"], PLAN)
    assert table["hz"] == {"value": "20", "why": "settings"}
    assert table["lfu-decay-time"]["value"] == "2"


def test_daemons_are_the_flavours_units():
    assert tuning.redis_daemons(instances(), "valkey")[0] == {
        "unit": "valkey-server@realtime.service", "port": 6381, "variable": "redis_instances.realtime.port",
        "configuration": "/etc/valkey/chat-realtime.conf",
    }  # fmt: skip
