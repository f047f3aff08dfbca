"""Passwords by Argon2id, with argon2-cffi's defaults (RFC 9106's for little memory: 64 MiB, some 50 ms).

An asyncio server calls these by `asyncio.to_thread`: they keep a core busy.
"""

from __future__ import annotations

import argon2

_HASHER = argon2.PasswordHasher()


def hash_password(password: str) -> str:
    """What to keep of a password: 97 characters, salt and parameters included."""
    return _HASHER.hash(password)


def verify_password(password: str, password_hash: str) -> bool:
    """Whether this is the password; False as well for a hash that is none of Argon2."""
    try:
        return _HASHER.verify(password_hash, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether to hash the password anew, now that it is known: today's parameters differ from the hash's."""
    try:
        return _HASHER.check_needs_rehash(password_hash)
    except argon2.exceptions.InvalidHashError:
        return True
