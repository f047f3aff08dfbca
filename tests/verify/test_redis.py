"""The two Redis instances as the application and an operator see them."""

from __future__ import annotations

import pytest
import redis

from .conftest import refusal, ssh

INSTANCES = ["sessions", "realtime"]
OWN_KEY = {"sessions": "refresh_token:verify", "realtime": "presence:verify"}
FOREIGN_KEY = {"sessions": "presence:verify", "realtime": "refresh_token:verify"}


@pytest.mark.parametrize("instance", INSTANCES)
def test_application_logs_in(redis_connect, saw, instance):
    saw(True, redis_connect(instance).ping())


@pytest.mark.parametrize("instance", INSTANCES)
def test_application_reads_its_keys(redis_connect, saw, instance):
    saw(0, redis_connect(instance).exists(OWN_KEY[instance]))


@pytest.mark.parametrize("instance", INSTANCES)
def test_foreign_key_is_refused(redis_connect, saw, instance):
    client = redis_connect(instance)
    said = refusal(redis.exceptions.NoPermissionError, lambda: client.get(FOREIGN_KEY[instance]))
    saw("refused", "refused" if "permission" in said.lower() else said)


# Asked as a rehearsal: were the right there, the command itself would do its harm.
@pytest.mark.parametrize("command", ["FLUSHALL", "KEYS *", "CONFIG GET *", "SHUTDOWN", "ACL LIST"])
@pytest.mark.parametrize("instance", INSTANCES)
def test_command_is_refused(cache, subject, saw, instance, command):
    said = _ask(cache, subject, instance, f"ACL DRYRUN chat_app_{instance} {command}")
    saw("refused", "refused" if "no permissions to run" in said else said)


@pytest.mark.parametrize("instance", INSTANCES)
def test_default_user_is_refused(redis_connect, saw, instance):
    client = redis_connect(instance, username=None, password=None, protocol=2)
    said = refusal(redis.exceptions.AuthenticationError, client.ping)
    saw("refused", "refused" if "Authentication required" in said else said)


@pytest.mark.parametrize("instance", INSTANCES)
def test_wrong_password_is_refused(redis_connect, saw, instance):
    client = redis_connect(instance, password="wrong")
    said = refusal(redis.exceptions.AuthenticationError, client.ping)
    saw("refused", "refused" if "invalid username-password" in said else said)


@pytest.mark.parametrize("instance", INSTANCES)
def test_connection_without_tls_is_refused(redis_connect, saw, instance):
    client = redis_connect(instance, ssl=False)
    said = refusal(redis.exceptions.ConnectionError, client.ping)
    saw("refused", "refused" if said != "allowed" else said)


@pytest.mark.parametrize("instance", INSTANCES)
def test_foreign_authority_is_not_trusted(redis_connect, saw, instance):
    client = redis_connect(instance, ssl_ca_certs="/etc/ssl/certs/ca-certificates.crt")
    said = refusal(redis.exceptions.ConnectionError, client.ping)
    saw("refused", "refused" if "certificate verify failed" in said.lower() else said)


@pytest.mark.parametrize(
    ("instance", "setting", "expected"),
    [
        ("sessions", "maxmemory-policy", "noeviction"),
        ("sessions", "appendonly", "yes"),
        ("realtime", "maxmemory-policy", "volatile-ttl"),
        ("realtime", "appendonly", "no"),
        ("realtime", "notify-keyspace-events", "xE"),
    ],
)
def test_setting(cache, subject, saw, instance, setting, expected):
    saw(expected, _ask(cache, subject, instance, f"CONFIG GET {setting}"))


@pytest.mark.parametrize("instance", INSTANCES)
def test_memory_has_a_limit(cache, subject, saw, instance):
    saw(True, int(_ask(cache, subject, instance, "CONFIG GET maxmemory")) > 0)


def _ask(cache, subject, instance, command):
    """The last line of what redis-cli answers chat_admin on the host."""
    script = f"AUTH chat_admin {subject.secrets['chat_admin']}\n{command}\n"
    return ssh(cache, f"redis-cli -s /run/redis-{instance}/redis.sock", script).splitlines()[-1]
