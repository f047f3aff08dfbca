"""Redis's ACL users: which commands, keys and channels each may use, per version of the server.

Pure functions. A rule set is what follows the password in an ACL file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# AUTH and HELLO are everybody's, whatever the rules say.
CONNECTION = ("+ping", "+client|setname")
# CLIENT SETINFO came with 7.2; a server refuses an ACL file that names an unknown command.
CONNECTION_SINCE_7_2 = ("+client|setinfo",)

# Nobody can log in as `default`, which is off and has no password. But with its rights Redis replays
# transactions and scripts from the AOF as it starts, and leaves out what it may not write. Mended after
# Redis 8.0 and Valkey 8.1: https://github.com/redis/redis/issues/14541,
# https://github.com/valkey-io/valkey/issues/3983
DEFAULT = ("~*", "resetchannels", "-@all", "+@write", "+select")

# The application's user for each purpose that an instance serves.
USERS = {"tokens": "chat_app_sessions", "presence": "chat_app_realtime", "socketio": "chat_socketio"}

# For clients that are not chatdata, on the same keys.
OTHER_CLIENTS = ("+setex", "+getdel", "+mget", "+exists", "+expire", "+ttl", "+pttl")

# What chatdata's stores do, and no more: tests/chatdata/test_redis_rights.py drops each. In scripts too.
TOKENS = (
    "+evalsha", "+eval", "+time", "+get", "+set", "+del", "+hset", "+hmget", "+pexpireat",
    "+zadd", "+zrange", "+zrem", "+zremrangebyscore",
    "+wait",  # where a token is to be on a replica before it is handed out
)  # fmt: skip
PRESENCE = (
    "+time", "+get", "+set", "+del", "+pexpireat",
    "+zadd", "+zrange", "+zrem", "+zremrangebyscore", "+zscore", "+zmscore",
    "+watch", "+unwatch", "+multi", "+exec", "+publish", "+subscribe",
)  # fmt: skip
MONITOR = (
    "+ping", "+info", "+dbsize", "+latency|latest", "+latency|history",
    "+latency|histogram", "+slowlog|get", "+slowlog|len", "+memory|stats",
)  # fmt: skip

# What Sentinel does to an instance, and a replica to its master.
SENTINEL = (
    "+multi", "+slaveof", "+ping", "+exec", "+subscribe", "+config|rewrite", "+role", "+publish", "+info",
    "+client|setname", "+client|kill", "+script|kill",
)  # fmt: skip
REPLICA = ("+psync", "+replconf", "+ping")

# What clients hear of a failover. The second line: node-redis's patterns, letter by letter.
SENTINEL_EVENTS = (
    "&+switch-master",
    *("&switch-master", "&[-+]sdown", "&+slave", "&+sentinel", "&[-+]odown", "&+slave-reconf-done"),
)

# On Sentinel's own port, in the words of its ACL LIST (7.0 names a category where most of it is allowed):
# Sentinels to each other, and clients that ask for the master.
SENTINEL_PORT = {
    "default": "off sanitize-payload resetchannels -@all",
    "chat_admin": "on sanitize-payload {} ~* &* +@all",
    "chat_sentinel": "on sanitize-payload {} resetchannels &__sentinel__:hello -@all +ping +publish "
    "+client|setname +sentinel|is-master-down-by-addr",
    "chat_sentinel_client": f"on sanitize-payload {{}} resetchannels {' '.join(SENTINEL_EVENTS)} -@all +ping "
    "+client|setname +sentinel|get-master-addr-by-name +sentinel|master +sentinel|masters +sentinel|replicas "
    "+sentinel|slaves +sentinel|sentinels +@pubsub -punsubscribe -publish",
}

# What each adapter of Socket.IO uses: channels for each namespace ({}), keys, commands.
ADAPTERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    # @socket.io/redis-adapter, createAdapter
    "classic": (
        ("socket.io#{}#*", "socket.io-request#{}#", "socket.io-response#{}#*"),
        (),
        ("+publish", "+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe", "+pubsub|numsub"),
    ),
    # the same, createShardedAdapter
    "sharded": (
        ("socket.io#{}#*",),
        (),
        ("+spublish", "+ssubscribe", "+sunsubscribe", "+pubsub|shardnumsub"),
    ),
    # @socket.io/redis-streams-adapter, with the recovery of a connection's state
    "streams": (
        ("socket.io#{}#*",),
        ("socket.io", "sio:session:*"),
        (
            *("+xadd", "+xread", "+xrange", "+set", "+get", "+del", "+multi", "+exec"),
            *("+publish", "+subscribe", "+pubsub|numsub"),  # what asks the other servers goes by channels
        ),
    ),
    # python-socketio's AsyncRedisManager
    "python": (("socketio",), (), ("+publish", "+subscribe")),
}


def socketio_rules(adapters: Sequence[str], namespaces: Sequence[str], version: str) -> list[str]:
    """What the adapters need in these namespaces, and nothing more.

    A PSUBSCRIBE's pattern is compared with the rule's letter by letter, so each namespace has its own.
    """
    channels: list[str] = []
    keys: list[str] = []
    commands: list[str] = []
    for adapter in adapters:
        of_namespace, of_keys, of_commands = ADAPTERS[adapter]
        for pattern in of_namespace:
            channels += (
                [pattern.format(namespace) for namespace in namespaces] if "{}" in pattern else [pattern]
            )
        keys += of_keys
        commands += of_commands
    return _rules(keys, channels, commands, version)


def _rules(keys: Iterable[str], channels: Iterable[str], commands: Iterable[str], version: str) -> list[str]:
    connection = CONNECTION + (() if version.startswith("7.0") else CONNECTION_SINCE_7_2)
    return [
        *(f"~{key}" for key in dict.fromkeys(keys)),
        "resetchannels",
        *(f"&{channel}" for channel in dict.fromkeys(channels)),
        "-@all",
        *dict.fromkeys([*connection, *commands]),
    ]


def redis_users(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """The rules of each user of an instance (complete, see redis_tuning.py), by name.

    `plan`: adapters, namespaces, version (the server's, such as "8.0").
    """
    version = plan["version"]
    users = {
        # For the play and operators, over the local socket.
        "chat_admin": ["~*", "&*", "+@all"],
        # For exporters: figures, no key and no channel.
        "chat_monitor": _rules([], [], MONITOR, version),
    }
    purposes = {
        "tokens": lambda: _rules(["refresh_token:*"], [], TOKENS + OTHER_CLIENTS, version),
        "presence": lambda: _rules(
            ["presence:*", "typing:*"],
            ["__keyevent@0__:expired", "presence:changes"],
            (*PRESENCE, *OTHER_CLIENTS, "+unsubscribe"),
            version,
        ),
        "socketio": lambda: socketio_rules(plan["adapters"], plan["namespaces"], version),
    }
    for purpose in instance["serves"]:
        users[USERS[purpose]] = purposes[purpose]()
    if plan.get("replicas"):
        # On every channel, and it may cut off every client: a failover does.
        users["chat_sentinel"] = ["resetchannels", "&*", "-@all", *SENTINEL]
        users["chat_replica"] = ["resetchannels", "-@all", *REPLICA]
    for name, user in instance["users"].items():
        users[name] = _rules(user["keys"], user["channels"], user["commands"], version)
    return users


def acl_file(
    users: Mapping[str, Sequence[str]],
    others: Mapping[str, Mapping[str, Any]],
    passwords: Mapping[str, str],
    previous: Mapping[str, str],
) -> str:
    """The text of an ACL file, which takes no comment: every user off but these, passwords as SHA-256.

    `others`: the instance's own users, which have their passwords with them. A user in `previous` has a
    second password.
    """
    lines = [f"user default off sanitize-payload {' '.join(DEFAULT)}\n"]
    for name, rules in sorted(users.items()):
        known = [others[name]["password"] if name in others else passwords[name]]
        known += [previous[name]] if name in previous else []
        hashes = [
            f"#{hashlib.sha256(str(password).encode()).hexdigest()}" for password in dict.fromkeys(known)
        ]
        lines.append(f"user {name} on sanitize-payload {' '.join(hashes)} {' '.join(rules)}\n")
    return "".join(lines)


def redis_acls(
    instances: Mapping[str, Mapping[str, Any]],
    plan: Mapping[str, Any],
    passwords: Mapping[str, str],
    previous: Mapping[str, str],
) -> dict[str, str]:
    """Each (complete) instance's ACL file, by the instance's name."""
    return {
        name: acl_file(redis_users(instance, plan), instance["users"], passwords, previous)
        for name, instance in instances.items()
    }


def sentinel_acl(passwords: Mapping[str, str], previous: Mapping[str, str], version: str) -> str:
    """The text of Sentinel's ACL file: nobody but these users, passwords as SHA-256."""
    since = "" if version.startswith("7.0") else " ".join(("", *CONNECTION_SINCE_7_2))
    lines = []
    for name, rules in sorted(SENTINEL_PORT.items()):
        known = dict.fromkeys(str(group[name]) for group in (passwords, previous) if name in group)
        hashes = " ".join(f"#{hashlib.sha256(password.encode()).hexdigest()}" for password in known)
        setinfo = since if name == "chat_sentinel_client" else ""
        lines.append(f"user {name} {rules.format(hashes)}{setinfo}\n")
    return "".join(lines)


class FilterModule:
    """The filters that the roles redis and redis_sentinel use."""

    def filters(self) -> dict[str, Any]:
        return {"redis_acls": redis_acls, "sentinel_acl": sentinel_acl}
