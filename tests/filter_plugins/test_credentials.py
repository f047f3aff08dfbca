"""SCRAM verifiers, against a published example and by their own rules."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.credentials import scram_sha_256


def test_verifier_is_the_one_that_a_login_with_the_password_proves():
    verifier = scram_sha_256("pencil", "chat_app", "secret")
    kind, iterations_salt, keys = verifier.split("$")
    iterations, salt = iterations_salt.split(":")
    stored, server = (b64decode(key) for key in keys.split(":"))
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", b64decode(salt), int(iterations))
    assert kind == "SCRAM-SHA-256"
    assert stored == hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")


def test_verifier_is_the_same_in_every_run():
    assert scram_sha_256("pencil", "chat_app", "secret") == scram_sha_256("pencil", "chat_app", "secret")


@pytest.mark.parametrize(
    "other", [("pen", "chat_app", "secret"), ("pencil", "reader", "secret"), ("pencil", "chat_app", "other")]
)
def test_verifier_differs_by_password_role_and_salt(other):
    assert scram_sha_256(*other) != scram_sha_256("pencil", "chat_app", "secret")


@pytest.mark.parametrize("password", ["", "pässword", "a\nb"])
def test_unusable_password_is_refused_without_being_shown(password):
    with pytest.raises(AnsibleFilterError, match="chat_app") as refused:
        scram_sha_256(password, "chat_app", "secret")
    assert not password or password not in str(refused.value)
