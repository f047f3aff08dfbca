"""What listens and runs on each host, and its certificate."""

from __future__ import annotations

import datetime
import socket
import ssl

import pytest

from filter_plugins.kernel_settings import LIMITS, TRANSPARENT_HUGE_PAGES

from .kernel import huge_pages_row, setting_row, shown_value


def _expected_ports(host):
    return {int(port) for service, port in host.ports.items() if service.split("_")[0] in host.groups}


def test_only_our_ports_listen(shell, any_host, saw):
    listening = shell(any_host).check_output("ss -Hltn")
    ports = {int(line.split()[3].rsplit(":", 1)[1]) for line in listening.splitlines()}
    daemons = _expected_ports(any_host)
    known = set(range(5000, 7000)) | {26379, 8008, 2379, 2380}  # what data services use, ours or stock
    saw(sorted(daemons), sorted(ports & (known | daemons)))


def test_no_service_listens_on_every_address(shell, any_host, saw):
    listening = shell(any_host).check_output("ss -Hltn")
    wild = {
        line.split()[3]
        for line in listening.splitlines()
        if line.split()[3].startswith(("0.0.0.0:", "[::]:", "*:"))
        and int(line.split()[3].rsplit(":", 1)[1]) in _expected_ports(any_host)
    }
    saw("none", ", ".join(sorted(wild)) or "none")


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        ("postgresql", "postgresql@{version}-main"),
        ("pgbouncer", "pgbouncer"),
        ("redis", "redis-server@sessions"),
        ("redis", "redis-server@realtime"),
    ],
    ids=["postgresql", "pgbouncer", "redis sessions", "redis realtime"],
)
def test_unit_runs_and_is_enabled(shell, any_host, saw, group, unit):
    expected = "active enabled" if group in any_host.groups else "inactive"
    unit = unit.format(version=any_host.postgresql_version)
    state = shell(any_host).run("systemctl is-active %s; systemctl is-enabled %s", unit, unit).stdout.split()
    saw(expected, " ".join(state if group in any_host.groups else state[:1]))


def test_stock_redis_does_not_run(shell, any_host, saw):
    saw("inactive", shell(any_host).run("systemctl is-active redis-server").stdout.strip())


@pytest.mark.parametrize("name", [*LIMITS, TRANSPARENT_HUGE_PAGES])
def test_kernel_has_the_setting(shell, any_host, saw, name):
    if name not in any_host.kernel:
        return  # it is left to the kernel
    setting = any_host.kernel[name]
    run = shell(any_host)
    value = shown_value(run.check_output("cat %s", setting["path"]))
    writable = run.run("test -w %s", setting["path"]).succeeded
    saw(*setting_row(str(setting["value"]), value, writable))


def test_no_huge_page_lies_idle(shell, database, saw):
    run = shell(database)
    unit = f"postgresql@{database.postgresql_version}-main"
    maps = "grep -q anon_hugepage /proc/$(systemctl show --property MainPID --value %s)/maps"
    saw(
        *huge_pages_row(
            run.check_output("cat /proc/meminfo"),
            run.run("test -w /proc/sys/vm/nr_hugepages").succeeded,
            run.run(maps, unit).succeeded,
        )
    )


@pytest.mark.parametrize("service", ["redis_sessions", "redis_realtime"])
def test_certificate_holds_the_address_for_30_days(app, subject, tunnel, saw, service):
    server = subject.serving(service.split("_")[0], app)
    context = ssl.create_default_context(cafile=subject.ca)
    with (
        socket.create_connection(("127.0.0.1", tunnel(app, service)), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=server.address) as secured,
    ):
        ends = ssl.cert_time_to_seconds(secured.getpeercert()["notAfter"])
    left = datetime.datetime.fromtimestamp(ends, datetime.UTC) - datetime.datetime.now(datetime.UTC)
    saw("over 30 days", "over 30 days" if left.days > 30 else f"{left.days} days")
