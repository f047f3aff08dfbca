#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring running instances of Redis to the settings and ACL users that their files hold."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_live
short_description: Bring running instances of Redis to what their files say
description:
  - Compares each running instance with the wanted settings (CONFIG GET) and users (ACL LIST), so that a
    change made by hand with CONFIG SET or ACL SETUSER shows up and is undone. What no setting names has to be
    as in a server that is started with O(instances[].settings) alone, aside, for the
    comparison.
  - Sets what Redis lets be set while it runs, loads the ACL file where the users differ, and reports the
    settings that only a restart changes.
options:
  server:
    description: The server's program.
    type: path
    required: true
  username:
    description: An ACL user of every instance that may use CONFIG and ACL.
    type: str
    required: true
  passwords:
    description: Its password, and perhaps an older one that an instance may still have.
    type: list
    elements: str
    required: true
  instances:
    description: The instances.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name in what is reported.
        type: str
        required: true
      socket:
        description: Its unix socket.
        type: path
        required: true
      file:
        description: The configuration file that holds O(instances[].settings), as the last run wrote it.
        type: path
        required: true
      settings:
        description: Settings as Redis's configuration file has them.
        type: dict
        default: {}
      acl:
        description: The ACL file's text.
        type: str
        default: ""
  secrets:
    description: Settings of every instance that are passwords, and in no file that is shown.
    type: dict
    default: {}
  certificate:
    description: The file with the certificate that Redis is to serve, read again where it serves another.
    type: path
    required: true
  certificate_written:
    description: Whether this run has written that file or, in check mode, would have.
    type: bool
    default: false
  report_only:
    description:
      - Set and load nothing; only say what a restart is wanted for, going by O(instances[].file) instead of
        O(instances[].settings) and O(instances[].acl).
    type: bool
    default: false
requirements: [python3-redis]
attributes:
  check_mode:
    support: full
    description: Predicts what would be set, loaded or left for a restart.
  diff_mode:
    support: full
    description: Shows the settings and users before and after.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Bring the instance to what its files say
  redis_live:
    server: /usr/bin/redis-server
    username: chat_admin
    passwords: ["{{ redis_chat_admin_password }}"]
    certificate: /etc/ssl/certs/chat.pem
    instances:
      - name: sessions
        socket: /run/redis-sessions/redis.sock
        file: /etc/redis/chat-sessions.conf
        settings: {maxmemory: "104857600", maxmemory-policy: noeviction, tls-port: "6380"}
        acl: "{{ lookup('ansible.builtin.file', 'sessions.acl') }}"
"""

RETURN = r"""
instances:
  description: What was done to each instance, by its name.
  returned: always
  type: dict
  contains:
    set:
      description: Settings that were set, or would be.
      type: list
      elements: str
    users:
      description: ACL users that were added, changed or removed, or would be.
      type: list
      elements: str
    restart_for:
      description: What only a restart brings about, with the values before and after.
      type: list
      elements: str
"""

import json
import os
import re
import shlex
import ssl
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.owned_files import try_out
from ansible.module_utils.redis_replicas import refuses_password

try:
    import redis
except ImportError:
    HAS_REDIS = False
else:
    HAS_REDIS = True

# Users' passwords are SHA-256; a diff shows enough to tell two apart.
PASSWORD_HASH = re.compile(r"(#[0-9a-f]{8})[0-9a-f]{56}")

# Flagged IMMUTABLE_CONFIG in Redis's config.c, among those that the role sets.
START_ONLY = frozenset(
    {
        "aclfile", "always-show-logo", "aof_rewrite_cpulist", "appenddirname",
        "appendfilename", "bgsave_cpulist", "bind-source-addr", "bio_cpulist", "cluster-enabled", "daemonize",
        "databases", "disable-thp", "enable-debug-command", "enable-module-command",
        "enable-protected-configs", "io-threads", "io-threads-do-reads", "logfile", "pidfile", "rdbchecksum",
        "server_cpulist", "supervised", "syslog-enabled", "syslog-facility", "syslog-ident", "tcp-backlog",
        "unixsocket", "unixsocketperm",
        # Protected: CONFIG SET must not choose where files are written.
        "dbfilename", "dir",
    }
)  # fmt: skip


# What differs between the instance and a server beside it, or what Sentinel and replication decide.
NOT_ASIDE = frozenset(
    {
        "aclfile", "appendonly", "bind", "daemonize", "dir", "logfile", "masterauth", "masteruser",
        "maxclients", "pidfile", "port", "primaryauth", "primaryuser", "replicaof", "save", "slaveof",
        "supervised", "tls-port", "unixsocket", "unixsocketperm",
    }
)  # fmt: skip

# Words in the file, not one string.
SEVERAL_WORDS = frozenset({"client-output-buffer-limit", "oom-score-adj-values"})


def differences(current: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Settings whose current value is not the wanted one: name to (current, wanted)."""

    def normal(name: str, value: str) -> str:
        # Redis answers with its own order of the event flags.
        return "".join(sorted(value)) if name == "notify-keyspace-events" else value

    return {
        name: (current.get(name, ""), value)
        for name, value in wanted.items()
        if normal(name, current.get(name, "")) != normal(name, value)
    }


