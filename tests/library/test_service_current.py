"""When a service is started, reloaded or restarted."""

from __future__ import annotations

import pytest

from library.service_current import newer, plan, seconds

RUNNING = {"ActiveState": "active", "UnitFileState": "enabled"}


@pytest.mark.parametrize(
    ("unit", "reload_for", "restart_for", "allowed", "actions", "waits"),
    [
        (RUNNING, [], [], True, [], False),
        (RUNNING, ["ini"], [], True, ["reload"], False),
        (RUNNING, ["ini"], ["drop-in"], True, ["restart"], False),
        (RUNNING, [], ["drop-in"], False, [], True),
        (RUNNING, ["ini"], ["drop-in"], False, ["reload"], True),
        (RUNNING | {"ActiveState": "failed"}, ["ini"], [], False, ["start"], False),
        (
            RUNNING | {"ActiveState": "inactive", "UnitFileState": ""},
            [],
            [],
            False,
            ["enable", "start"],
            False,
        ),
        (RUNNING | {"UnitFileState": "disabled"}, [], [], False, ["enable"], False),
    ],
)
def test_plan(unit, reload_for, restart_for, allowed, actions, waits):
    made = plan(unit, reload_for, restart_for, allow_restart=allowed)
    assert (made.actions, made.restart_needed) == (actions, waits)


def test_restart_is_wanted_for_its_own_reasons_alone():
    made = plan(RUNNING, ["ini"], ["drop-in", "port (1 -> 2)"], allow_restart=False)
    assert made.restart_for == ["drop-in", "port (1 -> 2)"]
    assert plan(RUNNING, ["ini"], [], allow_restart=True).restart_for == []


def test_moments_are_read_to_the_microsecond():
    later = seconds("Mon 2026-11-23 06:27:08.884395 UTC")
    assert later > seconds("Mon 2026-11-23 06:27:08.884394 UTC") > seconds("") == 0


def test_file_changed_since_counts_and_missing_one_does_not(tmp_path):
    path = tmp_path / "chat.conf"
    path.touch()
    changed = path.stat().st_ctime
    assert newer([str(path), "/missing"], changed - 1, []) == [str(path)]
    assert newer([str(path)], changed + 1, []) == []


def test_file_that_this_run_would_write_counts_before_it_is_written():
    assert newer(["/etc/chat.conf"], 0, ["/etc/chat.conf", "/etc/other.conf"]) == ["/etc/chat.conf"]
