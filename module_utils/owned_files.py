"""Files that are owned whole: what they are, what they should be, and the way from one to the other."""

from __future__ import annotations

import glob
import grp
import hashlib
import os
import pwd
import re
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

# Redis's ACL files hold passwords as SHA-256, Patroni's file in clear; a diff shows enough to tell two apart.
PASSWORD_HASH = re.compile(r"(#[0-9a-f]{8})[0-9a-f]{56}")
PASSWORD_LINE = re.compile(r"^(\s*password: )(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class ConfigFile:
    """A file or folder as it should be, or as it is (content None: absent; a folder's is empty)."""

    path: str
    content: str | None
    owner: str = ""
    group: str = ""
    mode: str = ""
    folder: bool = False
    secret: bool = False

    def shown(self) -> str:
        """The content for a diff; of a secret, what tells it from another."""
        if not (self.secret and self.content):
            return PASSWORD_LINE.sub(lambda line: line[1] + _mark(line[2]), self.content or "")
        return f"{_mark(self.content)}\n"

    def attributes(self) -> str:
        """Owner, group and mode in one line, for a diff."""
        return f"{self.owner}:{self.group} {self.mode}" if self.content is not None else ""


def _mark(secret: str) -> str:
    """What tells a secret from another."""
    return f"#{hashlib.sha256(secret.encode(errors='surrogateescape')).hexdigest()[:8]}..."


def read(path: str, folder: bool = False) -> ConfigFile:
    """The file (or folder) at `path` as it is; a link counts as absent, because it would be replaced."""
    absent, content = ConfigFile(path, None, folder=folder), ""
    try:
        status = os.lstat(path)
        if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
            return absent
        if not folder:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return absent
    return ConfigFile(
        path,
        content,
        _name(pwd.getpwuid, status.st_uid),
        _name(grp.getgrgid, status.st_gid),
        f"{stat.S_IMODE(status.st_mode):04o}",
        folder,
    )


def _name(lookup: Any, number: int) -> str:
    """The user's or group's name, or its number where it has none."""
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def write(wanted: ConfigFile) -> None:
    """Replace the file by a rename, with its final owner and mode from the start."""
    folder = os.path.dirname(wanted.path)
    _make_folders(folder)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchown(file.fileno(), pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid)
            os.fchmod(file.fileno(), int(wanted.mode, 8))
            file.write(wanted.content or "")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, wanted.path)
    except BaseException:
        os.unlink(temporary)
        raise


def keep_folder(wanted: ConfigFile) -> None:
    """Make the folder, closed until it has its owner; or correct its attributes."""
    _make_folders(os.path.dirname(wanted.path))
    if os.path.islink(wanted.path) or not os.path.isdir(wanted.path):
        os.mkdir(wanted.path, 0o700)
    os.chown(wanted.path, pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid)
    os.chmod(wanted.path, int(wanted.mode, 8))


def _make_folders(folder: str) -> None:
    """Make the missing folders of a path with mode 0755, whatever the umask."""
    if not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103  the services' own users have to reach their files


def difference(current: ConfigFile, wanted: ConfigFile) -> dict[str, str]:
    """The change as Ansible's --diff prints it: the text, or the attributes where only they differ."""
    if wanted.folder or current.content == wanted.content:
        before, after = current.attributes() + "\n", wanted.attributes() + "\n"
    else:
        before, after = current.shown(), wanted.shown()
    before, after = (PASSWORD_HASH.sub(r"\1...", text) for text in (before, after))
    return {
        "before_header": current.path,
        "after_header": wanted.path if wanted.content is not None else "(removed)",
        "before": before,
        "after": after,
    }


def plan(
    files: list[dict[str, Any]], purge: list[str], folders: list[dict[str, Any]] | None = None
) -> list[tuple[ConfigFile, ConfigFile]]:
    """The folders and files that differ, as (current, wanted) pairs."""
    changes = []
    for entry in folders or []:
        wanted = ConfigFile(entry["path"], "", entry["owner"], entry["group"], entry["mode"], folder=True)
        current = read(wanted.path, folder=True)
        if current != wanted:
            changes.append((current, wanted))
    secrets = {entry["path"] for entry in files if entry.get("secret") is not None}
    for entry in files:
        secret = entry["path"] in secrets
        attributes = {key: entry[key] for key in ("path", "owner", "group", "mode")}
        wanted = ConfigFile(content=_text(entry), secret=secret, **attributes)
        current = replace(read(wanted.path), secret=secret)
        keep = entry["once"] and current.content is not None
        if current != wanted and not keep:
            changes.append((current, wanted))
    invited = {entry["path"] for entry in files}
    matching = {path for pattern in purge for path in glob.glob(pattern)}
    found = {path for path in matching if os.path.islink(path) or not os.path.isdir(path)}
    # What lies uninvited beside a secret may be one.
    beside = {os.path.dirname(path) for path in secrets}
    for path in sorted(found - invited):
        changes.append((replace(read(path), secret=os.path.dirname(path) in beside), ConfigFile(path, None)))
    return changes


def _text(entry: dict[str, Any]) -> str:
    """The content that a file is to have."""
    return str(entry["content"]) if entry.get("secret") is None else f"{entry['secret']}\n"


def try_out(
    files: list[dict[str, Any]],
    argv: list[str],
    timeout_s: float = 20,
    when_ready: Callable[[str], None] = lambda _folder: None,
) -> str:
    """What a daemon says that does not become ready with the files; empty where it does. It is ended again.

    `argv` as config_files has it: `%s` is a folder with the files. The daemon tells by sd_notify(3).
    `when_ready` is called with the folder.
    """
    with tempfile.TemporaryDirectory(prefix="trial-") as folder:
        for entry in files:
            path = os.path.join(folder, os.path.basename(entry["path"]))
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(_text(entry))
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
            open(os.path.join(folder, ".output"), "w+", encoding="utf-8", errors="replace") as output,
        ):
            notices.bind(os.path.join(folder, ".notify"))
            notices.settimeout(0.1)
            process = subprocess.Popen(  # noqa: S603  the role names the daemon
                [word.replace("%s", folder) for word in argv],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "NOTIFY_SOCKET": notices.getsockname()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
            try:
                if _became_ready(process, notices, timeout_s):
                    when_ready(folder)
                    return ""
            finally:
                process.kill()
                process.wait()
            output.seek(0)
            said = " ".join(output.read().replace(folder + "/", "").split())
            return PASSWORD_HASH.sub(r"\1...", said[-1000:]) or f"nothing within {timeout_s:g} s"


def _became_ready(process: subprocess.Popen[Any], notices: socket.socket, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if b"READY=1" in notices.recv(4096):
                return True
        except TimeoutError:
            if process.poll() is not None:
                return False
    return False


def apply(changes: list[tuple[ConfigFile, ConfigFile]]) -> None:
    """Make each change. Raises OSError or KeyError (no such owner) with the path in its text."""
    for current, wanted in changes:
        try:
            if wanted.content is None:
                os.unlink(current.path)
            elif wanted.folder:
                keep_folder(wanted)
            else:
                write(wanted)
        except (OSError, KeyError) as error:
            raise type(error)(f"{wanted.path}: {error}") from error