def settings_in(path: str) -> dict[str, str]:
    """The settings of a configuration file; words of one setting are joined by spaces."""
    with open(path, encoding="utf-8") as file:
        lines = [shlex.split(line, comments=True) for line in file]
    return {words[0]: " ".join(words[1:]) for words in lines if words}


def fresh(
    server: str, settings: Mapping[str, str], acl: str, login: Mapping[str, Any]
) -> tuple[dict[str, str], str]:
    """All settings and ACL LIST of a server that is started with these, away from the instance.

    A server answers with rules of its own wording, the same for the same rights. `login`: username and
    password of a user in `acl` who may use CONFIG and ACL. Raises ValueError with what the server says
    where it does not start.
    """
    content = "".join(
        f"{name} {json.dumps(value) if name not in SEVERAL_WORDS or not value else value}\n"
        for name, value in settings.items()
        if name not in NOT_ASIDE
    )
    files = [{"path": "aside.conf", "content": content}, {"path": "users.acl", "content": acl}]
    aside = ["--unixsocket", "%s/socket", "--dir", "%s", "--port", "0", "--supervised", "systemd"]
    found: dict[str, str] = {}
    listed: list[str] = []

    def ask(folder: str) -> None:
        with redis.Redis(unix_socket_path=f"{folder}/socket", decode_responses=True, **login) as client:
            found.update({str(name): str(value) for name, value in client.config_get("*").items()})
            listed.extend(str(line) for line in client.acl_list())

    said = try_out(files, [server, "%s/aside.conf", "--aclfile", "%s/users.acl", *aside], when_ready=ask)
    if said:
        raise ValueError(said)
    return {name: value for name, value in found.items() if name not in NOT_ASIDE}, "\n".join(listed)


def users(listed: str) -> dict[str, str]:
    """The lines of ACL LIST by user name, in one form.

    What follows -@all, Redis 7.0 lists in no order; a server that words the same rights twice uses the same
    words.
    """
    lines = {}
    for words in (line.split() for line in listed.splitlines() if line.strip()):
        end = words.index("-@all") + 1 if "-@all" in words else len(words)
        lines[words[1]] = " ".join(words[:end] + sorted(words[end:]))
    return lines


def full(settings: Mapping[str, str], used: int) -> bool:
    """Whether an instance that holds `used` bytes would refuse every write with these settings."""
    limit = int(settings.get("maxmemory", "0"))
    return settings.get("maxmemory-policy") == "noeviction" and 0 < limit <= used


def serves_another(port: str, certificate: str) -> bool:
    """Whether the instance on this host's `port` serves another certificate than the first in the file."""
    try:
        with open(certificate, encoding="ascii") as file:
            pem = file.read()
        served = ssl.get_server_certificate(("127.0.0.1", int(port)), timeout=5)
    except OSError:
        return True
    first = pem[: pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
    return ssl.PEM_cert_to_DER_cert(first) != ssl.PEM_cert_to_DER_cert(served)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "server": {"type": "path", "required": True},
            "username": {"type": "str", "required": True},
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "socket": {"type": "path", "required": True},
                    "file": {"type": "path", "required": True},
                    "settings": {"type": "dict", "default": {}},
                    "acl": {"type": "str", "default": "", "no_log": True},
                },
            },
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "certificate": {"type": "path", "required": True},
            "certificate_written": {"type": "bool", "default": False},
            "report_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    done: dict[str, dict[str, list[str]]] = {}
    diffs: list[dict[str, str]] = []
    for instance in module.params["instances"]:
        done[instance["name"]], diff = _bring(module, instance)
        diffs += diff
    module.exit_json(
        changed=any(result["set"] or result["users"] for result in done.values()), instances=done, diff=diffs
    )


