"""What all tests share."""

from __future__ import annotations

from contextlib import suppress

# An operator's checks, in tests/verify, run without the tools of the others.
with suppress(ImportError):
    from hypothesis import settings

    # A machine that does something else meanwhile is no failure.
    settings.register_profile("any_machine", deadline=None)
    settings.load_profile("any_machine")
