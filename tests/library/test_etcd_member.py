"""Who is removed for a host that comes without data, who may go, and what a first start is told."""

from __future__ import annotations

import pytest
from ansible.module_utils.etcd_client import EtcdctlError

from library import etcd_member
from library.etcd_member import Cluster, initial_cluster, looked, majority_left, stale


def member(number: int, learner: bool = False) -> dict[str, object]:
    """A member as etcdctl's JSON has it."""
    said = {"ID": number, "name": f"node{number}", "peerURLs": [f"https://192.0.2.{number}:2380"]}
    return said | ({"isLearner": True} if learner else {})


THREE = [member(1), member(2), member(3)]


@pytest.mark.parametrize(
    ("text", "state", "sealed"),
    [
        ("", "", False),
        ("ETCD_INITIAL_CLUSTER_STATE=new\nETCD_INITIAL_CLUSTER=node1=https://192.0.2.1:2380\n", "new", False),
        ("ETCD_INITIAL_CLUSTER_STATE=existing\nETCD_INITIAL_CLUSTER=node1=a,node2=b\n", "existing", False),
        ("ETCD_INITIAL_CLUSTER_STATE=existing\nETCD_INITIAL_CLUSTER=node1=a\n", "existing", True),
    ],
)
def test_only_a_file_that_names_its_host_alone_is_sealed(text, state, sealed):
    assert looked(text, "node1") == (state, sealed)


def test_host_without_data_was_the_member_of_its_name_or_of_its_address():
    assert stale(THREE, "node2", "https://192.0.2.9:2380") == [member(2)]
    assert stale(THREE, "node9", "https://192.0.2.2:2380") == [member(2)]
    assert stale(THREE, "node9", "https://192.0.2.9:2380") == []


@pytest.mark.parametrize(
    ("gone", "healthy", "may_go"),
    [([3], 2, True), ([3], 1, False), ([2, 3], 1, True), ([2, 3], 0, False), ([1, 2, 3], 0, False)],
)
def test_nobody_goes_without_a_majority_of_those_who_stay(gone, healthy, may_go):
    assert majority_left(THREE, [member(number) for number in gone], healthy) == may_go


def test_learner_is_no_voter():
    assert majority_left([*THREE, member(4, learner=True)], [member(2), member(3)], 1)


def test_first_start_is_told_its_own_name_and_everybody():
    added = {"ID": 4, "peerURLs": ["https://192.0.2.4:2380"]}
    unstarted = {"ID": 255, "peerURLs": ["https://192.0.2.5:2380"]}
    assert initial_cluster([member(1), unstarted, added], 4, "node4") == (
        "node1=https://192.0.2.1:2380,ff=https://192.0.2.5:2380,node4=https://192.0.2.4:2380"
    )


class Etcd:
    """etcd that answers so, one after the other."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def ask(self, *_arguments):
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            raise EtcdctlError(answer)
        return answer


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(etcd_member.time, "sleep", lambda _s: None)
    return Cluster.__new__(Cluster)


def test_member_is_added_when_one_that_has_just_got_its_vote_has_settled(cluster):
    settling = "Error: etcdserver: unhealthy cluster"
    cluster._etcd = Etcd(settling, settling, {"member": member(4), "members": [*THREE, member(4)]})
    assert cluster.add("node4", "https://192.0.2.4:2380").endswith("node4=https://192.0.2.4:2380")


@pytest.mark.parametrize(
    ("said", "patience_s"), [("Error: etcdserver: Peer URLs already exists", 30), ("unhealthy cluster", -1)]
)
def test_other_refusals_and_a_member_that_stays_away_are_errors(cluster, monkeypatch, said, patience_s):
    monkeypatch.setattr(etcd_member, "SETTLED_S", patience_s)
    cluster._etcd = Etcd(said)
    with pytest.raises(EtcdctlError, match=said.rpartition(": ")[2]):
        cluster.add("node4", "https://192.0.2.4:2380")
