"""The repositories on PostgreSQL, for asyncio (Async...) and for threads.

Each is made of a psycopg connection: one in autocommit for single calls, of which each is one round trip, or
one in a transaction, which its caller commits.
Beside the errors that a method names, each raises Conflict, Timeout or Unavailable (chatdata.errors).
"""

from chatdata._async.messages import AsyncMessages
from chatdata._async.room_users import AsyncRoomUsers
from chatdata._async.rooms import AsyncRooms
from chatdata._async.users import AsyncUsers
from chatdata._sync.messages import Messages
from chatdata._sync.room_users import RoomUsers
from chatdata._sync.rooms import Rooms
from chatdata._sync.users import Users

__all__ = [
    "AsyncMessages",
    "AsyncRoomUsers",
    "AsyncRooms",
    "AsyncUsers",
    "Messages",
    "RoomUsers",
    "Rooms",
    "Users",
]
