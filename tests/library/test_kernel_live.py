"""The running kernel compared with what is wanted, over a tree of files like the kernel's."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import ansible.module_utils
import pytest

ROOT = Path(__file__).resolve().parents[2]
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from library import kernel_live  # noqa: E402
from library.kernel_live import Value, compare, current, name_of, overpromised, put  # noqa: E402

MEMINFO = (
    "MemTotal: 1024000 kB\nSwapTotal: 0 kB\nHugetlb: 24000 kB\nCommitted_AS: {} kB\nHugePages_Total: 12\n"
)


@pytest.fixture
def tree(tmp_path):
    """A kernel's files: vm/swappiness 60, vm/overcommit_memory 0, transparent huge pages on request."""
    (tmp_path / "vm").mkdir()
    for name, text in {
        "vm/swappiness": "60\n",
        "vm/overcommit_memory": "0\n",
        "vm/overcommit_ratio": "50\n",
        "enabled": "always [madvise] never\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(values, files=(), check=False):
    arguments = {"files": list(files), "values": values, "_ansible_check_mode": check, "_ansible_diff": True}
    done = subprocess.run(
        [sys.executable, ROOT / "tests/library/run_module.py", "kernel_live"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("text", "value"),
    [("60\n", "60"), ("always [madvise] never\n", "madvise"), ("4096\t131072\n", "4096 131072")],
)
def test_value_is_read_as_the_kernel_shows_it(text, value):
    assert current(text) == value


def test_only_what_differs_is_named(tree):
    (differing,) = compare({f"{tree}/vm/swappiness": 1, f"{tree}/enabled": "madvise"})
    assert differing == Value(f"{tree}/vm/swappiness", "60", "1", True)


def test_overcommit_comes_after_its_ratio(tree):
    differing = compare({f"{tree}/vm/overcommit_memory": 2, f"{tree}/vm/overcommit_ratio": 80})
    assert [value.path for value in differing] == [
        f"{tree}/vm/overcommit_ratio",
        f"{tree}/vm/overcommit_memory",
    ]


def test_value_that_the_kernel_lacks_cannot_be_written(tree):
    (absent,) = compare({f"{tree}/nothing": 1})
    assert (absent.current, absent.writable) == (None, False)


def test_names_are_those_that_people_know():
    assert name_of("/proc/sys/net/core/somaxconn") == "net.core.somaxconn"
    assert name_of("/sys/kernel/mm/x") == "/sys/kernel/mm/x"


def test_drift_is_predicted_then_undone_then_gone(tree):
    values = {f"{tree}/vm/swappiness": 1}
    predicted = run(values, check=True)
    assert predicted["changed"]
    assert predicted["diff"][-1]["before"] == f"{tree}/vm/swappiness = 60\n"
    assert (tree / "vm/swappiness").read_text() == "60\n"
    assert run(values)["written"] == [f"{tree}/vm/swappiness"]
    assert (tree / "vm/swappiness").read_text() == "1\n"
    assert not run(values)["changed"]


def test_read_only_value_is_one_notice_and_no_change(tree, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    differing = compare({f"{tree}/vm/swappiness": 1, f"{tree}/enabled": "never"})
    assert [value.writable for value in differing] == [False, False]
    result = run({f"{tree}/nothing": 1})
    assert (result["changed"], result["skipped_values"]) == (False, [f"{tree}/nothing"])
    (warning,) = result["warnings"]
    assert f"{tree}/nothing is absent, wanted 1" in str(warning)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM, errno.EACCES])
def test_value_that_turns_out_read_only_is_given_back(monkeypatch, number):
    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(kernel_live, "open", refuse, raising=False)
    value = Value("/proc/sys/vm/swappiness", "60", "1", True)
    assert put([value]) == [value]


def test_value_that_the_kernel_does_not_take_fails_by_name():
    with pytest.raises(OSError, match="/dev/full = 1: No space left"):
        put([Value("/dev/full", "0", "1", True)])


@pytest.mark.parametrize(("committed", "stops"), [(790_000, False), (800_000, True)])
def test_strict_limit_below_what_is_promised_would_stop_the_host(committed, stops):
    assert bool(overpromised(MEMINFO.format(committed), 80)) == stops


def test_strict_limit_that_would_stop_the_host_is_refused_before_anything_is_written(tree):
    values = {f"{tree}/vm/overcommit_memory": 2, f"{tree}/vm/overcommit_ratio": 0, f"{tree}/vm/swappiness": 1}
    result = run(values, files=[{"path": f"{tree}/x.conf", "content": "x"}])
    assert result["failed"]
    assert "MB are promised already" in result["msg"]
    assert (tree / "vm/swappiness").read_text() == "60\n"
    assert not (tree / "x.conf").exists()
