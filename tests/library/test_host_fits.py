"""What makes a host unfit, from the bytes of a cluster's files and the lines of ss."""

from __future__ import annotations

import os
import struct

import pytest

from library.host_fits import (
    Daemon,
    Listener,
    checksums,
    cluster_problems,
    data_directory,
    database_file,
    differing,
    doubled,
    foreign,
    has_watchdog,
    listeners_of,
    misfit,
    moved,
    pause_problems,
    place_problems,
    properties_of,
    running_server,
    system_identifier,
    template_locale,
    unit_in,
)

EXPECTED = {
    "version": "17",
    "encoding": "UTF8",
    "collation": "C.UTF-8",
    "character type": "C.UTF-8",
    "locale provider": "libc",
    "data checksums": "on",
}
REDIS = Daemon("redis-server@sessions.service", 6380, "redis_instances.sessions.port")
PGBOUNCER = Daemon("pgbouncer.service", 6432, "pgbouncer_port", ours=False)


def control(version=1700, checksum=1):
    return struct.pack("=QI", 7, version).ljust(252, b"\0") + struct.pack("=I", checksum).ljust(8192, b"\0")


def heap(encoding=6, provider=b"c", collation=b"C.UTF-8", character_type=b"C.UTF-8"):
    """A row of pg_database as PostgreSQL 15 to 17 store it, between others."""

    def short(text):
        return bytes([(len(text) + 1) << 1 | 1]) + text

    row = struct.pack("=I64sIic3xIIII", 4, b"template0", 10, encoding, provider, 0, 0, 0, 1663)
    return b"\0" * 200 + row + short(collation) + short(character_type) + b"\0" * 40


@pytest.fixture
def folder(tmp_path):
    """The files of a cluster that fits."""
    (tmp_path / "global").mkdir()
    (tmp_path / "PG_VERSION").write_text("17\n")
    (tmp_path / "global/pg_control").write_bytes(control())
    mapping = struct.pack("=iiIIII", 0x592717, 2, 1260, 1260, 1262, 16999)
    (tmp_path / "global/pg_filenode.map").write_bytes(mapping.ljust(524, b"\0"))
    (tmp_path / "global/16999").write_bytes(heap())
    return tmp_path


def test_copies_have_the_number_of_their_cluster():
    assert system_identifier(control()) == "7"
    assert system_identifier(b"") == ""


def test_cluster_as_the_play_makes_it_fits(folder):
    assert properties_of(str(folder)) == EXPECTED
    assert misfit("it", EXPECTED, properties_of(str(folder))) == []


@pytest.mark.parametrize(
    ("file", "content", "name", "found", "remedy"),
    [
        ("PG_VERSION", b"16\n", "version", "16", "pg_upgradecluster"),
        ("global/pg_control", control(checksum=0), "data checksums", "off", "pg_checksums --enable"),
        ("global/pg_control", control(version=1), "data checksums", "unknown", "run again"),
        ("global/16999", heap(encoding=8), "encoding", "LATIN1", "pg_dumpall"),
        ("global/16999", heap(encoding=37), "encoding", "number 37", "pg_dumpall"),
        ("global/16999", heap(provider=b"i"), "locale provider", "icu", "pg_dumpall"),
        ("global/16999", heap(collation=b"de_DE.UTF-8"), "collation", "de_DE.UTF-8", "pg_dumpall"),
        ("global/16999", heap(character_type=b"C"), "character type", "C", "pg_dumpall"),
        ("global/16999", b"", "encoding", "unknown", "pg_dumpall"),
        ("global/pg_filenode.map", b"torn", "encoding", "unknown", "pg_dumpall"),
    ],
)
def test_cluster_that_differs_is_refused_with_what_was_found(folder, file, content, name, found, remedy):
    (folder / file).write_bytes(content)
    (said,) = misfit("It", EXPECTED, properties_of(str(folder)), checksums_by="pg_checksums --enable")
    (row,) = [line for line in said.splitlines() if line.strip().startswith(name)]
    assert row.split(name)[1].split() == [EXPECTED[name], *found.split(), "<--", "differs"]
    assert remedy in said


def test_spelling_of_a_locale_makes_no_difference():
    assert differing({"collation": "C.UTF-8"}, {"collation": "C.utf8"}) == []
    assert differing({"collation": "C.UTF-8"}, {"collation": "C"}) == ["collation"]


