"""Passwords by Argon2id."""

from __future__ import annotations

import argon2
import pytest

from chatdata.passwords import hash_password, needs_rehash, verify_password


def test_password_is_verified_by_its_hash_alone():
    kept = hash_password("Grüße, horse battery")
    assert kept.startswith("$argon2id$")
    assert len(kept) <= 255
    assert hash_password("Grüße, horse battery") != kept
    assert verify_password("Grüße, horse battery", kept)
    assert not verify_password("grüße, horse battery", kept)
    assert not needs_rehash(kept)


@pytest.mark.parametrize("kept", ["", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$broken"])
def test_hash_of_another_kind_fits_no_password_and_is_to_be_made_anew(kept):
    assert not verify_password("", kept)
    assert needs_rehash(kept)


def test_hash_with_weaker_parameters_is_to_be_made_anew():
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("password")
    assert verify_password("password", weak)
    assert needs_rehash(weak)
