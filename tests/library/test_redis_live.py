"""A running Redis compared with its files."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils
import pytest

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from library.redis_live import differences, full, settings_in, users  # noqa: E402  from module_utils

HASH = "#" + "ab" * 32


@pytest.mark.parametrize(
    ("limit", "policy", "refuses"),
    [
        ("999", "noeviction", True),
        ("1001", "noeviction", False),
        ("0", "noeviction", False),  # no limit
        ("999", "allkeys-lru", False),
    ],
)
def test_instance_that_holds_more_than_it_may_refuses_writes(limit, policy, refuses):
    assert full({"maxmemory": limit, "maxmemory-policy": policy}, 1000) is refuses


def test_equal_settings_are_no_difference():
    assert differences({"maxmemory": "1048576"}, {"maxmemory": "1048576"}) == {}


def test_event_flags_are_compared_without_their_order():
    assert differences({"notify-keyspace-events": "xE"}, {"notify-keyspace-events": "Ex"}) == {}


def test_difference_names_both_values():
    found = differences({"maxmemory-policy": "allkeys-lru"}, {"maxmemory-policy": "noeviction"})
    assert found == {"maxmemory-policy": ("allkeys-lru", "noeviction")}


def test_setting_that_the_server_lacks_is_a_difference():
    assert differences({}, {"io-threads": "4"}) == {"io-threads": ("", "4")}


def test_grants_after_the_last_denial_are_compared_without_their_order():
    assert users(f"user a on {HASH} ~k:* -@all +get +set\n") == users(
        f"user a on {HASH} ~k:* -@all +set +get\n"
    )


def test_order_around_a_denial_matters():
    assert users("user a -@all +get") != users("user a +get -@all")


def test_another_key_pattern_is_another_user():
    assert users("user a ~k:* +get") != users("user a ~* +get")


def test_file_is_read_as_redis_reads_it(tmp_path):
    path = tmp_path / "chat.conf"
    path.write_text('# a reason\nsave 3600 1 300 100\n\ntls-protocols "TLSv1.2 TLSv1.3"\nlogfile ""\n')
    assert settings_in(str(path)) == {
        "save": "3600 1 300 100", "tls-protocols": "TLSv1.2 TLSv1.3", "logfile": "",
    }  # fmt: skip
