"""bin/redis hands its words to redis-cli as they are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_words_arrive_as_they_are(tmp_path):
    for folder in ("bin", ".venv/bin", "staging"):
        (tmp_path / folder).mkdir(parents=True)
    script = Path(shutil.copy(PROJECT / "bin/redis", tmp_path / "bin"))
    (tmp_path / ".venv/bin/ansible").symlink_to(Path(sys.executable).with_name("ansible"))
    stub = tmp_path / "redis-cli"
    stub.write_text('#!/bin/sh\nprintf \'<%s>\' "$REDISCLI_AUTH" "$@"\n')
    stub.chmod(0o755)
    host = "node1 ansible_connection=local ansible_become=false"
    (tmp_path / "staging/hosts.ini").write_text(
        f"{host} ansible_python_interpreter={sys.executable} vault_redis_chat_admin_password=sesame\n"
    )
    words = ["EVAL", "return {{1,2},'it''s'} -- $HOME | a=b;", "0", "+client|setname", ""]
    said = subprocess.run(
        [script, "staging/hosts.ini", "node1", "sessions", *words],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "command": "FLUSHALL"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seen = said.stdout.partition("\n")[2]
    socket = "/run/redis-sessions/redis.sock"
    expected = ["sesame", "-e", "--user", "chat_admin", "-s", socket, *words]
    assert seen.strip() == "".join(f"<{word}>" for word in expected), said
