"""A python-socketio server that takes orders: a line of JSON on standard input, and one for each answer."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import socketio
import uvicorn


def say(message: dict[str, Any]) -> None:
    """Answer, in one line."""
    print(json.dumps(message), flush=True)


def manager(settings: dict[str, Any]) -> socketio.AsyncRedisManager:
    """By the code of connecting.md, through Sentinel where there is one."""
    more = {"health_check_interval": 0.01}  # so that +ping is used while the test lasts
    if "sentinels" not in settings:
        from connect import redis_manager

        access = (settings["host"], settings["password"])
        return redis_manager(*access, port=settings["port"], user=settings["user"], **more)
    from sentinel import sentinel_manager

    return sentinel_manager(
        settings["sentinels"], settings["service"], sentinel_password=settings["sentinelPassword"],
        user=settings["user"], password=settings["password"], ca=settings["ca"],
    )  # fmt: skip


class Orders:
    """What the server can be told; each method is an order."""

    def __init__(self, server: socketio.AsyncServer) -> None:
        self._server = server

    async def emit(self, namespace: str, event: str, options: dict[str, str]) -> None:
        """An event for everybody, for the room `to`, for all `except` one."""
        await self._server.emit(
            event, to=options.get("to"), skip_sid=options.get("except"), namespace=namespace
        )

    async def ask(self, namespace: str, event: str, options: dict[str, str]) -> list[Any]:
        """The answer of the client `to`, whichever server has it."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._server.emit(
            event, to=options["to"], namespace=namespace, callback=lambda said: answer.set_result(said)
        )
        return [await asyncio.wait_for(answer, 60)]

    async def join(self, namespace: str, sid: str, room: str) -> None:
        """A client enters a room."""
        await self._server.enter_room(sid, room, namespace=namespace)

    async def leave(self, namespace: str, sid: str, room: str) -> None:
        """A client leaves a room."""
        await self._server.leave_room(sid, room, namespace=namespace)

    async def disconnect(self, namespace: str, sid: str) -> None:
        """A client is sent away."""
        await self._server.disconnect(sid, namespace=namespace)


async def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    server = socketio.AsyncServer(
        client_manager=manager(settings), async_mode="asgi", namespaces=settings["namespaces"]
    )
    orders = Orders(server)
    listening = socket.create_server(("127.0.0.1", 0))
    web = uvicorn.Server(uvicorn.Config(socketio.ASGIApp(server), ws="wsproto", log_level="warning"))
    serving = asyncio.create_task(web.serve(sockets=[listening]))
    say({"port": listening.getsockname()[1]})

    async def obey(number: int, order: str, namespace: str, *details: Any) -> None:
        try:
            say({"id": number, "answer": await getattr(orders, order)(namespace, *details)})
        except Exception as error:
            say({"id": number, "error": repr(error)})

    running = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        running.add(asyncio.create_task(obey(*json.loads(line))))
    web.should_exit = True
    await serving


asyncio.run(main())
