"""A ready client manager for Socket.IO's servers in Python; needs python-socketio."""

from chatdata._async.socketio import redis_manager as async_redis_manager
from chatdata._sync.socketio import redis_manager

__all__ = ["async_redis_manager", "redis_manager"]
