"""What all tests have in common."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # machines are noisy: no test asserts a time
settings.load_profile("untimed")