def test_the_last_row_of_template0_counts():
    assert template_locale(heap(encoding=0) + heap(encoding=6))["encoding"] == "UTF8"


def test_other_mapping_names_no_file():
    assert database_file(struct.pack("=iiII", 1, 1, 1262, 5)) == 0


def test_checksums_of_postgresql_15_are_read():
    assert (checksums(control(1300)), checksums(control(1300, 0))) == ("on", "off")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda folder: folder.parent, ""),
        (lambda folder: folder.mkdir(), ""),
        (lambda folder: (folder.mkdir(), (folder / "notes.txt").touch()), "not empty: notes.txt"),
        (lambda folder: folder.touch(), "not a folder"),
    ],
    ids=["missing", "empty", "junk", "file"],
)
def test_new_cluster_goes_only_where_nothing_is(tmp_path, content, named):
    content(tmp_path / "main")
    cluster = {
        "data_folder": str(tmp_path / "main"),
        "config_folder": str(tmp_path),
        "version": "17",
        "copied": False,
    }
    problems = place_problems(cluster, {})
    assert [named in problem for problem in problems] == ([True] if named else [])


def test_configuration_without_its_data_is_refused(tmp_path):
    (tmp_path / "postgresql.conf").write_text("data_directory = '/srv/17/main'\n")
    cluster = {
        "data_folder": str(tmp_path / "main"),
        "config_folder": str(tmp_path),
        "version": "17",
        "copied": False,
    }
    assert "/srv/17/main. Is its disk mounted?" in place_problems(cluster, {})[0]


def test_cluster_elsewhere_on_the_host_is_no_reason_for_an_empty_one(tmp_path):
    cluster = {
        "data_folder": str(tmp_path / "main"),
        "config_folder": str(tmp_path),
        "version": "17",
        "copied": False,
    }
    (said,) = place_problems(cluster, {"/var/lib/postgresql/15/main": "15"})
    assert "/var/lib/postgresql/15/main (PostgreSQL 15)" in said
    assert "pg_upgradecluster" in said


def test_last_data_directory_counts_and_a_comment_does_not():
    text = "data_directory = '/a'\n data_directory '/b' # why\n#data_directory = '/c'\n"
    assert data_directory(text) == "/b"
    assert data_directory("port = 5432\n") == ""


def test_server_without_a_process_does_not_run(tmp_path):
    (tmp_path / "postmaster.pid").write_text(f"999999999\n{tmp_path}\n1\n5432\n/run/postgresql\nlocalhost\n")
    assert running_server(str(tmp_path)) == (0, "", 0)
    assert running_server(str(tmp_path / "nowhere")) == (0, "", 0)


def test_lines_of_ss_become_one_listener_for_each_port_and_process():
    listing = (
        'LISTEN 0 511 127.0.0.1:6380 0.0.0.0:* users:(("redis-server",pid=40,fd=6))\n'
        'LISTEN 0 511 10.0.0.2:6380 0.0.0.0:* users:(("redis-server",pid=40,fd=7))\n'
        "LISTEN 0 128 [::]:22 [::]:*\n"
    )
    assert listeners_of(listing, {40: REDIS.unit}) == [
        Listener(6380, "redis-server", 40, REDIS.unit),
        Listener(22, "an unknown process", 0, ""),
    ]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (
            "0::/system.slice/system-postgresql.slice/postgresql@17-main.service\n",
            "postgresql@17-main.service",
        ),
        ("2:cpu:/pod\n1:name=systemd:/system.slice/pgbouncer.service\n0::/\n", "pgbouncer.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("", ""),
    ],
)
def test_unit_of_a_process(cgroup, unit):
    assert unit_in(cgroup) == unit


