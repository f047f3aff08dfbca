"""The migrations of the controller, as the action plugin sends them."""

from __future__ import annotations

import base64
import binascii
import io
import zipfile

from .yoyo_model import BadFileError
from .yoyo_sources import is_migration_name


class Archive:
    """A source on the controller: its files as a zip in base64."""

    def __init__(self, location: str, packed: str) -> None:
        self.location = location
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(base64.b64decode(packed, validate=True)))
        except (binascii.Error, zipfile.BadZipFile) as failure:
            raise BadFileError(location, "the migrations arrived damaged from the controller") from failure

    def names(self) -> list[str]:
        return sorted(name for name in self._zip.namelist() if is_migration_name(name))

    def read(self, name: str) -> bytes:
        return self._zip.read(name)
