"""Reads migrations in yoyo's file format: what there is at once, contents on demand."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from .yoyo_model import BadFileError, Header, MigrationError, MigrationFile
from .yoyo_sources import Source
from .yoyo_sql import line_of

ROLLBACK_SUFFIX = ".rollback.sql"
_BOM = b"\xef\xbb\xbf"
_ID_MAX_CHARACTERS = 255  # yoyo's column is VARCHAR(255)
_LINE_END = re.compile(rb"\r\n?")
_PIECE = 1 << 20


class Migrations:
    """The migrations of some sources: what `plan` needs at once, and contents on demand."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._contents: dict[str, tuple[Source, str]] = {}
        self.orphans: list[str] = []
        self.files = self._list(sources)

    def _list(self, sources: Iterable[Source]) -> list[MigrationFile]:
        files = []
        for source in sources:
            names = source.names()
            rollbacks = {name for name in names if name.endswith(ROLLBACK_SUFFIX)}
            for name in names:
                path = f"{source.location}/{name}"
                self._contents[path] = (source, name)
                if name in rollbacks:
                    continue
                id = name.rpartition(".")[0]
                _check_id(id, path)
                undo = id + ROLLBACK_SUFFIX
                rollback_path = f"{source.location}/{undo}" if undo in rollbacks else None
                rollbacks.discard(undo)
                files.append(MigrationFile(id, path, checksum(source.read(name)), rollback_path))
            self.orphans += [f"{source.location}/{name}" for name in sorted(rollbacks)]
        return files

    def content(self, path: str) -> bytes:
        """The file as the server shall see it: UTF-8 without a byte order mark.

        Raises BadFileError that names the first byte that is not.
        """
        source, name = self._contents[path]
        raw = source.read(name)
        if (at := _first_bad_byte(raw)) is not None:
            message = f"not UTF-8: byte 0x{raw[at]:02x} at offset {at}; save the file as UTF-8"
            raise BadFileError(path, message, line_of(raw, at))
        content = raw.removeprefix(_BOM)
        if b"\0" in content:
            raise BadFileError(path, f"holds a NUL byte at offset {content.index(0)}: not a text file")
        return content

    def header(self, file: MigrationFile) -> Header:
        """What the file declares."""
        from .yoyo_headers import (
            read_header,
        )  # brings in yoyo and sqlparse: only once something is to be done

        return read_header(file, self.content(file.path))


@contextmanager
def readable_files() -> Iterator[None]:
    """Turn the errors of reading migrations into MigrationError."""
    try:
        yield
    except BadFileError as bad:
        raise MigrationError(bad.error, "Nothing was changed.") from None
    except ImportError as missing:
        raise MigrationError(
            f"the host's Python lacks {missing.name}",
            "Nothing was changed; install yoyo-migrations (python3-yoyo).",
        ) from None


def checksum(content: bytes) -> str:
    """The SHA-256 of the content, the same whatever its line ends and with or without a byte order mark."""
    content = content.removeprefix(_BOM)
    if b"\r" in content:
        content = _LINE_END.sub(b"\n", content)
    return hashlib.sha256(content).hexdigest()


def _first_bad_byte(content: bytes) -> int | None:
    """The offset of the first byte that is not UTF-8.

    Decodes in pieces, because one wide character makes each character of a string take four bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(content)
    for start in range(0, len(view), _PIECE):
        carried = len(decoder.getstate()[0])  # the beginning of a character that the last piece cut
        try:
            decoder.decode(view[start : start + _PIECE], final=start + _PIECE >= len(view))
        except UnicodeDecodeError as failure:
            return start - carried + failure.start
    return None


def _check_id(id: str, path: str) -> None:
    if len(id) > _ID_MAX_CHARACTERS:
        raise BadFileError(path, f"the id has {len(id)} characters; yoyo's table holds {_ID_MAX_CHARACTERS}")
