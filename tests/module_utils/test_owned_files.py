"""Files that are owned whole: what is planned, and what a write leaves behind."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from pathlib import Path

import pytest

from module_utils.owned_files import ConfigFile, apply, difference, plan, read, try_out, write

OWNER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


def entry(path, content="new\n", mode="0640", once=False):
    return {"path": str(path), "content": content, "owner": OWNER, "group": GROUP, "mode": mode, "once": once}


@pytest.fixture
def existing(tmp_path):
    path = tmp_path / "chat.conf"
    path.write_text("old\n")
    path.chmod(0o640)
    return path


def test_file_as_wanted_is_no_change(existing):
    assert plan([entry(existing, "old\n")], []) == []


@pytest.mark.parametrize("wanted", [{"content": "new\n"}, {"content": "old\n", "mode": "0600"}])
def test_other_content_or_mode_is_a_change(existing, wanted):
    assert len(plan([entry(existing, **wanted)], [])) == 1


def test_file_written_once_then_belongs_to_the_daemon(existing):
    assert plan([entry(existing, once=True)], []) == []


def test_file_in_a_folder_that_does_not_exist_is_planned(tmp_path):
    ((current, _),) = plan([entry(tmp_path / "not/yet/chat.conf")], [])
    assert current.content is None


def test_link_in_the_place_of_a_file_is_replaced(tmp_path):
    link = tmp_path / "chat.conf"
    link.symlink_to("/dev/null")
    ((_, wanted),) = plan([entry(link)], [])
    write(wanted)
    assert not link.is_symlink()
    assert link.read_text() == "new\n"


def test_uninvited_file_is_removed_and_invited_one_is_not(existing, tmp_path):
    (tmp_path / "stray.conf").write_text("x")
    changes = plan([entry(existing, "old\n")], [f"{tmp_path}/*.conf"])
    assert [(current.path, wanted.content) for current, wanted in changes] == [
        (f"{tmp_path}/stray.conf", None)
    ]


def test_write_sets_the_mode_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "folder/chat.conf"
    write(ConfigFile(str(path), "new\n", OWNER, GROUP, "0640"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [child.name for child in path.parent.iterdir()] == ["chat.conf"]


def test_failed_write_leaves_the_old_file_alone(existing):
    with pytest.raises(KeyError):
        write(ConfigFile(str(existing), "new\n", "nobody-by-this-name", GROUP, "0640"))
    assert existing.read_text() == "old\n"
    assert len(list(existing.parent.iterdir())) == 1


def test_failed_write_names_its_file(existing):
    wanted = ConfigFile(str(existing), "new\n", "nobody-by-this-name", GROUP, "0640")
    with pytest.raises(KeyError, match=f"{existing}: .*nobody-by-this-name"):
        apply([(read(str(existing)), wanted)])


def test_diff_shows_the_mode_where_only_it_differs(existing):
    current = read(str(existing))
    shown = difference(current, ConfigFile(str(existing), "old\n", OWNER, GROUP, "0600"))
    assert (shown["before"], shown["after"]) == (f"{OWNER}:{GROUP} 0640\n", f"{OWNER}:{GROUP} 0600\n")


def test_diff_shortens_password_hashes():
    shown = difference(ConfigFile("/x", None), ConfigFile("/x", f"user a on #{'ab' * 32} ~*", OWNER, GROUP))
    assert shown["after"] == "user a on #abababab... ~*"


def test_difference_tells_passwords_in_clear_apart_and_shows_none():
    old, new = ("user: a\npassword: sesame\nother:\n  password: mustard\n", "user: a\npassword: cumin\n")
    shown = difference(ConfigFile("/x", old), ConfigFile("/x", new))
    assert [line for line in shown["before"].splitlines() if "#" not in line] == ["user: a", "other:"]
    assert not [word for word in ("sesame", "mustard", "cumin") if word in str(shown)]
    assert shown["before"].splitlines()[1] != shown["after"].splitlines()[1]


def folder(path, mode="0750"):
    return {"path": str(path), "owner": OWNER, "group": GROUP, "mode": mode}


def test_folder_is_made_before_its_files_and_kept_with_its_attributes(tmp_path):
    wanted = [folder(tmp_path / "a/b")], [entry(tmp_path / "a/b/c.conf")]
    changes = plan(wanted[1], [], wanted[0])
    assert [change.path for _, change in changes] == [str(tmp_path / "a/b"), str(tmp_path / "a/b/c.conf")]
    apply(changes)
    assert plan(wanted[1], [], wanted[0]) == []
    (tmp_path / "a/b").chmod(0o777)
    ((current, _),) = changes = plan(wanted[1], [], wanted[0])
    assert current.mode == "0777"
    apply(changes)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o750


def test_link_in_the_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    changes = plan([], [], [folder(tmp_path / "link")])
    with pytest.raises(OSError, match=r"link: .*File exists"):
        apply(changes)


def test_folder_that_matches_a_pattern_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    assert plan([], [f"{tmp_path}/*"], []) == []


def secret(path, text):
    return {**entry(path, None), "secret": text}


def test_diff_shows_a_secret_by_its_fingerprint(tmp_path):
    apply(plan([secret(tmp_path / "password", "sesame")], []))
    assert (tmp_path / "password").read_text() == "sesame\n"
    assert plan([secret(tmp_path / "password", "sesame")], []) == []
    (change,) = plan([secret(tmp_path / "password", "mustard")], [])
    shown = difference(*change)
    assert "sesame" not in str(shown)
    assert "mustard" not in str(shown)
    assert shown["before"] != shown["after"]


def test_diff_shows_what_is_removed_beside_a_secret_likewise(tmp_path):
    apply(plan([secret(tmp_path / "password", "sesame")], []))
    (tmp_path / "stray").write_text("mustard")
    (change,) = plan([secret(tmp_path / "password", "sesame")], [f"{tmp_path}/*"])
    assert "mustard" not in str(difference(*change))


def test_folders_are_for_everybody_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        write(ConfigFile(str(tmp_path / "a/b/chat.conf"), "new\n", OWNER, GROUP, "0640"))
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o755, 0o755]


# A daemon that reads the file beside it, and tells systemd when it is ready.
DAEMON = """
import os, pathlib, signal, socket, sys
folder = pathlib.Path(sys.argv[1])
text = (folder / "daemon.conf").read_text()
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
if "wrong" in text:
    sys.exit(f"{folder}/daemon.conf: {text}")
if "ready" in text:
    (folder / "data").touch()
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.sendto(b"STATUS=up\\nREADY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""


@pytest.fixture
def trial(tmp_path):
    """(what the daemon says of a text, its process's id): trial("ready")."""
    pid = tmp_path / "pid"

    def attempt(text, timeout_s=20):
        files = [{"path": "/etc/daemon/daemon.conf", "content": text}]
        said = try_out(files, [sys.executable, "-c", DAEMON, "%s", str(pid)], timeout_s)
        return said, int(pid.read_text())

    return attempt


def test_daemon_that_becomes_ready_says_nothing_and_is_ended(trial):
    said, pid = trial("ready")
    assert said == ""
    assert not Path(f"/proc/{pid}").exists()


def test_daemon_that_ends_is_quoted_without_the_folder_and_without_hashes(trial):
    said, _ = trial(f"wrong #{'ab' * 32}")
    assert said == "daemon.conf: wrong #abababab..."


def test_daemon_that_never_becomes_ready_is_ended(trial):
    said, pid = trial("dawdle", timeout_s=5)
    assert said == "nothing within 5 s"
    assert not Path(f"/proc/{pid}").exists()
