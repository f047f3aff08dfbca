"""Compares the record with the files, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from .yoyo_db import Session, Settings, error_detail
from .yoyo_files import Migrations, readable_files
from .yoyo_model import MigrationError, Request
from .yoyo_plan import plan
from .yoyo_record import Bookkeeping
from .yoyo_report import as_result
from .yoyo_sources import Source


def look(settings: Settings, sources: Sequence[Source]) -> dict[str, Any]:
    """The return values of yoyo_migrate_info."""
    try:
        with readable_files():
            migrations = Migrations(sources)
            session = Session(settings)
            with session.connection:
                session.begin_read_only()
                book = Bookkeeping(session)
                history = book.history(book.facts())
            found = plan(migrations.files, history, Request(allow_python=True), migrations.header)
    except psycopg.Error as failure:
        raise MigrationError(error_detail(failure), "Nothing was changed.") from None
    return {
        "applied": [as_result(record) for record in history.records],
        "pending": list(found.pending),
        "drift": [as_result(item) for item in found.drift],
        "missing": list(found.missing),
        "out_of_order": list(found.out_of_order),
        "unfinished": [as_result(item) for item in history.unfinished],
        "problems": list(found.refusals),
        "current": history.records[-1].id if history.records else None,
    }
