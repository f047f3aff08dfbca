"""Converged hosts on which something else lies where the services go: refused as it is found, or adopted."""

from __future__ import annotations

import pytest

VERSIONS = {"bookworm": "15", "trixie": "17"}
ASIDE = "/var/lib/postgresql-aside"

# All of what a refused run must leave alone.
CONTENTS = (
    "find {data} /etc/postgresql /etc/pgbouncer /etc/redis /etc/systemd/system /etc/ssl"
    " -printf '%p %s %T@ %u %m %l\\n' | sort; ss -Hltnp | awk '{{print $4, $6}}' | sort"
)


def _paths(host):
    version = VERSIONS[host]
    return {
        "version": version,
        "unit": f"postgresql@{version}-main",
        "data": f"/var/lib/postgresql/{version}/main",
        "config": f"/etc/postgresql/{version}/main",
        "aside": ASIDE,
        "redis": "/run/systemd/system/redis-server.service.d",
        "initdb": f"runuser -u postgres -- /usr/lib/postgresql/{version}/bin/initdb --no-sync -D",
    }


@pytest.fixture(scope="module", autouse=True)
def _own_cluster_aside(environment):
    """The hosts' own clusters are out of the way; the tests put others in their place."""
    for host in environment.hosts:
        environment.shell(
            host,
            "systemctl stop {unit} && mkdir -p {aside} && mv {data} {aside}/data"
            " && mv {config} {aside}/config".format(**_paths(host)),
        )


def _refused(environment, data="/var/lib/postgresql"):
    """What a run says that refuses both hosts and leaves them as they are, the folder `data` included."""
    contents = CONTENTS.format(data=data)
    before = {host: environment.shell(host, contents) for host in environment.hosts}
    run = environment.play()
    assert run.code != 0
    assert before == {host: environment.shell(host, contents) for host in environment.hosts}
    assert set(run.changed.values()) == {0}
    assert "Nothing was changed." in run.failures()
    (task,) = [task for task in run.tasks if task["task"]["name"].endswith("holds something else")]
    return {host: " ".join(task["hosts"][host]["msg"].split()) for host in environment.hosts}


# For each host a shell command that makes the trouble, one that ends it, and what is said of it.
TROUBLE = {
    "fixed at the creation": (
        ("{initdb} {data} --encoding=UTF8 --locale=C.UTF-8", "rm -r {data}",
         ["data checksums on off <-- differs", "bin/pg_checksums --enable"]),
        ("{initdb} {data} --data-checksums --encoding=SQL_ASCII --locale=C", "rm -r {data}",
         ["encoding UTF8 SQL_ASCII <-- differs", "collation C.UTF-8 C <-- differs",
          "data checksums on on These are fixed", "pg_dumpall"]),
    ),
    "not ours": (
        ("{initdb} {data} --data-checksums --encoding=UTF8 --locale=C.UTF-8 && echo 13 >{data}/PG_VERSION",
         "rm -r {data}",
         ["version 15 13 <-- differs", "another major version is never taken over",
          "pg_upgradecluster"]),
        ("mkdir {data} && echo kept >{data}/notes.txt", "rm -r {data}",
         ["has no PG_VERSION and is not empty: notes.txt", "Move what it holds away"]),
    ),
    "data and daemons elsewhere": (
        ("mkdir -p /var/lib/postgresql/13/main && echo 13 >/var/lib/postgresql/13/main/PG_VERSION"
         " && systemd-run --quiet --unit=other python3 -m http.server --bind 127.0.0.1 5432"
         " && until ss -Hltn | grep -q :5432; do sleep 0.1; done",
         "rm -r /var/lib/postgresql/13; systemctl stop other",
         ["/var/lib/postgresql/13/main (PostgreSQL 13)", "would look like lost data", "pg_upgradecluster",
          "python3 (process", "of other.service) on port 5432", "common_postgresql_port"]),
        # The configuration is as where a disk was not mounted; the stock Redis as where it was in use before.
        ("cp -a {aside}/config {config} && mkdir -p {redis}"
         " && printf '[Unit]\nConditionPathExists=\n' >{redis}/z.conf && systemctl daemon-reload"
         " && systemctl start redis-server",
         "systemctl stop redis-server; rm -r {redis} {config} /var/lib/redis/dump.rdb /var/log/redis/*;"
         " systemctl daemon-reload",
         ["whose data is not in", "Is its disk mounted?",
          "redis-server (process", "of redis-server.service) on port 6379", "systemctl disable --now"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_run_refuses_what_does_not_fit_and_touches_nothing(environment, trouble):
    hosts = dict(zip(environment.hosts, trouble, strict=True))
    try:
        for host, (make, _end, _named) in hosts.items():
            environment.shell(host, make.format(**_paths(host)))
        said = _refused(environment)
    finally:
        for host, (_make, end, _named) in hosts.items():
            environment.shell(host, end.format(**_paths(host)), check=False)
    for host, (_make, _end, named) in hosts.items():
        assert [text for text in named if text not in said[host]] == [], said[host]


@pytest.fixture(scope="module")
def _made_by_hand(environment):
    """A cluster that Debian's own tool has made, with its stock configuration and somebody's data."""
    create = (
        "pg_createcluster --port=5432 --encoding=UTF8 --locale=C.UTF-8 --start {version} main"
        " -- --data-checksums --no-sync"
    )
    for host in environment.hosts:
        environment.shell(host, create.format(**_paths(host)))
        _psql(environment, host, "CREATE TABLE kept AS SELECT 42 AS answer")
        _psql(environment, host, "CREATE ROLE alice LOGIN")


def _psql(environment, host, statement):
    """What the superuser is answered in the database postgres."""
    return environment.shell(host, f'cd / && runuser -u postgres -- psql -XAtq postgres -c "{statement}"')


@pytest.mark.usefixtures("_made_by_hand")
def test_database_of_another_encoding_is_refused(environment):
    for host in environment.hosts:
        _psql(environment, host, "CREATE DATABASE chat TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    said = _refused(environment, data="")  # a running server writes there
    for host in environment.hosts:
        assert "The server has a database chat that does not fit" in said[host]
        assert "encoding UTF8 LATIN1 <-- differs" in said[host]
        _psql(environment, host, "DROP DATABASE chat")


@pytest.mark.usefixtures("_made_by_hand")
def test_cluster_that_fits_is_adopted_with_its_data(environment):
    run = environment.play()
    assert run.code == 0, run.failures()
    for host in environment.hosts:
        assert "postgresql : Create the cluster" not in run.changed_tasks(host)
        assert "left alone: role alice." in run.notice(host)
        assert _psql(environment, host, "SELECT answer FROM kept") == "42"
        assert environment.psql(host, "SELECT count(*) FROM messages") == "0"
        # The scenario goes on with the adopted cluster, which has to pass all that a new one passes.
        _psql(environment, host, "DROP ROLE alice")
