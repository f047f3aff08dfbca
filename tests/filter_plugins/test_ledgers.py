"""The two ledgers over plain numbers."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins import ledgers, postgresql_tuning, redis_tuning

from .test_postgresql_tuning import BUSY, CORES, MEMORY, tuned
from .test_redis_tuning import PLAN as PLAN_OF_REDIS
from .test_redis_tuning import instances

PLAN = {
    "application_processes": 8,
    "application_overlap_percent": 100,
    "application_pool_size": 20,
    "max_client_conn": 1000,
    "users": ["chat_app", "chat_readonly"],
    "pool_size": 20,
    "pool_reserve": 5,
    "auth_connections": 5,
    "bouncers": 1,
    "operator_connections": 10,
}
SETTINGS = {"max_connections": 70, "superuser_reserved_connections": 3}


def redis(memory):
    """What the ledgers need of redis_instances as the role's defaults have it."""
    maxmemory = int(memory * 0.07)
    return redis_tuning.redis_instances_tuned(
        instances(maxmemory_mb=maxmemory), PLAN_OF_REDIS | {"memory_mb": memory}
    )


@given(memory=MEMORY, cores=CORES, beside_redis=st.booleans())
def test_defaults_add_up_on_every_host(memory, cores, beside_redis):
    rows = postgresql_tuning.postgresql_memory_rows(tuned(memory, cores, beside_redis), BUSY)
    rows += ledgers.pgbouncer_memory_rows(1000)
    rows += ledgers.redis_memory_rows(redis(memory)) if beside_redis else []
    ledger = ledgers.memory_ledger(memory, rows)
    assert ledger["fits"], ledger["table"]
    assert min(row["mb"] for row in rows) > 0


@given(memory=MEMORY, cores=CORES, extra=st.integers(1, 4096))
def test_more_of_a_host_never_means_less_for_postgresql(memory, cores, extra):
    assert ledgers.postgresql_share(memory, True) <= ledgers.postgresql_share(memory, False)
    assert ledgers.postgresql_share(memory, True) <= ledgers.postgresql_share(memory + extra, True)
    assert ledgers.pool_size(cores, memory) <= ledgers.pool_size(cores + extra, memory + extra)


@pytest.mark.parametrize(
    ("cores", "memory", "expected"),
    [(1, 896, 5), (2, 4096, 8), (64, 1024, 6), (16, 65536, 64), (64, 262144, 100)],
)
def test_pool_follows_the_cores_as_far_as_memory_goes(cores, memory, expected):
    assert ledgers.pool_size(cores, memory) == expected


def test_persistent_redis_needs_room_for_a_fork():
    rows = ledgers.redis_memory_rows(
        {name: {"maxmemory_mb": 100, "maxclients": 1000, "persistence": name == "sessions"}
         for name in ("realtime", "sessions")}
    )  # fmt: skip
    assert [(row["mb"], row["item"].split(":")[0]) for row in rows] == [
        (100, "Redis realtime"), (26, "Redis realtime"), (47, "Redis realtime"),
        (100, "Redis sessions"), (26, "Redis sessions"), (47, "Redis sessions"), (50, "Redis sessions"),
    ]  # fmt: skip
    assert rows[-1]["lower"] == "redis_instances.sessions.maxmemory_mb"


ROWS = [
    {"mb": 200, "item": "Redis", "lower": "redis_instances"},
    {"mb": 1500, "item": "PostgreSQL", "lower": "postgresql_memory_mb"},
    {"mb": 300, "item": "its work_mem", "lower": "postgresql_memory_mb"},
]


def test_memory_ledger_shows_each_item_and_what_is_free():
    ledger = ledgers.memory_ledger(4096, ROWS)
    assert ledger["fits"]
    assert ledger["problems"] == []
    assert ledger["table"].splitlines() == [
        "Memory, in MB",
        "                                                     lower it by",
        " 200  Redis                                          redis_instances",
        "1500  PostgreSQL                                     postgresql_memory_mb",
        " 300  its work_mem                                   postgresql_memory_mb",
        " 409  the system: a tenth of the host, 256 at least",
        "",
        "2409  the sum",
        "4096  the host has (common_memory_mb)",
        "1687  free",
    ]