def _bring(
    module: AnsibleModule, instance: Mapping[str, Any]
) -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    """What was set and loaded in the instance and what waits for a restart, and the differences."""
    parameters = module.params
    nothing: dict[str, list[str]] = {"set": [], "users": [], "restart_for": []}
    if module.check_mode and not os.path.exists(instance["socket"]):
        return nothing, []  # its start is announced; until then there is nothing to compare
    if not HAS_REDIS:
        module.fail_json(msg=missing_required_lib("redis"))

    for password in parameters["passwords"]:
        client = redis.Redis(
            unix_socket_path=instance["socket"],
            username=parameters["username"],
            password=password,
            decode_responses=True,
        )
        try:
            current = {str(name): str(value) for name, value in client.config_get("*").items()}
            current_users = users("\n".join(str(line) for line in client.acl_list()))
            break
        except redis.exceptions.RedisError as error:
            if not refuses_password(error):
                module.fail_json(msg=f"{instance['socket']}: {error}")
    else:
        # The file has a newer password than the process.
        return {**nothing, "restart_for": [f"password of {parameters['username']}"]}, []

    report_only = parameters["report_only"]
    acl = "" if report_only else instance["acl"]
    try:
        wanted = {name: str(value) for name, value in instance["settings"].items()}
        wanted = settings_in(instance["file"]) if report_only else wanted
        login = {"username": parameters["username"], "password": parameters["passwords"][0]}
        login = login if acl else {}  # an empty file leaves everything to everybody
        others, listed = fresh(parameters["server"], wanted, acl, login)
        wanted |= others  # the same values, in the server's own form
        wanted |= {} if report_only else {name: str(value) for name, value in parameters["secrets"].items()}
    except OSError as error:
        module.fail_json(msg=str(error))
    except (ValueError, redis.exceptions.RedisError) as error:
        module.fail_json(
            msg=f"{parameters['server']} does not start with the settings of {instance['name']}: {error}"
        )
    wanted_users = users(listed)
    changes = differences(current, wanted)
    waiting = sorted(changes.keys() & START_ONLY)
    live = {name: change for name, change in changes.items() if name not in START_ONLY}
    if parameters["certificate_written"] or serves_another(current["tls-port"], parameters["certificate"]):
        # Redis reads the file again when it is told the same path.
        for name in ("tls-cert-file", "tls-key-file"):
            live[name] = (current[name], wanted[name] + " (read again)")
    live |= dict.fromkeys(live.keys() & parameters["secrets"].keys(), ("(hidden)", "(another)"))
    names = sorted(
        name
        for name in current_users.keys() | wanted_users.keys()
        if current_users.get(name) != wanted_users.get(name)
    )
    if report_only:
        live, names = {}, []
    try:
        used = int(client.info("memory")["used_memory"]) if "maxmemory" in live else 0
    except redis.exceptions.RedisError as error:
        module.fail_json(msg=f"{instance['socket']}: {error}")
    if used and full(wanted, used):
        module.fail_json(
            msg=f"Redis {instance['name']} holds {used} bytes: with a maxmemory of {wanted['maxmemory']} it "
            "would refuse every write from now on, as it evicts nothing. It was left as it runs. Set "
            f"redis_instances.{instance['name']}.maxmemory_mb higher, and run again."
        )
    if not module.check_mode:
        try:
            for name in live:
                client.config_set(name, wanted[name])
            if names:
                client.acl_load()
        except redis.exceptions.RedisError as error:
            module.fail_json(msg=f"{instance['socket']}: {error}")
    later = {name: changes[name] for name in waiting}
    restart_for = [f"{name} ({old or 'nothing'} -> {new or 'nothing'})" for name, (old, new) in later.items()]
    return {"set": sorted(live), "users": names, "restart_for": restart_for}, [
        _difference(instance["name"], text, before, after)
        for text, before, after in (
            ("CONFIG SET", _lines(live, 0), _lines(live, 1)),
            ("ACL LOAD", _user_lines(current_users, names), _user_lines(wanted_users, names)),
            ("only by a restart", _lines(later, 0), _lines(later, 1)),
        )
    ]


def _difference(instance: str, means: str, before: str, after: str) -> dict[str, str]:
    return {
        "before_header": f"{instance}: running",
        "after_header": f"{instance}: wanted ({means})",
        "before": before,
        "after": after,
    }


def _lines(changes: Mapping[str, tuple[str, str]], side: int) -> str:
    return "".join(f"{name} {values[side]}\n" for name, values in sorted(changes.items()))


def _user_lines(lines: Mapping[str, str], names: list[str]) -> str:
    shown = "".join(f"{lines[name]}\n" for name in names if name in lines)
    return PASSWORD_HASH.sub(r"\1...", shown)


if __name__ == "__main__":
    main()
