"""Folders of migrations, wherever their bytes are."""

from __future__ import annotations

import os
from typing import Protocol

from .yoyo_model import BadFileError

_DRAFT_PREFIX = "_tmp_yoyonew"  # what `yoyo new` leaves while its editor is open


class Source(Protocol):
    """A folder of migrations, wherever its bytes are."""

    location: str

    def names(self) -> list[str]:
        """The file names in the folder, sorted."""

    def read(self, name: str) -> bytes:
        """The content of one of them."""


class Folder:
    """A source on this host. Names are UTF-8 whatever the locale, so the system is given bytes."""

    def __init__(self, location: str) -> None:
        self.location = location

    def names(self) -> list[str]:
        try:
            entries = [entry.name for entry in os.scandir(_as_bytes(self.location)) if entry.is_file()]
        except OSError as failure:
            raise BadFileError(
                self.location, f"the migration source cannot be read: {failure.strerror}"
            ) from failure
        return sorted(filter(is_migration_name, map(self._as_text, entries)))

    def read(self, name: str) -> bytes:
        path = f"{self.location}/{name}"
        try:
            with open(_as_bytes(path), "rb") as stream:  # noqa: PTH123 - pathlib takes no bytes
                return stream.read()
        except OSError as failure:
            raise BadFileError(path, f"the file cannot be read: {failure.strerror}") from failure

    def _as_text(self, name: bytes) -> str:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            path = f"{self.location}/{name.decode('utf-8', 'backslashreplace')}"
            raise BadFileError(path, "the file's name is not UTF-8") from None


def is_migration_name(name: str) -> bool:
    """Whether yoyo would take the file for a migration or its rollback."""
    return name.endswith((".sql", ".py")) and not name.startswith(_DRAFT_PREFIX)


def _as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
