"""Each Redis instance's settings from what it promises and what its host has, and why.

Pure functions over numbers; memory is in MB (2**20 bytes). A table of settings is a dictionary of name and
{value, why}: the instance's file and the check of the running process are made of the same. An instance is
one entry of redis_instances; a plan holds what all instances have in common: flavour (redis, valkey),
version (such as "8.0"), memory_mb, processes (the application's, while a deployment runs), adapters and
namespaces (of Socket.IO), messages_per_s (of each process), message_bytes, perhaps replicas (how many copy
each instance).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, TypedDict

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

CLIENTS_ADMITTED_PERCENT = 80
POOL_SIZE = 10
# Of one process. Python's adapter listens on one, and opens another for each event that is sent meanwhile.
CONNECTIONS_OF_ADAPTER = {"classic": 2, "sharded": 2, "streams": 3, "python": 5}
CONNECTIONS_OF_PRESENCE = 1  # it hears of expired keys
STALL_S = 30  # a subscriber that stands still for so long (a long collection of garbage) is not dropped
LEAST_STALL_S = 5
STOCK_PUBSUB_MB = 32
BACKLOG_LIMIT = 4096  # the kernel's own somaxconn
EVENTS_HZ, EVENTS_EFFORT = 250, 6  # 11,000 keys a second are looked at, one after the other

POLICIES = (
    "noeviction", "volatile-ttl", "volatile-lru", "volatile-lfu", "volatile-random",
    "allkeys-lru", "allkeys-lfu", "allkeys-random",
)  # fmt: skip
PURPOSES = ("tokens", "presence", "socketio")

# Classes of keyspace events; K and E choose the channels, and deliver nothing alone.
CLASSES = set("g$lshzxetmdnA")
FLAGS = CLASSES | {"K", "E"}

# What an instance's own options, or other parts of the play, decide.
RESERVED = (
    "aclfile", "appendonly", "bind", "dir", "include", "maxmemory", "maxmemory-policy",
    "notify-keyspace-events", "port", "protected-mode", "rename-command", "requirepass", "tls-auth-clients",
    "tls-ca-cert-file", "tls-cert-file", "tls-key-file", "tls-port", "unixsocket", "unixsocketperm", "user",
)  # fmt: skip

USER_SPEC: dict[str, Any] = {
    "password": {"type": "str", "required": True, "no_log": True},
    "keys": {"type": "list", "elements": "str", "default": []},
    "channels": {"type": "list", "elements": "str", "default": []},
    "commands": {"type": "list", "elements": "str", "required": True},
}
INSTANCE_SPEC: dict[str, Any] = {
    "port": {"type": "int", "required": True},
    "serves": {"type": "list", "elements": "str", "choices": list(PURPOSES), "default": []},
    "maxmemory_mb": {"type": "int", "required": True},
    "maxmemory_policy": {"type": "str", "choices": list(POLICIES), "required": True},
    "persistence": {"type": "bool", "required": True},
    "notify_keyspace_events": {"type": "str", "default": ""},
    "pool_size": {"type": "int", "default": POOL_SIZE},
    "users": {"type": "dict", "default": {}},
    "settings": {"type": "dict", "default": {}},
}


class Setting(TypedDict):
    """One line of an instance's file."""

    value: str
    why: str


Table = dict[str, Setting]


