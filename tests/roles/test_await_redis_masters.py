"""What Sentinel waits for before it starts: the masters that it knows, by a file that its user may write."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/packages/files/await_redis_masters.sh"
KNOWN = "/etc/redis/redis-sentinel.conf"
PATIENCE_S = 60


@pytest.fixture
def wait(tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts the script with what the file says, in an empty folder."""

    def start(known: str) -> subprocess.Popen[bytes]:
        (tmp_path / "known").write_text(f"sentinel myid 1\n{known}\n")
        script = SCRIPT.read_text().replace(KNOWN, "../known")
        folder = tmp_path / "empty"
        folder.mkdir()
        return subprocess.Popen(["timeout", str(2 * PATIENCE_S), "bash", "-c", script], cwd=folder)

    return start


def test_waits_until_the_master_accepts_connections(wait):
    with closing(socket.socket()) as master:
        master.bind(("127.0.0.1", 0))
        with wait(f"sentinel monitor sessions 127.0.0.1 {master.getsockname()[1]} 2") as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1)
            master.listen()
            assert waiting.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    "address", ["$(touch${IFS}made)", "127.0.0.1/1;touch${IFS}made;", "`touch${IFS}made`"]
)
def test_takes_no_command_from_the_file(wait, tmp_path, address):
    with wait(f"sentinel monitor sessions {address} 1 2") as waiting:
        assert waiting.wait(PATIENCE_S) == 0
    assert list((tmp_path / "empty").iterdir()) == []
