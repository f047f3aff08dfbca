"""A proxy in front of a cluster's socket that can hang up at COMMIT, or lengthen the round trip."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Literal

PORT_FILE = ".s.PGSQL.5432"
RECORD = b"_yoyo_log"


class Proxy:
    """Forwards connections to `server`, a folder with PostgreSQL's socket, from the folder `self.folder`.

    hang_up   at the first query that holds the record of a migration and its COMMIT, close the client's side:
              "before" the server has seen the query, or "after" it has been handed on
    for_good  and let nobody in after that
    delay_s   wait that long before each chunk from the client is handed on: the round trip's length
    """

    def __init__(
        self,
        server: Path,
        *,
        hang_up: Literal["before", "after"] | None = None,
        for_good: bool = False,
        delay_s: float = 0,
    ) -> None:
        self.server = server
        self.folder = Path(tempfile.mkdtemp(prefix="proxy-", dir="/tmp"))
        self.hang_up = hang_up
        self.for_good = for_good
        self.delay_s = delay_s
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Proxy:
        self._listener.bind(str(self.folder / PORT_FILE))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._listener.close()
        (self.folder / PORT_FILE).unlink(missing_ok=True)
        self.folder.rmdir()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self.server / PORT_FILE))
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(1 << 20):
                if self.delay_s:
                    time.sleep(self.delay_s)
                at_commit = self.hang_up and RECORD in data and b"COMMIT" in data
                if not at_commit or self.hang_up == "after":
                    server.sendall(data)
                if at_commit:
                    self.hang_up = None
                    if self.for_good:
                        (self.folder / PORT_FILE).unlink()
                    break
        except OSError:
            pass
        _close(client)
        _close(server, socket.SHUT_WR)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(1 << 20):
                client.sendall(data)
        except OSError:
            pass
        _close(client)


def _close(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(how)