def redis_instances_complete(instances: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """redis_instances with every option, in its type.

    Raises AnsibleFilterError for an option that is unknown, missing, of another type or not allowed.
    """
    complete: dict[str, dict[str, Any]] = {}
    for name, instance in sorted(instances.items()):
        complete[name] = _validated(f"redis_instances.{name}", instance, INSTANCE_SPEC)
        complete[name]["users"] = {
            user: _validated(f"redis_instances.{name}.users.{user}", options, USER_SPEC)
            for user, options in complete[name]["users"].items()
        }
    return complete


def _validated(where: str, options: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options in their types, defaults filled in."""
    if not isinstance(options, Mapping):
        raise AnsibleFilterError(f"{where} is {options!r}; allowed: a dictionary with {', '.join(spec)}")
    result = ArgumentSpecValidator(dict(spec)).validate(_plain(options))
    unknown = sorted(str(option) for option in options.keys() - spec.keys())
    if unknown:
        raise AnsibleFilterError(f"{where} has no option {', '.join(unknown)}; allowed: {', '.join(spec)}")
    if result.error_messages:
        raise AnsibleFilterError(f"{where}: {'; '.join(result.error_messages)}")
    return dict(result.validated_parameters)


def _plain(value: Any) -> Any:
    """The value without Ansible's lazy containers: a copy of one copies every variable."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def redis_instance_problems(
    instances: Mapping[str, Mapping[str, Any]],
    plan: Mapping[str, Any],
    users: Iterable[str] = (),
    previous: Iterable[str] = (),
) -> list[str]:
    """Why the (complete) instances cannot keep what they promise; each with the value and what is allowed.

    `users`: those that every environment has; `previous`: those that are to have an older password too.
    """
    problems = []
    for name, instance in instances.items():
        problems += [f"redis_instances.{name}.{text}" for text in _instance_problems(name, instance, plan)]
    for purpose in PURPOSES:
        serving = [name for name, instance in instances.items() if purpose in instance["serves"]]
        if len(serving) != 1:
            problems.append(
                f"redis_instances: {purpose} is served by {' and '.join(serving) or 'none'}; allowed: one "
                "instance (option serves)"
            )
    for namespace in plan["namespaces"]:
        if re.fullmatch(r"/[^\s*?\[\]\\#]*", namespace) is None:
            problems.append(
                f"redis_socketio_namespaces has {namespace!r}; allowed: a slash, and a name without spaces, "
                "#, *, ?, [, ] and \\, such as /admin"
            )
    for name in ("messages_per_s", "message_bytes"):
        if int(plan[name]) < 1:
            problems.append(f"redis_socketio_{name} is {plan[name]}; allowed: 1 or more")
    known = {*users, *(user for instance in instances.values() for user in instance["users"])}
    unknown = sorted(set(previous) - known)
    if unknown:
        problems.append(
            f"redis_previous_passwords has {', '.join(unknown)}; allowed: {', '.join(sorted(known))}"
        )
    return problems


def _instance_problems(name: str, instance: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    problems = []
    policy, flags, serves = (
        instance["maxmemory_policy"],
        instance["notify_keyspace_events"],
        instance["serves"],
    )
    if re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name) is None:
        problems.append("name is none for a unit and files; allowed: a to z, 0 to 9 and _, 31 at most")
    if "tokens" in serves and policy != "noeviction":
        problems.append(
            f"maxmemory_policy is {policy}; it serves tokens, which it would throw away: allowed: noeviction"
        )
    if not 1024 <= instance["port"] <= 65535:
        problems.append(f"port is {instance['port']}; allowed: 1024 to 65535")
    if instance["maxmemory_mb"] < 16:
        problems.append(f"maxmemory_mb is {instance['maxmemory_mb']}; allowed: 16 or more")
    if instance["pool_size"] < 1:
        problems.append(f"pool_size is {instance['pool_size']}; allowed: 1 or more")
    unknown = sorted(set(flags) - FLAGS)
    if unknown:
        problems.append(
            f"notify_keyspace_events is {flags}; {''.join(unknown)} is no flag; allowed: "
            + "".join(sorted(FLAGS))
        )
    elif flags and not (set(flags) & {"K", "E"} and set(flags) & CLASSES):
        problems.append(
            f"notify_keyspace_events is {flags}, which delivers nothing; allowed: K or E together with a "
            "class of events, such as Ex, or nothing"
        )
    elif "presence" in serves and not ("E" in flags and set(flags) & {"x", "A"}):
        problems.append(
            f"notify_keyspace_events is {flags or 'empty'}; it serves presence, which hears of expired keys: "
            "allowed: Ex, or more"
        )
    if "socketio" in serves and _pubsub_mb(instance, plan) < LEAST_STALL_S * _mb_per_s(plan):
        problems.append(
            f"maxmemory_mb is {instance['maxmemory_mb']}, of which a quarter may wait for a subscriber: less "
            f"than {LEAST_STALL_S} s of {_mb_per_s(plan):.1f} MB/s. Raise it to "
            f"{ceil(LEAST_STALL_S * _mb_per_s(plan) * 4)}, or lower redis_socketio_messages_per_s or "
            "redis_socketio_message_bytes"
        )
    reserved = sorted({str(setting).lower() for setting in instance["settings"]} & set(RESERVED))
    if reserved:
        problems.append(
            f"settings has {', '.join(reserved)}, which it must not: the instance's options or other parts "
            "of the play decide them"
        )
    return problems


def redis_clients(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """Connections that the application may have to the instance, while a deployment runs."""
    return int(plan["processes"]) * redis_connections(instance, plan)


def redis_pools(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, int]:
    """Connections of one process of the application for each purpose that the instance serves."""
    pool = int(instance["pool_size"])
    sizes = {
        "tokens": pool,
        "presence": pool + CONNECTIONS_OF_PRESENCE,
        "socketio": sum(CONNECTIONS_OF_ADAPTER[adapter] for adapter in plan["adapters"]),
    }
    return {purpose: sizes[purpose] for purpose in instance["serves"]}


def redis_connections(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """Connections of one process to the instance; one that serves no store has a pool for its own users."""
    pools = redis_pools(instance, plan)
    others = 0 if pools.keys() & {"tokens", "presence"} else int(instance["pool_size"])
    return sum(pools.values()) + others


def tune_redis(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> Table:
    """What the instance's options, the application and the host decide; `settings` overrides them.

    Sources: redis.conf of 7.0, 8.0 and Valkey 8.1; benchmarks/redis for hz and active-expire-effort.
    """
    memory, persists = int(instance["maxmemory_mb"]), instance["persistence"]
    events = bool(set(instance["notify_keyspace_events"]) & {"x", "A"})
    clients = redis_clients(instance, plan)
    floor = min(1000, int(plan["memory_mb"]) // 4)
    maxclients = max(floor, ceil(clients * 100 / CLIENTS_ADMITTED_PERCENT / 100) * 100)
    table = {
        "maxmemory": _set(memory * 1024**2, f"maxmemory_mb, {memory}"),
        "maxmemory-policy": _set(instance["maxmemory_policy"], "maxmemory_policy"),
        "maxclients": _set(
            maxclients,
            f"{clients} of the application are at most {CLIENTS_ADMITTED_PERCENT} % of it; {floor} at least",
        ),
        "tcp-backlog": _set(
            max(511, min(maxclients, BACKLOG_LIMIT)), "maxclients: after a restart all connect at once"
        ),
        "notify-keyspace-events": _set(instance["notify_keyspace_events"], "notify_keyspace_events"),
        "hz": _set(*((EVENTS_HZ, "looks for expired keys so often: 1 % of 10,000 presences are announced "
                                 "a second late, of 30,000 three; 2 % of a core")
                     if events else (10, "stock; nobody waits for an expired key's event"))),
        "active-expire-effort": _set(*((EVENTS_EFFORT, "45 keys each time that it looks, where stock has 20")
                                       if events else (1, "stock"))),
        "appendonly": _set("yes" if persists else "no", "persistence"),
        "appendfsync": _set("everysec", "a second of what was acknowledged can be lost with the host"),
        "aof-load-truncated": _set("yes", "a power loss may cut the last command; it starts and warns"),
        "save": _set(*(("3600 1 300 100 60 10000", "a second line beside the AOF") if persists
                       else ("", "persistence"))),
        "stop-writes-on-bgsave-error": _set("no", "the AOF has what a snapshot lacks that failed"),
        "client-output-buffer-limit": _set(*_output_buffers(instance, plan)),
        "maxmemory-clients": _set(
            memory * 1024**2 // 2,
            "half of maxmemory; past that the client with the most waiting is cut off, not a key evicted",
        ),
    }  # fmt: skip
    if plan.get("replicas"):
        table["repl-backlog-size"] = _set(
            min(64, memory // 8) * 1024**2, "a copy that was away for a moment fetches what it lacks, not all"
        )
        table["repl-diskless-sync-delay"] = _set(0, "a new master takes no token until a copy has all")
    if plan.get("replicas") and persists:
        # A master that is cut off stops taking tokens that nobody else has.
        table["min-replicas-to-write"] = _set(1, "persistence: what is acknowledged is to outlive the host")
        table["min-replicas-max-lag"] = _set(2, "in s: replicas answer every second")
    for name, value in instance["settings"].items():
        table[str(name).lower()] = _set(value, "settings")
    return table


def redis_instances_tuned(
    instances: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What the ledgers, the kernel and the checks need of each (complete) instance, as it is really set.

    No password is in it: name, port, serves, maxmemory_mb, persistence, maxclients, connections (of one
    process of the application), pools (the same for each purpose), backlog.
    """
    tuned = {}
    for name, instance in instances.items():
        table = tune_redis(instance, plan)
        tuned[name] = {
            "name": name,
            "port": instance["port"],
            "serves": instance["serves"],
            "maxmemory_mb": instance["maxmemory_mb"],
            "persistence": instance["persistence"],
            "maxclients": _number(name, "maxclients", table),
            "connections": redis_connections(instance, plan),
            "pools": redis_pools(instance, plan),
            "backlog": _number(name, "tcp-backlog", table),
        }
    return tuned


def _number(name: str, setting: str, table: Table) -> int:
    value = table[setting]["value"]
    if re.fullmatch(r"[1-9]\d*", value) is None:
        raise AnsibleFilterError(
            f"redis_instances.{name}.settings.{setting} is {value}; allowed: a whole number, 1 or more"
        )
    return int(value)


def redis_places(names: Iterable[str], flavour: str) -> list[dict[str, str]]:
    """Each instance's name, unit, socket, files (with our settings; the daemon's own) and folder of data."""
    return [
        {
            "name": name,
            "unit": f"{flavour}-server@{name}.service",
            "socket": f"/run/{flavour}-{name}/redis.sock",
            "file": f"/etc/{flavour}/chat-{name}.conf",
            "main": f"/etc/{flavour}/{flavour}-{name}.conf",
            "data": f"/var/lib/{flavour}/{name}",
        }
        for name in sorted(names)
    ]


def redis_daemons(instances: Mapping[str, Mapping[str, Any]], flavour: str) -> list[dict[str, Any]]:
    """The instances' units, ports and files, as the module host_fits takes them."""
    return [
        {
            "unit": place["unit"],
            "port": instances[place["name"]]["port"],
            "variable": f"redis_instances.{place['name']}.port",
            "configuration": place["file"],
        }
        for place in redis_places(instances, flavour)
    ]


def redis_looked_at(
    places: Iterable[Mapping[str, str]], instances: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The instances as the module redis_masters_info takes them."""
    return [
        {
            **{key: place[key] for key in ("name", "socket", "main", "data")},
            "port": instances[place["name"]]["port"],
        }
        for place in places
    ]


def redis_configured(
    instances: Mapping[str, Mapping[str, Any]],
    plan: Mapping[str, Any],
    common: Mapping[str, Setting],
    acls: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Each (complete) instance's place, its whole table and its ACL file's text.

    `common`: the settings that all have, which an instance's own override.
    """
    configured = []
    for place in redis_places(instances, plan["flavour"]):
        instance = instances[place["name"]]
        own = {
            "tls-port": _set(instance["port"], "port"),
            "unixsocket": _set(place["socket"], "for the play and operators"),
            "aclfile": _set(place["file"].replace(".conf", ".acl"), "the users"),
        }
        table = {**common, **own, **tune_redis(instance, plan)}
        configured.append({**place, "table": table, "acl": acls[place["name"]]})
    return configured


def redis_compared(instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The instances, or only their places, as the module redis_live takes them."""
    return [
        {
            **{key: instance[key] for key in ("name", "socket", "file")},
            "settings": {name: setting["value"] for name, setting in instance.get("table", {}).items()},
            "acl": instance.get("acl", ""),
        }
        for instance in instances
    ]


def redis_files(
    configured: Iterable[Mapping[str, Any]], flavour: str, follows: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The instances' files, as the module config_files takes them.

    Redis writes into its main file (CONFIG REWRITE, Sentinel), which is ours only until it exists.
    `follows`: the address and port of the master of each instance that starts as a copy.
    """
    follows = follows or {}
    files = []
    for instance in configured:
        name, owned = instance["name"], {"group": flavour, "mode": "0640"}
        settings = (
            f"#\n# Ansible managed\n#\n# Redis's instance {name}, from redis_instances. "
            "Each setting with where it comes from.\n\n" + redis_file(instance["table"])
        )
        files += [
            {
                "path": instance["main"],
                "content": f"# Redis writes here. Ours is chat-{name}.conf, which it reads last.\n"
                + (f"replicaof {follows[name]}\n" if name in follows else ""),
                "owner": flavour,
                "once": True,
                **owned,
            },
            {"path": instance["file"], "content": settings, **owned},
            {"path": instance["table"]["aclfile"]["value"], "content": instance["acl"], **owned},
        ]
    return files


def redis_trials(
    configured: Iterable[Mapping[str, Any]], flavour: str, needs: list[str]
) -> list[dict[str, Any]]:
    """How config_files tries out each instance: away from its socket, port and data, with its certificate."""
    return [
        {
            "argv": [
                f"/usr/bin/{flavour}-server", f"%s/chat-{name}.conf", "--aclfile", f"%s/chat-{name}.acl",
                "--dir", "%s", "--unixsocket", "%s/socket", "--tls-port", "0", "--tls-replication", "yes",
                "--supervised", "systemd",
            ],
            "needs": needs,
        }
        for name in (instance["name"] for instance in configured)
    ]  # fmt: skip


def redis_masters(
    looks: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str], sentinels: int
) -> dict[str, dict[str, Any]]:
    """The address and port of each instance's master.

    What a majority of Sentinels says, else what the instances show. `looks`: what redis_masters_info found
    on each host that this run reaches; `addresses`: of all of Redis's hosts, in the inventory's order;
    `sentinels`: how many there are. Raises AnsibleFilterError where nothing tells, or several things do,
    where the master has lost its data and another host has some, or may have, and where it is no host of
    `addresses`.
    """
    names = sorted({name for look in looks.values() for name in look["instances"]})
    return {
        name: {
            "address": _master(name, looks, addresses, sentinels),
            "port": next(look["instances"][name]["port"] for look in looks.values()),
        }
        for name in names
    }


def _master(
    name: str, looks: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str], sentinels: int
) -> str:
    answers = {
        sentinel: str(answer.get(name, ""))
        for look in looks.values()
        for sentinel, answer in look["sentinels"].items()
    }
    votes = [answer for answer in answers.values() if answer]
    own = {host: look["instances"][name] for host, look in looks.items()}
    # Where Sentinels are too few to decide, whoever is copied from is the master.
    shown = {*votes, *(str(state["copies"]) for state in own.values() if state["copies"])}
    agreed = [vote for vote in shown if votes.count(vote) > sentinels // 2] or sorted(shown)
    if len(agreed) == 1:
        _refuse_to_copy_nothing(name, agreed[0], own, addresses)
        return agreed[0]
    if agreed:
        raise AnsibleFilterError(
            f"Redis {name}: no majority of the {sentinels} Sentinels agrees, and {' and '.join(agreed)} are "
            "each taken for the master. Start the Sentinels that are down, wait for a failover to end, and "
            "run again"
        )
    left_out = sorted(addresses.keys() - looks.keys())
    if left_out:
        raise AnsibleFilterError(
            f"Redis {name}: no Sentinel knows the master, and this run leaves out {', '.join(left_out)}: "
            "add it to --limit"
        )
    having = [host for host, state in own.items() if state["data"]]
    if len(having) > 1:
        raise AnsibleFilterError(
            f"Redis {name}: {' and '.join(having)} each have data of their own, and none copies from "
            "another; allowed: one. Nothing was thrown away: move the data of all but one away"
        )
    return addresses[(having or list(addresses))[0]]


def _refuse_to_copy_nothing(
    name: str, master: str, own: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str]
) -> None:
    """Raise AnsibleFilterError where the others would follow a master without data, or one that is nobody."""
    page = "docs/runbooks/etcd-lost-quorum.md"
    host = next((host for host, address in addresses.items() if address == master), "")
    if not host:
        raise AnsibleFilterError(
            f"Redis {name}: the master is {master}, which no host of the group redis has; allowed: "
            f"{', '.join(addresses.values())}. Where it is lost, make one that has data the master: {page}"
        )
    if host not in own or own[host]["runs"] or own[host]["data"]:
        return
    left_out = sorted(addresses.keys() - own.keys())
    if left_out:
        raise AnsibleFilterError(
            f"Redis {name}: the master is {host}, which does not run and has no data, and this run leaves "
            f"out {', '.join(left_out)}: add it to --limit"
        )
    having = sorted(host for host, state in own.items() if state["data"])
    if having:
        raise AnsibleFilterError(
            f"Redis {name}: the master is {host}, which does not run and has no data; the data of "
            f"{' and '.join(having)} would be thrown away for it. Nothing of Redis was changed. Where "
            f"Sentinels run they choose another one: run again in a minute. Else start {host} with its data, "
            f"or make one that has some the master: {page}"
        )


def redis_io_threads(cores: int, version: str) -> Setting:
    """io-threads for a server of this version, such as "8.0"."""
    if version.startswith("7.0"):
        return _set(1, "7.0 cannot share out TLS connections among threads")
    if cores < 4:
        return _set(1, f"common_cores, {cores}; threads pay from 4 on")
    return _set(min(cores // 2, 8), f"half of common_cores, {cores}, 8 at most; threads do the TLS")


def _mb_per_s(plan: Mapping[str, Any]) -> float:
    """What each subscriber receives: every process's messages."""
    return int(plan["processes"]) * int(plan["messages_per_s"]) * int(plan["message_bytes"]) / 1024**2


def _pubsub_mb(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """What may wait for one subscriber."""
    wanted = max(STOCK_PUBSUB_MB, ceil(STALL_S * _mb_per_s(plan)))
    return int(min(wanted, instance["maxmemory_mb"] // 4))


def _output_buffers(instance: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[str, str]:
    """The limits and their reason. Redis counts these buffers in maxmemory, so no ledger adds them."""
    if "socketio" in instance["serves"]:
        hard = _pubsub_mb(instance, plan)
        why = (
            f"a subscriber may lag by {hard} MB: {STALL_S} s of {_mb_per_s(plan):.1f} MB/s from "
            f"{plan['processes']} processes, {STOCK_PUBSUB_MB} MB at least, a quarter of maxmemory at most"
        )
    else:
        hard, why = (
            min(STOCK_PUBSUB_MB, int(instance["maxmemory_mb"]) // 4),
            "stock, or a quarter of maxmemory",
        )
    size, half = hard * 1024**2, hard * 1024**2 // 2
    return f"normal 0 0 0 slave 268435456 67108864 60 pubsub {size} {half} 60", why


def redis_file(table: Mapping[str, Setting]) -> str:
    """The lines of an instance's file."""
    several = {"bind", "client-output-buffer-limit", "oom-score-adj-values", "save"}  # words, not one string
    lines = []
    for name, setting in sorted(table.items()):
        value = str(setting["value"])
        written = (
            value
            if name in several and value
            else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        )
        # Lines of save add up, with those that Redis has written into its main file too.
        none_yet = 'save ""\n' if name == "save" and value else ""
        lines.append(f"# {setting['why']}\n{none_yet}{name} {written}\n")
    return "".join(lines)


def _set(value: Any, why: str) -> Setting:
    return {"value": str(value), "why": why}


class FilterModule:
    """The filters that the roles redis, kernel and preflight use."""

    def filters(self) -> dict[str, Any]:
        return {
            "redis_compared": redis_compared,
            "redis_configured": redis_configured,
            "redis_daemons": redis_daemons,
            "redis_file": redis_file,
            "redis_files": redis_files,
            "redis_instance_problems": redis_instance_problems,
            "redis_instances_complete": redis_instances_complete,
            "redis_instances_tuned": redis_instances_tuned,
            "redis_io_threads": redis_io_threads,
            "redis_looked_at": redis_looked_at,
            "redis_masters": redis_masters,
            "redis_places": redis_places,
            "redis_trials": redis_trials,
        }
