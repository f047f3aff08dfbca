"""Whose lock a file says it is, and until when."""

from __future__ import annotations

import json
import os
import subprocess

from action_plugins.run_lock import process
from library.run_lock import connection, holder, lives, stat

ME = f"{os.getpid()}/{stat(os.getpid())[2]}"


def test_lock_lives_as_long_as_its_connection():
    with subprocess.Popen(["sleep", "60"]) as session:
        known = {"controller": "ops@a", "process": "1/2", "since": "now"}
        known["connection"] = f"{session.pid}/{stat(session.pid)[2]}"
        assert lives(known["connection"])
        assert holder(json.dumps(known)) == known
        session.kill()
    assert holder(json.dumps(known)) == {}


def test_number_that_is_used_again_is_another_process():
    assert lives(ME)
    assert not lives(f"{os.getpid()}/1")
    assert process(os.getpid()) == ME
    assert process(2**22 + 1) == ""


def test_file_that_was_not_written_to_its_end_is_nobodys():
    for text in ("", "{", "[]", '{"controller": "ops@a"}', "null", '{"connection": ""}'):
        assert holder(text) == {}


def test_process_that_came_by_no_ssh_has_no_connection(monkeypatch):
    chain = {30: ("python3", 20, "9"), 20: ("sudo", 10, "8"), 10: ("sshd-session", 1, "7")}
    monkeypatch.setattr("library.run_lock.stat", lambda number: chain[number])
    assert connection(30) == "10/7"
    chain[10] = ("bash", 1, "7")
    assert connection(30) == ""
