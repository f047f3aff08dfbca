"""What redis-py raises, as chatdata's errors."""

from __future__ import annotations

import pytest
from redis import exceptions

from chatdata.errors import ChatDataError, Timeout, Unavailable, redis_errors


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (exceptions.TimeoutError("Timeout reading"), Timeout),
        (exceptions.ConnectionError("Connection closed by server."), Unavailable),
        (exceptions.ConnectionError("No connection available."), Timeout),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), Unavailable),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), Unavailable),
        (exceptions.OutOfMemoryError("command not allowed"), Unavailable),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), Unavailable),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file"), Unavailable),
        (ConnectionResetError("reset by peer"), Unavailable),
        (exceptions.AuthenticationError("invalid username-password pair"), ChatDataError),
        (exceptions.NoPermissionError("no permissions to run the command"), ChatDataError),
        (exceptions.ResponseError("WRONGTYPE"), ChatDataError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_error_has_its_place(raised, expected):
    with pytest.raises(ChatDataError) as caught, redis_errors():
        raise raised
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised
    assert caught.value.sqlstate is None


def test_other_errors_pass():
    with pytest.raises(KeyError), redis_errors():
        raise KeyError
