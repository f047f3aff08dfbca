"""Who is Redis's master, of what the Sentinels and the instances say."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.redis_tuning import redis_files, redis_masters, tune_redis

from .test_redis_tuning import PLAN, instances

ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
NEW = {"copies": "", "data": False, "runs": False}
EMPTY = {"copies": "", "data": False, "runs": True}
HAS = {"copies": "", "data": True, "runs": True}
OF_B = {"copies": "192.0.2.2", "data": True, "runs": True}
OF_B_STOPPED = {"copies": "192.0.2.2", "data": True, "runs": False}
A, B, NONE = "192.0.2.1", "192.0.2.2", ""


def masters(votes, *states, hosts=ADDRESSES):
    """The decision, where the Sentinels answer so and the hosts' instances are so."""
    answers = {f"sentinel{number}": {"sessions": vote} for number, vote in enumerate(votes)}
    looks = {
        host: {"sentinels": answers, "instances": {"sessions": {"port": 6380, **state}}}
        for host, state in zip(hosts, states, strict=False)
    }
    return redis_masters(looks, ADDRESSES, 3)["sessions"]["address"]


@pytest.mark.parametrize(
    ("votes", "states", "master"),
    [
        ([], [NEW, NEW, NEW], A),
        ([NONE, NONE, NONE], [NEW, NEW, HAS], "192.0.2.3"),
        ([B, B, B], [OF_B, HAS, OF_B], B),
        ([B, B], [HAS, HAS, OF_B], B),  # the old master is back, and has not heard yet
        ([B, B, A], [HAS, HAS, OF_B], B),
        ([B, B], [NEW], B),  # --limit
        ([B], [NEW, EMPTY], B),
        ([B], [OF_B, HAS, OF_B], B),  # two of three Sentinels are down, or new
        ([], [HAS, HAS, OF_B], B),  # all of them are: the file of a copy tells
        ([B, B, B], [NEW, HAS, OF_B], B),  # a host that was lost with its data
        ([B, B, B], [OF_B, EMPTY, OF_B], B),  # its last key has just gone
        ([B, B, B], [NEW, NEW, NEW], B),
    ],
)
def test_majority_of_sentinels_says_else_what_the_instances_show(votes, states, master):
    assert masters(votes, *states) == master


@pytest.mark.parametrize(
    ("votes", "states", "words"),
    [
        ([A, B], [HAS, HAS, OF_B], ["192.0.2.1 and 192.0.2.2", "no majority of the 3"]),
        ([A], [HAS, HAS, OF_B], ["192.0.2.1 and 192.0.2.2"]),
        ([], [HAS, HAS, NEW], ["a and b each have data", "allowed: one"]),
        ([], [NEW], ["leaves out b, c", "--limit"]),
        ([B], [NEW, NEW, OF_B], ["the master is b", "the data of c would", "etcd-lost-quorum.md"]),
        ([B, B, B], [OF_B, NEW, OF_B], ["the master is b", "the data of a and c would"]),
        ([B], [NEW, NEW], ["the master is b", "leaves out c", "--limit"]),
        (
            ["192.0.2.9"],
            [NEW, NEW, OF_B_STOPPED | {"copies": "192.0.2.9"}],
            ["master is 192.0.2.9, which no host"],
        ),
        ([], [NEW, NEW, OF_B_STOPPED], ["the master is b", "the data of c would"]),
    ],
)
def test_what_cannot_be_decided_is_refused(votes, states, words):
    with pytest.raises(AnsibleFilterError) as refused:
        masters(votes, *states)
    assert [word for word in words if word not in str(refused.value)] == []


def test_only_the_instance_that_persists_stops_without_a_replica_and_only_where_there_are_some():
    both = instances()
    assert tune_redis(both["sessions"], PLAN | {"replicas": 2})["min-replicas-to-write"]["value"] == "1"
    assert "min-replicas-to-write" not in tune_redis(both["realtime"], PLAN | {"replicas": 2})
    assert "min-replicas-to-write" not in tune_redis(both["sessions"], PLAN)


def test_copy_knows_its_master_from_its_first_start_on():
    configured = [
        {
            "name": "sessions",
            "main": "/etc/redis/redis-sessions.conf",
            "file": "/etc/redis/chat-sessions.conf",
            "table": {"aclfile": {"value": "/etc/redis/chat-sessions.acl", "why": ""}},
            "acl": "",
        }
    ]
    alone, copy = (
        redis_files(configured, "redis", follows)[0] for follows in ({}, {"sessions": f"{B} 6380"})
    )
    assert "replicaof" not in alone["content"]
    assert copy["content"].endswith(f"replicaof {B} 6380\n")
    assert copy["once"]
