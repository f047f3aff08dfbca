"""The modules as a playbook uses them: the action plugin, a real ansible-playbook, and its output."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "library"))

from yoyo_support import Cluster, Database, Folder  # noqa: E402

PASSWORD = "wrong#/@%word"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with Cluster() as cluster:
        yield cluster.create_database()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "files" / "migrations"
    path.mkdir(parents=True)
    return Folder(path)


class Playbook:
    """A playbook with one task, in a folder of its own."""

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self.login = {
            "login_unix_socket": str(database.cluster.folder),
            "login_user": "postgres",
            "login_db": database.name,
        }

    def run(
        self,
        *flags: str,
        module: str = "yoyo_migrate",
        keywords: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], str]:
        """The task's result and everything that ansible-playbook printed."""
        task = {module: {**self.login, **options}, "register": "result", "ignore_errors": True}
        task.update(keywords or {})
        written = self.path / "result.json"
        save = {
            "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(written)},
            "check_mode": False,
        }
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task, save]}
        play["vars"] = {"ansible_python_interpreter": sys.executable}
        (self.path / "playbook.yml").write_text(json.dumps([play]))
        (self.path / "ansible.cfg").touch()
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.path / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(ROOT / "library"),
            "ANSIBLE_ACTION_PLUGINS": str(ROOT / "action_plugins"),
            "ANSIBLE_MODULE_UTILS": str(ROOT / "module_utils"),
            "ANSIBLE_LOCAL_TEMP": str(self.path / "controller"),
            "ANSIBLE_REMOTE_TEMP": str(self.path / "host"),
            "ANSIBLE_ASYNC_DIR": str(self.path / "async"),
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [sys.executable, "-m", "ansible", "playbook", *flags, "playbook.yml"]
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert written.exists(), done.stdout
        return json.loads(written.read_text()), done.stdout


@pytest.fixture
def playbook(tmp_path: Path, database: Database) -> Playbook:
    database.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return Playbook(tmp_path, database)


def test_a_source_on_the_controller_is_applied_and_nothing_is_left_on_the_host(
    playbook: Playbook, folder: Folder, database: Database
) -> None:
    folder.tables("001_größe", "002_rooms")
    predicted, shown = playbook.run("--check", "--diff", source="migrations")
    assert predicted["changed"]
    assert 'CREATE TABLE "001_größe"' in shown
    assert database.recorded() == []
    result, _output = playbook.run(source="migrations")
    assert [item["id"] for item in result["applied"]] == ["001_größe", "002_rooms"] == database.recorded()
    assert playbook.run(source=str(folder.path))[0]["changed"] is False
    assert not any((playbook.path / "host").glob("**/*.sql"))


def test_it_runs_in_the_background_of_an_async_task(
    playbook: Playbook, folder: Folder, database: Database
) -> None:
    folder.write("001_slow", "SELECT pg_sleep(1);")
    path = folder.write("002_bad", "SELECT 1;\nSELEC 2;")
    keywords = {"async": 60, "poll": 1}
    result, shown = playbook.run(source="migrations", keywords=keywords)
    assert "ansible_job_id" in result, shown
    assert (result["error"]["file"], result["error"]["line"]) == (str(path), 2)
    path.unlink()
    result, _output = playbook.run(source="migrations", keywords=keywords)
    assert (result["failed"], result["changed"]) == (False, False)
    assert database.recorded() == ["001_slow"]
    assert not any((playbook.path / "host").glob("**/*.sql"))


def test_an_error_names_the_file_on_the_controller(playbook: Playbook, folder: Folder) -> None:
    path = folder.write("001_bad", "SELECT 1;\nSELEC 2;")
    result, shown = playbook.run("--check", source="migrations")
    assert (result["error"]["file"], result["error"]["line"]) == (str(path), 2)
    assert f"{path}:2" in shown


def test_a_source_missing_on_the_controller_fails_and_an_empty_one_warns(
    playbook: Playbook, folder: Folder
) -> None:
    result, _output = playbook.run(source="nowhere")
    assert result["failed"]
    assert "nowhere" in result["msg"]
    result, shown = playbook.run(source="migrations")
    assert not result["failed"]
    assert "no migration in" in shown
    result, _output = playbook.run(source=str(folder.write("001")))
    assert result["failed"]
    assert "not a folder" in result["msg"]


def test_no_password_is_shown_at_the_highest_verbosity(
    playbook: Playbook, folder: Folder, tmp_path: Path
) -> None:
    folder.tables("001_users")
    silent = {"login_unix_socket": str(tmp_path), "login_password": PASSWORD, "connect_timeout": 2}
    for options in (silent, {"login_password": PASSWORD}):
        _result, shown = playbook.run("-vvv", source="migrations", **options)
        assert PASSWORD not in shown
        assert base64.b64encode(PASSWORD.encode()).decode() not in shown


def test_the_info_module_reads_the_same_source(playbook: Playbook, folder: Folder) -> None:
    folder.tables("001_users")
    result, _output = playbook.run(module="yoyo_migrate_info", source="migrations")
    assert result["pending"] == ["001_users"]
    assert result["changed"] is False


def test_two_sources_or_none_are_refused(playbook: Playbook, folder: Folder) -> None:
    assert playbook.run(source="migrations", sources=[str(folder.path)])[0]["failed"]
    assert playbook.run()[0]["failed"]
