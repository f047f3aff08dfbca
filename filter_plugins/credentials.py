"""What is stored of a password: PostgreSQL's SCRAM verifier."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from typing import Any

from ansible.errors import AnsibleFilterError

SCRAM_ITERATIONS = 4096  # PostgreSQL's own default, and what its clients expect


def scram_sha_256(password: str, role: str, salt_secret: str) -> str:
    """The SCRAM-SHA-256 verifier of `password`, as pg_authid.rolpassword holds it.

    The salt is an HMAC of the role under `salt_secret`, so that a second run finds the
    verifier that the first one stored, and the password itself never travels to the
    server or its log. Passwords must be ASCII: then SASLprep changes nothing.
    Source: RFC 5802, section 3; PostgreSQL's pg_authid.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise AnsibleFilterError(
            f"the password of the role {role} is empty or not printable ASCII: generate a new one"
        )
    salt = hmac.digest(salt_secret.encode(), role.encode(), "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (
        b64encode(part).decode() for part in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt_text}${stored_text}:{server_text}"


class FilterModule:
    """The filter that the role chat_database uses."""

    def filters(self) -> dict[str, Any]:
        return {"scram_sha_256": scram_sha_256}
