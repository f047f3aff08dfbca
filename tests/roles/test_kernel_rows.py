"""When a check of the running kernel fails, and when it only says whose the setting is."""

from __future__ import annotations

import pytest

from tests.verify.kernel import READ_ONLY, huge_pages_row, setting_row, shown_value

MEMINFO = "HugePages_Total: 275\nHugePages_Free: {}\nHugePages_Rsvd: 200\n"


@pytest.mark.parametrize(("text", "value"), [("60\n", "60"), ("always [madvise] never\n", "madvise")])
def test_value_is_read_as_the_kernel_shows_it(text, value):
    assert shown_value(text) == value


@pytest.mark.parametrize(
    ("seen", "writable", "row"),
    [
        ("1", True, ("1", "1")),
        ("60", True, ("1", "60")),  # fails
        ("60", False, (READ_ONLY, READ_ONLY)),
        ("1", False, ("1", "1")),  # the owner has set it
    ],
)
def test_setting_fails_only_where_it_could_be_written(seen, writable, row):
    assert setting_row("1", seen, writable) == row


@pytest.mark.parametrize(
    ("free", "writable", "held"), [(200, True, True), (210, True, False), (210, False, True)]
)
def test_idle_huge_pages_fail_only_where_they_could_be_given_back(free, writable, held):
    expected, seen = huge_pages_row(MEMINFO.format(free), writable, True)
    assert (expected == seen) == held
    assert seen == f"{free - 200} idle, PostgreSQL uses huge pages"


def test_ordinary_pages_are_no_failure():
    expected, seen = huge_pages_row(MEMINFO.format(200), True, False)
    assert expected == seen == "0 idle, PostgreSQL uses ordinary pages"
    assert huge_pages_row(MEMINFO.format(200), False, False) == (READ_ONLY, READ_ONLY)
