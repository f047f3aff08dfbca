"""Redis's instances as the application and an operator see them, by what they serve."""

from __future__ import annotations

import pytest
import redis

from .conftest import REDIS_USERS, refusal, ssh

PURPOSES = ["tokens", "presence"]
OWN_KEY = {"tokens": "refresh_token:verify", "presence": "presence:verify"}
FOREIGN_KEY = {"tokens": "presence:verify", "presence": "refresh_token:verify"}
FORBIDDEN = [
    "KEYS *", "SCAN 0", "FLUSHALL", "FLUSHDB", "CONFIG GET *", "DEBUG SLEEP 0", "SHUTDOWN", "MODULE LIST",
    "ACL LIST",
]  # fmt: skip


@pytest.mark.parametrize("purpose", PURPOSES)
def test_application_logs_in(redis_connect, saw, purpose):
    saw(True, redis_connect(purpose).ping())


@pytest.mark.parametrize("purpose", PURPOSES)
def test_application_reads_its_keys(redis_connect, saw, purpose):
    saw(0, redis_connect(purpose).exists(OWN_KEY[purpose]))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_foreign_key_is_refused(redis_connect, saw, purpose):
    client = redis_connect(purpose)
    said = refusal(redis.exceptions.NoPermissionError, lambda: client.get(FOREIGN_KEY[purpose]))
    saw("refused", "refused" if "permission" in said.lower() else said)


def test_foreign_channel_is_refused(redis_connect, saw):
    listener = redis_connect("presence").pubsub()
    listener.subscribe("__keyevent@0__:del")
    said = refusal(redis.exceptions.NoPermissionError, lambda: listener.get_message(timeout=5))
    saw("refused", "refused" if "permission" in said.lower() else said)


# Asked as a rehearsal: were the right there, the command itself would do its harm.
@pytest.mark.parametrize("command", FORBIDDEN)
@pytest.mark.parametrize("purpose", REDIS_USERS)
def test_command_is_refused(cache, subject, saw, purpose, command):
    said = _ask(cache, subject, purpose, f"ACL DRYRUN {REDIS_USERS[purpose]} {command}")
    saw("refused", "refused" if "no permissions to run" in said else said)


def test_monitor_sees_figures_and_no_key(redis_connect, subject, saw):
    client = redis_connect("tokens", username="chat_monitor", password=subject.secrets["chat_monitor"])
    said = refusal(redis.exceptions.NoPermissionError, lambda: client.get(OWN_KEY["tokens"]))
    saw(
        (True, "refused"),
        ("used_memory" in client.info(), "refused" if "permission" in said.lower() else said),
    )


@pytest.mark.parametrize("purpose", PURPOSES)
def test_default_user_is_refused(redis_connect, saw, purpose):
    client = redis_connect(purpose, username=None, password=None, protocol=2)
    said = refusal(redis.exceptions.AuthenticationError, client.ping)
    saw("refused", "refused" if "Authentication required" in said else said)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_wrong_password_is_refused(redis_connect, saw, purpose):
    client = redis_connect(purpose, password="wrong")
    said = refusal(redis.exceptions.AuthenticationError, client.ping)
    saw("refused", "refused" if "invalid username-password" in said else said)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_connection_without_tls_is_refused(redis_connect, saw, purpose):
    client = redis_connect(purpose, ssl=False)
    said = refusal(redis.exceptions.ConnectionError, client.ping)
    saw("refused", "refused" if said != "allowed" else said)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_foreign_authority_is_not_trusted(redis_connect, saw, purpose):
    client = redis_connect(purpose, ssl_ca_certs="/etc/ssl/certs/ca-certificates.crt")
    said = refusal(redis.exceptions.ConnectionError, client.ping)
    saw("refused", "refused" if "certificate verify failed" in said.lower() else said)


@pytest.mark.parametrize(
    ("purpose", "setting", "expected"),
    [
        ("tokens", "maxmemory-policy", "noeviction"),
        ("tokens", "appendonly", "yes"),
        ("presence", "maxmemory-policy", "volatile-ttl"),
        ("presence", "appendonly", "no"),
        ("presence", "notify-keyspace-events", "xE"),
    ],
)
def test_setting(cache, subject, saw, purpose, setting, expected):
    saw(expected, _ask(cache, subject, purpose, f"CONFIG GET {setting}"))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_memory_has_a_limit(cache, subject, saw, purpose):
    saw(True, int(_ask(cache, subject, purpose, "CONFIG GET maxmemory")) > 0)


def _ask(cache, subject, purpose, command):
    """The last line of what the host's own client answers chat_admin."""
    script = f"AUTH chat_admin {subject.secrets['chat_admin']}\n{command}\n"
    socket = f"/run/{cache.redis_flavour}-{cache.serving(purpose)}/redis.sock"
    return ssh(cache, f"{cache.redis_flavour}-cli -s {socket}", script).splitlines()[-1]
