"""Migrations that are Python files."""

from __future__ import annotations

import os

import pytest
from yoyo_support import Database, Folder, Runner, listed, stock_yoyo

STEP = "from yoyo import step, group\nstep('CREATE TABLE t (n int)', 'DROP TABLE t')\n"


def test_a_unicode_id_and_content_work_under_lc_all_c(
    run: Runner, database: Database, folder: Folder
) -> None:
    id = "001_größe_Ж_😀"
    folder.write(f"{id}.py", STEP + "step(\"INSERT INTO t SELECT length('größe😀')\", 'DELETE FROM t')\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run.start(process={"env": {**environment, **ascii_only}}, allow_python=True).result()
    assert not result.get("failed"), result.output
    assert database.query("SELECT n FROM t") == [6]
    assert listed(stock_yoyo(database, folder, "list")) == {id: "A"}


@pytest.mark.parametrize("transactional", [True, False])
def test_sys_exit_in_a_step_is_an_error(
    run: Runner, database: Database, folder: Folder, transactional: bool
) -> None:
    declared = f"__transactional__ = {transactional}\n"
    path = folder.write(
        "001.py",
        declared + STEP + "import sys\nstep(lambda connection: sys.exit(3), lambda connection: None)\n",
    )
    failed = run.fails(allow_python=True)
    error = failed["error"]
    assert (error["id"], error["file"], error["line"]) == ("001", str(path), 5)
    assert "SystemExit: 3" in failed["msg"]
    assert failed["database_state"] == ("unchanged" if transactional else "partial")
    assert database.tables() == ([] if transactional else ["public.t"])


def test_sys_exit_or_an_exception_at_import_is_an_error_with_its_line(
    run: Runner, database: Database, folder: Folder
) -> None:
    for code, said in (("import sys; sys.exit()", "SystemExit"), ("undefined", "NameError")):
        path = folder.write("001.py", STEP + code)
        failed = run.fails(allow_python=True)
        assert (failed["error"]["file"], failed["error"]["line"]) == (str(path), 3)
        assert f"cannot be imported: {said}" in failed["msg"]
    assert (database.tables(), database.recorded()) == ([], [])


def test_nothing_that_a_migration_writes_gets_into_the_module_s_output(run: Runner, folder: Folder) -> None:
    noise = (
        "import os, subprocess, sys\n"
        "def noise(connection=None):\n"
        "    print('noise')\n"
        "    sys.__stdout__.write('noise')\n"
        "    os.write(1, b'noise')\n"
        "    subprocess.run(['echo', 'noise'])\n"
        "noise()\n"
    )
    folder.write("001.py", STEP + noise + "step(noise, noise)\nstep('SELECT 1', 'SELECT 1')\n")
    assert "noise" not in run(allow_python=True).output
    assert "noise" not in run(allow_python=True, state="rolled_back", count=1).output


def test_steps_of_groups_and_lists_run_and_are_rolled_back(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write(
        "001.py",
        "import yoyo\nfrom yoyo import group, step\n"
        "yoyo.step('CREATE TABLE a (n int)', 'DROP TABLE a')\n"
        "group(step('CREATE TABLE b (n int)', 'DROP TABLE b'),"
        " step('CREATE TABLE c (n int)', 'DROP TABLE c'))\n"
        "steps = [step('CREATE TABLE d (n int)', 'DROP TABLE d')]\n",
    )
    run(allow_python=True)
    assert database.tables() == ["public.a", "public.b", "public.c", "public.d"]
    run(allow_python=True, state="rolled_back", count=1)
    assert database.tables() == []


def test_a_step_without_a_rollback_makes_its_file_irreversible(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001.py", STEP + "step('CREATE TABLE u (n int)')\n")
    run(allow_python=True)
    for check in (True, False):
        assert "001" in run.fails(check=check, allow_python=True, state="rolled_back", count=1)["msg"]
    assert database.tables() == ["public.t", "public.u"]


def test_an_ignored_error_and_a_dependency_are_yoyo_s(
    run: Runner, database: Database, folder: Folder
) -> None:
    folder.write("001.py", "__depends__ = {'002'}\n" + STEP + "step('SELEC', ignore_errors='apply')\n")
    folder.tables("002")
    assert run(allow_python=True).ids() == ["002", "001"] == database.recorded()
