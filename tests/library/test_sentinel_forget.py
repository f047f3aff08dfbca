"""Whom a Sentinel forgets, and who has to answer before it does."""

from __future__ import annotations

import pytest

from library.sentinel_forget import gone, names, silent

STAYS = {"ip": "192.0.2.1", "port": "6380", "flags": "slave"}
LEAVES = {"ip": "192.0.2.3", "port": "6380", "flags": "s_down,slave,disconnected"}
GHOST = {"ip": "192.0.2.1", "port": "0", "flags": "sentinel"}


def test_whoever_does_not_stay_goes_and_whom_another_has_replaced():
    assert gone([STAYS, LEAVES, GHOST], ["192.0.2.1", "192.0.2.2"]) == [LEAVES, GHOST]
    assert gone([STAYS], ["192.0.2.1"]) == []


@pytest.mark.parametrize(
    ("flags", "away"), [("slave", False), ("s_down,slave", True), ("sentinel,disconnected", True)]
)
def test_who_is_away_would_be_forgotten_too(flags, away):
    peer = {**STAYS, "flags": flags}
    assert silent([peer]) == ([peer] if away else [])


def test_names_are_for_people():
    assert names([STAYS]) == ["slave 192.0.2.1:6380"]
