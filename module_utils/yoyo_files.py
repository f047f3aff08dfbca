"""Reads migrations in yoyo's file format, from folders or from the archive that the action plugin sends."""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from typing import Protocol

from .yoyo_model import BadFile, Header, MigrationFile
from .yoyo_sql import skip_blank

ROLLBACK_SUFFIX = ".rollback.sql"
_BOM = b"\xef\xbb\xbf"
_DRAFT_PREFIX = "_tmp_yoyonew"  # what `yoyo new` leaves while its editor is open
_ID_MAX_CHARACTERS = 255  # yoyo's column is VARCHAR(255)
_LINE_END = re.compile(rb"\r\n?")


class Source(Protocol):
    """A folder of migrations, wherever its bytes are."""

    location: str

    def names(self) -> list[str]:
        """The file names in the folder, sorted."""

    def read(self, name: str) -> bytes:
        """The content of one of them."""


class Folder:
    """A source on this host. Names are UTF-8 whatever the locale, so the paths that reach the system are bytes."""

    def __init__(self, location: str) -> None:
        self.location = location

    def names(self) -> list[str]:
        try:
            entries = [entry.name for entry in os.scandir(_as_bytes(self.location)) if entry.is_file()]
        except OSError as failure:
            raise BadFile(self.location, f"the migration source cannot be read: {failure.strerror}") from failure
        return sorted(filter(is_migration_name, map(self._as_text, entries)))

    def read(self, name: str) -> bytes:
        path = os.path.join(self.location, name)
        try:
            with open(_as_bytes(path), "rb") as stream:
                return stream.read()
        except OSError as failure:
            raise BadFile(path, f"the file cannot be read: {failure.strerror}") from failure

    def _as_text(self, name: bytes) -> str:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            path = os.path.join(self.location, name.decode("utf-8", "backslashreplace"))
            raise BadFile(path, "the file's name is not UTF-8") from None


class Archive:
    """A source on the controller, sent along by the action plugin as a zip in base64."""

    def __init__(self, location: str, packed: str) -> None:
        self.location = location
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(base64.b64decode(packed, validate=True)))
        except (binascii.Error, zipfile.BadZipFile) as failure:
            raise BadFile(location, "the migrations arrived damaged from the controller") from failure

    def names(self) -> list[str]:
        return sorted(name for name in self._zip.namelist() if is_migration_name(name))

    def read(self, name: str) -> bytes:
        return self._zip.read(name)


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
                path = os.path.join(source.location, name)
                self._contents[path] = (source, name)
                if name in rollbacks:
                    continue
                id = os.path.splitext(name)[0]
                _check_id(id, path)
                undo = id + ROLLBACK_SUFFIX
                rollback_path = os.path.join(source.location, undo) if undo in rollbacks else None
                rollbacks.discard(undo)
                files.append(MigrationFile(id, path, checksum(source.read(name)), rollback_path))
            self.orphans += [os.path.join(source.location, name) for name in sorted(rollbacks)]
        return files

    def content(self, path: str) -> bytes:
        """The file as the server shall see it: UTF-8 without a byte order mark, or BadFile that names the first bad byte."""
        source, name = self._contents[path]
        raw = source.read(name)
        content = raw.removeprefix(_BOM)
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as failure:
            at = failure.start + len(raw) - len(content)
            raise BadFile(
                path,
                f"not UTF-8: byte 0x{raw[at]:02x} at offset {at}; save the file as UTF-8",
                line=raw.count(b"\n", 0, at) + 1,
            ) from None
        if b"\0" in content:
            raise BadFile(path, f"holds a NUL byte at offset {content.index(0)}: not a text file")
        return content

    def header(self, file: MigrationFile) -> Header:
        """What the file declares. A Python migration is parsed, never imported."""
        content = self.content(file.path)
        if file.is_python:
            return _python_header(file, content)
        return _sql_header(file, content)


def is_migration_name(name: str) -> bool:
    """Whether yoyo would take the file for a migration or its rollback."""
    return name.endswith((".sql", ".py")) and not name.startswith(_DRAFT_PREFIX)


def checksum(content: bytes) -> str:
    """The SHA-256 of the content, the same whatever its line ends and with or without a byte order mark."""
    return hashlib.sha256(_LINE_END.sub(b"\n", content.removeprefix(_BOM))).hexdigest()


def _as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _check_id(id: str, path: str) -> None:
    if len(id) > _ID_MAX_CHARACTERS:
        raise BadFile(path, f"the id has {len(id)} characters; yoyo's table holds {_ID_MAX_CHARACTERS}")


def _sql_header(file: MigrationFile, content: bytes) -> Header:
    from yoyo.migrations import parse_metadata_from_sql_comments

    comments = content[: skip_blank(content, 0)].decode("utf-8")
    directives, _comment, _sql = parse_metadata_from_sql_comments(comments)
    transactional = directives.get("transactional", "true").strip().lower()
    if transactional not in ("true", "false"):
        raise BadFile(file.path, f"the header says 'transactional: {transactional}'; it takes true or false")
    return Header(
        depends=frozenset(directives.get("depends", "").split()),
        transactional=transactional == "true",
        reversible=file.rollback_path is not None,
    )


def _python_header(file: MigrationFile, content: bytes) -> Header:
    try:
        tree = ast.parse(content)
    except SyntaxError as failure:
        raise BadFile(file.path, f"not valid Python: {failure.msg}", line=failure.lineno) from None
    declared: dict[str, object] = {}
    reversible = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.col_offset == 0:
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in ("__depends__", "__transactional__"):
                    declared[target.id] = _literal(file, target.id, node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step":
            reversible = reversible or len(node.args) > 1 or any(k.arg == "rollback" for k in node.keywords)
    depends = declared.get("__depends__", ())
    names = [depends] if isinstance(depends, str) else list(depends) if isinstance(depends, Iterable) else []
    return Header(
        depends=frozenset(str(name) for name in names),
        transactional=bool(declared.get("__transactional__", True)),
        reversible=reversible,
    )


def _literal(file: MigrationFile, name: str, node: ast.Assign) -> object:
    try:
        return ast.literal_eval(node.value)
    except ValueError:
        message = f"{name} must be a literal, because the plan is made without running the file"
        raise BadFile(file.path, message, line=node.lineno) from None
