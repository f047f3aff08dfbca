"""A chat server on chatdata, in as many processes as you like: python examples/chat_server.py PORT

Events are on_... with their arguments. Each is answered with what it gives, or {error, detail, retry};
who gets none, or `retry`, sends the same again. A client begins with login, refresh or {token: access token}.
Beside the connection contract: CHAT_ACCESS_KEY and CHAT_REFRESH_KEY, 32 bytes in hex each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import socketio
import uvicorn
from pydantic import SecretBytes, ValidationError, validate_call
from pydantic_core import to_jsonable_python

from chatdata.errors import ChatDataError, Conflict, NotFound, Timeout, TokenInvalid, Unavailable
from chatdata.models import Content, Message, MyRoom
from chatdata.passwords import hash_password, verify_password
from chatdata.pools import AsyncPools
from chatdata.repositories import AsyncMessages, AsyncRooms, AsyncRoomUsers, AsyncUsers
from chatdata.settings import Settings
from chatdata.socketio import async_redis_manager
from chatdata.stores import AsyncPresence, AsyncRefreshTokens, AsyncTypingStatus, RefreshToken
from chatdata.tokens import AccessToken, AccessTokens

PRESENCE_S, TYPING_S = 30, 5  # as the stores have them
BUSY = Conflict | Timeout | Unavailable  # the same again may succeed
NOBODY = hash_password("")  # so that an unknown name takes as long as a wrong password


def refusal(error: Exception) -> dict[str, Any]:
    """What a client is told of an error; not what it sent, which may be a password."""
    detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return {"error": type(error).__name__, "detail": detail, "retry": isinstance(error, BUSY)}


class Chat(socketio.AsyncNamespace):  # type: ignore[misc]  # python-socketio has no types
    def __init__(self, pools: AsyncPools, replicas: int, access: SecretBytes, refresh: SecretBytes) -> None:
        super().__init__("/")
        self.pools, self.access = pools, AccessTokens({"1": access}, "1")
        self.tokens = AsyncRefreshTokens(pools.sessions, [refresh], replicas=replicas)
        self.presence, self.typing = AsyncPresence(pools.realtime), AsyncTypingStatus(pools.realtime)
        self.sockets: dict[str, AccessToken] = {}  # of this process
        self.events = {on: validate_call(getattr(self, on)) for on in dir(self) if on.startswith("on_")}

    async def trigger_event(self, event: str, sid: str, *sent: Any) -> Any:
        try:
            if event not in ("connect", "disconnect", "login", "refresh"):
                if not (token := self.sockets.get(sid)) or token.expires_at < datetime.now(UTC):
                    raise TokenInvalid("access token: none, or expired; refresh")
                sent = (token.user_id, *sent)  # handlers get the user before what was sent
            handler = self.events.get(f"on_{event}")
            return to_jsonable_python(handler and await handler(sid, *sent))
        except (ChatDataError, ValidationError) as error:
            if event == "connect":
                raise socketio.exceptions.ConnectionRefusedError(refusal(error)) from error
            return refusal(error)

    async def _signed_in(self, sid: str, refresh_token: RefreshToken) -> dict[str, str]:
        access_token = self.access.sign(refresh_token.user_id)
        await self.on_connect(sid, None, {"token": access_token})
        return {"access_token": access_token, "refresh_token": refresh_token.value}

    async def on_connect(self, sid: str, _: Any, auth: dict[str, str] | None) -> None:
        if auth:
            self.sockets[sid] = self.access.check(auth.get("token", ""))
            await self.presence.connect(self.sockets[sid].user_id, sid)

    async def on_disconnect(self, sid: str, _: str) -> None:
        if token := self.sockets.pop(sid, None):
            await self.presence.disconnect(token.user_id, sid)

    async def on_login(self, sid: str, username: str, password: str, device: str) -> dict[str, str]:
        user = None
        with suppress(NotFound):
            async with self.pools.connection() as connection:  # given back before the slow part
                user = await AsyncUsers(connection).by_username(username)
        right = await asyncio.to_thread(verify_password, password, user.password_hash if user else NOBODY)
        if not user or not right:
            raise TokenInvalid("no such user, or not their password")
        return await self._signed_in(sid, await self.tokens.issue(user.id, device))

    async def on_refresh(self, sid: str, refresh_token: str) -> dict[str, str]:
        return await self._signed_in(sid, await self.tokens.rotate(refresh_token))

    async def on_join(self, sid: str, user: UUID, room: UUID) -> dict[str, Any]:
        async with self.pools.connection() as connection:
            members, found = AsyncRoomUsers(connection), await AsyncRooms(connection).by_id(room)
            if found.is_private and not await members.is_member(room, user):
                raise NotFound("there is no such room")
            await members.add(room, user)
            await self.enter_room(sid, str(room))  # first: what is said meanwhile comes twice, not never
            page = await AsyncMessages(connection).latest(room)
        return {"messages": page, "typing": await self.typing.who(room)}

    async def on_post(self, _: str, user: UUID, room: UUID, id: UUID, content: Content) -> Message:
        async with self.pools.transaction() as connection:
            if not await AsyncRoomUsers(connection).is_member(room, user):
                raise NotFound("join the room first")
            message = await AsyncMessages(connection).post(room, user, content, id=id)
        await self.emit("message", to_jsonable_python(message), room=str(room))  # now that it is stored
        return message

    async def on_rooms(self, _: str, user: UUID) -> list[MyRoom]:
        async with self.pools.connection() as connection:
            return await AsyncRooms(connection).of_user(user)

    async def on_typing(self, sid: str, user: UUID, room: UUID) -> None:
        if str(room) not in self.rooms(sid):
            raise NotFound("join the room first")
        await self.typing.start(room, user)
        await self.emit("typing", (str(room), str(user), TYPING_S), room=str(room), skip_sid=sid)

    async def keep_present(self) -> None:
        while True:
            await asyncio.sleep(PRESENCE_S / 3)
            with suppress(Timeout, Unavailable):  # until Redis is back
                for sid in filter(self.sockets.get, list(self.sockets)):  # who has not gone meanwhile
                    await self.presence.touch(self.sockets[sid].user_id, sid)

    async def tell_changes(self) -> None:
        async for change in self.presence.changes():  # each process hears of it, and tells its own clients
            await self.emit("presence", (str(change.user_id), change.online), ignore_queue=True)


async def main(port: int) -> None:
    settings = Settings.load()
    keys = [SecretBytes(bytes.fromhex(os.environ[name])) for name in ("CHAT_ACCESS_KEY", "CHAT_REFRESH_KEY")]
    manager = async_redis_manager(**settings.socketio())
    server = socketio.AsyncServer(async_mode="asgi", client_manager=manager, transports=["websocket"])
    async with AsyncPools(settings) as pools:
        server.register_namespace(chat := Chat(pools, settings.redis_sessions_replicas, *keys))
        background = asyncio.gather(chat.keep_present(), chat.tell_changes())
        await uvicorn.Server(uvicorn.Config(socketio.ASGIApp(server), port=port)).serve()  # until SIGTERM
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn handles it, and raises it again when it has ended
    asyncio.run(main(int(sys.argv[1])))
