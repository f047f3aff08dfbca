"""redis-py's own client of Sentinel, busy: as the page has it, and as it comes. Else as failover.mjs."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from redis import Redis, RedisError
from redis.sentinel import Sentinel
from sentinel import master, options

PAUSE_S = 0.1
lock = threading.Lock()


def write(kind: str, client: Redis) -> None:
    """A write several times a second."""
    while True:
        said: dict[str, Any] = {"kind": kind}
        try:
            client.set(f"refresh_token:{kind} of a game day", "x", ex=60)
        except RedisError as error:
            said["error"] = str(error)
        with lock:
            print(json.dumps(said), flush=True)
        time.sleep(PAUSE_S)


def as_it_comes(sentinels: str, service: str, **access: Any) -> Redis:
    """Its Sentinels are asked with redis-py's own retries and limits of time."""
    told = options(**access)
    for name in ("retry", "socket_connect_timeout", "socket_timeout"):
        del told["sentinel_kwargs"][name]
    addresses = [(host, int(port)) for host, port in (known.split(":") for known in sentinels.split(","))]
    return Sentinel(addresses, **told).master_for(service)


tokens = json.loads(sys.stdin.readline())["tokens"]
tokens["sentinel_password"] = tokens.pop("sentinelPassword")
for kind, opened in {"redis-py": master, "redis-py as it comes": as_it_comes}.items():
    threading.Thread(target=write, args=(kind, opened(**tokens)), daemon=True).start()
sys.stdin.read()