@pytest.mark.parametrize(
    ("listener", "named"),
    [
        (Listener(6380, "redis-server", 1, REDIS.unit), ""),
        (Listener(6432, "redis-server", 1, REDIS.unit), ""),  # ours, about to move
        (Listener(22, "sshd", 1, "ssh.service"), ""),
        (Listener(6380, "nc", 12, ""), "nc (process 12) on port 6380"),
        (Listener(6380, "nginx", 12, "nginx.service"), "change redis_instances.sessions.port"),
        (Listener(6379, "redis-server", 12, "redis-server.service"), "disable --now redis-server.service"),
        (Listener(6432, "pgbouncer", 12, "pgbouncer.service"), "configuration that is not this play's"),
    ],
)
def test_foreign_daemon_is_named(listener, named):
    said = foreign([listener], [REDIS, PGBOUNCER], held=["redis-server.service"])
    assert [named in text for text in said] == ([True] if named else [])


@pytest.mark.parametrize(
    ("stays", "ports", "refused"),
    [
        (True, [6380], False),
        (True, [6390], True),
        (False, [6390], False),
        (True, [], False),  # it does not run
    ],
)
def test_daemon_that_others_reach_keeps_its_port(stays, ports, refused):
    daemon = Daemon(REDIS.unit, 6380, REDIS.variable, stays=stays)
    said = moved([Listener(port, "redis-server", 1, REDIS.unit) for port in ports], [daemon])
    assert ["6390, where the other hosts" in text for text in said] == ([True] if refused else [])
    assert moved([Listener(6390, "redis-server", 1, REDIS.unit)], [REDIS]) == []


def test_one_of_several_ports_may_not_move_either():
    etcd = [Daemon("etcd.service", port, "etcd_peer_port", stays=True) for port in (2379, 2390)]
    (said,) = moved([Listener(port, "etcd", 1, "etcd.service") for port in (2379, 2380)], etcd)
    assert "listens on 2380, where" in said
    assert "not on 2390" in said


def test_patroni_that_was_killed_has_not_moved_from_its_port():
    """PostgreSQL, of the same unit, outlives it, and the run is to start it again."""
    daemons = [
        Daemon("patroni.service", 5432, "common_postgresql_port"),
        Daemon("patroni.service", 8008, "common_patroni_port", stays=True),
    ]
    assert moved([Listener(5432, "postgres", 1, "patroni.service")], daemons) == []


@pytest.mark.parametrize(
    ("copied", "handover", "allowed", "named"),
    [
        (False, False, True, ""),
        (False, False, False, "postgresql_allow_restart"),
        (True, True, True, ""),
        (True, False, True, "keeps its port"),
        (True, False, False, "keeps its port"),
    ],
)
def test_port_of_postgresql_moves_by_a_restart_and_in_a_cluster_never(
    folder, copied, handover, allowed, named
):
    cluster = {
        "version": "17", "data_folder": str(folder), "config_folder": str(folder), "encoding": "UTF8",
        "locale": "C.UTF-8", "port": 5433, "allow_restart": allowed, "unit": "patroni.service",
        "copied": copied,
    }  # fmt: skip
    said = cluster_problems(cluster, 5432, handover)
    assert [named in text for text in said] == ([True] if named else [])


@pytest.mark.parametrize(
    ("record", "process", "refused"),
    [
        ('{"ttl": 20, "pause": true}', "patroni", True),
        ('{"ttl": 20, "pause": true}', "postgres", False),  # Patroni is down, and its record may be old
        ('{"ttl": 20}', "patroni", False),
        ("", "patroni", False),
    ],
)
def test_paused_cluster_is_left_alone(tmp_path, record, process, refused):
    (tmp_path / "patroni.dynamic.json").write_text(record)
    said = pause_problems(str(tmp_path), [Listener(8008, process, 1, "patroni.service")])
    assert ["patronictl pause" in text for text in said] == ([True] if refused else [])


def test_port_that_two_daemons_want_is_named():
    assert doubled([REDIS, PGBOUNCER]) == []
    (said,) = doubled([REDIS, Daemon("pgbouncer.service", 6380, "pgbouncer_port")])
    assert "6380, 6380" in said
    assert "pgbouncer_port, redis_instances.sessions.port" in said


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("dev/watchdog", True),
        (f"lib/modules/{os.uname().release}/kernel/drivers/watchdog/softdog.ko.xz", True),
        ("lib/modules/0.0.0/kernel/drivers/watchdog/softdog.ko", False),
        ("dev/null", False),
    ],
)
def test_watchdog_is_a_device_or_a_module_of_the_running_kernel(tmp_path, path, found):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert has_watchdog(f"{tmp_path}/") is found
