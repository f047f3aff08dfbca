"""How many huge pages PostgreSQL's unit asks the kernel for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/kernel/files/huge_pages.py"
_spec = importlib.util.spec_from_file_location("huge_pages", SCRIPT)
huge_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(huge_pages)


class Kernel:
    """A pool of huge pages: `used` by others, and at most `most` that the kernel can find."""

    def __init__(self, total, used=0, reserved=0, most=10_000):
        self.total, self.used, self.reserved, self.most = total, used, reserved, most

    @property
    def pool(self):
        return self

    def read_text(self):
        return f"{self.total}\n"

    def write_text(self, text):
        self.total = min(int(text), self.most)


class Memory:
    def __init__(self, kernel):
        self.kernel = kernel

    def read_text(self):
        kernel = self.kernel
        free = kernel.total - kernel.used
        return (
            "MemTotal: 1024 kB\n"
            f"HugePages_Total: {kernel.total}\nHugePages_Free: {free}\nHugePages_Rsvd: {kernel.reserved}\n"
        )


def provide(kernel, need):
    return huge_pages.provide(need, kernel, Memory(kernel))


@pytest.mark.parametrize(
    ("kernel", "need", "total"),
    [
        (Kernel(0), 275, 275),
        (Kernel(275), 275, 275),
        (Kernel(275), 300, 300),  # larger shared_buffers
        (Kernel(275), 100, 100),  # smaller ones: what is too many goes back
        (Kernel(40, used=30, reserved=10), 275, 315),  # another program's stay its own
        (Kernel(0, most=200), 275, 0),  # too few are lost to everybody, so none is kept
        (Kernel(40, used=40, most=200), 275, 40),
    ],
)
def test_pool_holds_what_others_use_and_all_or_nothing_of_what_is_needed(kernel, need, total):
    provide(kernel, need)
    assert kernel.total == total


def test_shortage_is_said():
    assert "found 200 huge pages of 275" in provide(Kernel(0, most=200), 275)


def test_read_only_pool_is_said():
    class ReadOnly(Kernel):
        def write_text(self, _text):
            raise OSError(30, "Read-only file system")

    assert "machine's owner" in provide(ReadOnly(0), 275)