def test_memory_ledger_says_what_is_missing_and_which_variables_would_bring_it_under():
    ledger = ledgers.memory_ledger(2000, ROWS)
    assert not ledger["fits"]
    assert "256  MISSING" in ledger["table"]
    assert ledger["problems"] == [
        "256 MB short of memory. Lower one or more of these, or take a larger host "
        "(common_memory_mb, 2000, is what it may plan with):\n"
        "  postgresql_memory_mb, 1800 MB of the sum\n  redis_instances, 200 MB of the sum"
    ]  # fmt: skip


def test_memory_fits_to_the_last_mb():
    assert ledgers.memory_ledger(2256, ROWS)["fits"]
    assert not ledgers.memory_ledger(2255, ROWS)["fits"]


@pytest.mark.parametrize(
    ("plan", "settings", "named"),
    [
        ({}, {}, []),
        ({"application_processes": 20}, {}, []),
        ({"application_processes": 21}, {}, ["840", "800", "pgbouncer_max_client_conn to 1050"]),
        ({"application_overlap_percent": 450}, {}, ["880", "800", "common_application_overlap_percent"]),
        ({"pool_reserve": 6}, {}, []),
        ({"pool_reserve": 7}, {}, ["59", "57", "postgresql_max_connections to 72"]),
        ({"users": ["one", "two", "three"]}, {}, ["80", "57", "common_pool_size"]),
        ({"bouncers": 2}, {}, ["110", "57", "postgresql_max_connections to 123"]),
        ({"operator_connections": 13}, {}, ["55", "54", "postgresql_max_connections to 71"]),
        ({}, {"superuser_reserved_connections": 6}, ["55", "54"]),
        ({}, {"reserved_connections": 3}, ["55", "54"]),
    ],
)
def test_connection_ledger_names_the_stage_that_does_not_fit(plan, settings, named):
    ledger = ledgers.connection_ledger(PLAN | plan, SETTINGS | settings)
    said = " ".join(ledger["problems"])
    assert ledger["fits"] == (named == [])
    assert [word for word in named if word not in said] == []
    assert ("NOT ENOUGH" in ledger["table"]) == (named != [])


def test_both_stages_are_named_when_neither_fits():
    plan = PLAN | {"application_processes": 100, "pool_size": 100}
    assert len(ledgers.connection_ledger(plan, SETTINGS)["problems"]) == 2


@given(
    processes=st.integers(0, 500), overlap=st.integers(0, 300), pool=st.integers(1, 100),
    size=st.integers(1, 200), reserve=st.integers(0, 50), operators=st.integers(0, 50),
)  # fmt: skip
def test_numbers_that_the_refusal_names_are_enough(processes, overlap, pool, size, reserve, operators):
    plan = PLAN | {
        "application_processes": processes, "application_overlap_percent": overlap,
        "application_pool_size": pool,
        "pool_size": size, "pool_reserve": reserve, "operator_connections": operators,
    }  # fmt: skip
    for problem in ledgers.connection_ledger(plan, SETTINGS)["problems"]:
        enough = int(problem.rsplit(" ", 1)[1])
        if "max_client_conn" in problem:
            plan = plan | {"max_client_conn": enough}
        else:
            settings = SETTINGS | {"max_connections": enough}
            assert not ledgers.connection_ledger(plan, settings | {"max_connections": enough - 1})["fits"]
            assert not any(
                "postgresql" in said for said in ledgers.connection_ledger(plan, settings)["problems"]
            )
    assert not any("pgbouncer_max" in said for said in ledgers.connection_ledger(plan, SETTINGS)["problems"])


@pytest.mark.parametrize("name", ["application_overlap_percent", "pool_size", "max_client_conn"])
def test_negative_count_is_refused_by_name(name):
    with pytest.raises(AnsibleFilterError, match=rf"{name} is -1; allowed"):
        ledgers.connection_ledger(PLAN | {name: -1}, SETTINGS)
