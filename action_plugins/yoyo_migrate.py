"""Carries the controller's migrations to the host inside the module call."""

from __future__ import annotations

import base64
import io
import os
import zipfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs the module of the task's own name, with the files of `source` as one more argument."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._supports_async = True  # an attribute of the class is not enough: in 2.14 __init__ sets it
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if isinstance(arguments.get("source"), str):
            arguments["source"] = self._locate(arguments["source"])
            arguments["_archive"] = _pack(arguments["source"])
        name = self._task.resolved_action or self._task.action
        wrap_async = self._task.async_val and not self._connection.has_native_async
        result.update(
            self._execute_module(
                module_name=name, module_args=arguments, task_vars=task_vars, wrap_async=wrap_async
            )
        )
        return result

    def _locate(self, source: str) -> str:
        try:
            location: str = self._find_needle("files", source)
        except AnsibleError as missing:
            raise AnsibleActionFail(
                f"the source {source} does not exist on the controller: {missing}"
            ) from missing
        if not Path(location).is_dir():
            raise AnsibleActionFail(f"the source {location} is not a folder")
        return location


def _pack(folder: str) -> str:
    """The SQL and Python files of a folder as a zip in base64, the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_file() and entry.name.endswith((".sql", ".py")):
                archive.writestr(
                    zipfile.ZipInfo(_as_utf8(entry.path)), _read(entry.path), zipfile.ZIP_DEFLATED
                )
    return base64.b64encode(buffer.getbuffer()).decode("ascii")


def _as_utf8(path: str) -> str:
    """The file's name, for which the controller's locale must not matter."""
    try:
        return os.fsencode(Path(path).name).decode("utf-8")
    except UnicodeDecodeError as failure:
        raise AnsibleActionFail(f"the name of {os.fsencode(path)!r} is not UTF-8") from failure


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as failure:
        raise AnsibleActionFail(f"{path} cannot be read: {failure.strerror}") from failure
