"""Addresses from inventory variables."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.addresses import addresses_of, networks_of

HOSTVARS = {
    "db1": {"ansible_host": "10.0.0.2"},
    "app1": {"ansible_host": "203.0.113.9", "common_address": "10.0.0.1"},
    "named": {"ansible_host": "app.example.com"},
}


def test_private_address_comes_before_the_one_for_ssh():
    assert addresses_of(HOSTVARS, ["app1", "db1"]) == ["10.0.0.1", "10.0.0.2"]


def test_name_is_refused_with_what_to_set():
    with pytest.raises(AnsibleFilterError, match=r"named: 'app\.example\.com'.*common_address"):
        addresses_of(HOSTVARS, ["named"])


def test_networks_hold_hosts_and_blocks_once_each():
    blocks = networks_of(HOSTVARS, ["db1"], ["10.0.0.2/32", "192.0.2.0/24"])
    assert blocks == ["10.0.0.2/32", "192.0.2.0/24"]


@pytest.mark.parametrize("block", ["10.0.0.1/8", "all"])
def test_block_with_host_bits_or_no_block_is_refused(block):
    with pytest.raises(AnsibleFilterError, match="common_client_networks"):
        networks_of(HOSTVARS, [], [block])
