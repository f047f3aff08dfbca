"""What listens and runs on each host, and how it is confined."""

from __future__ import annotations

from .kernel import huge_pages_row, setting_row, shown_value


def test_only_our_ports_listen(shell, any_host, saw):
    listening = shell(any_host).check_output("ss -Hltn")
    ports = {int(line.split()[3].rsplit(":", 1)[1]) for line in listening.splitlines()}
    daemons = any_host.listening()
    known = set(range(5000, 7000)) | {26379, 8008, 2379, 2380}  # what data services use, ours or stock
    saw(sorted(daemons), sorted(ports & (known | daemons)))


def test_no_service_listens_on_every_address(shell, any_host, saw):
    listening = shell(any_host).check_output("ss -Hltn")
    wild = {
        line.split()[3]
        for line in listening.splitlines()
        if line.split()[3].startswith(("0.0.0.0:", "[::]:", "*:"))
        and int(line.split()[3].rsplit(":", 1)[1]) in any_host.listening()
    }
    saw("none", ", ".join(sorted(wild)) or "none")


def test_unit_runs_and_is_enabled(shell, daemon, saw):
    host, name = daemon
    state = shell(host).run("systemctl is-active %s; systemctl is-enabled %s", name, name).stdout
    saw("active enabled", " ".join(state.split()))


def test_no_other_unit_of_their_kind_runs(shell, any_host, saw):
    kinds = ("etcd*", "haproxy*", "patroni*", "pgbouncer*", "postgresql@*", "redis-*", "valkey-*")
    running = shell(any_host).check_output(
        "systemctl list-units --plain --no-legend --type service --state active,failed " + " ".join(kinds)
    )
    units = sorted(line.split()[0].removesuffix(".service") for line in running.splitlines())
    saw(sorted(any_host.units()), units)


def test_kernel_has_the_setting(shell, kernel_setting, saw):
    host, name = kernel_setting
    setting = host.kernel[name]
    run = shell(host)
    value = shown_value(run.check_output("cat %s", setting["path"]))
    writable = run.run("test -w %s", setting["path"]).succeeded
    saw(*setting_row(str(setting["value"]), value, writable))


def test_no_huge_page_lies_idle(shell, database, saw):
    run = shell(database)
    maps = "grep -q anon_hugepage /proc/$(head -n 1 /var/lib/postgresql/*/main/postmaster.pid)/maps"
    saw(
        *huge_pages_row(
            run.check_output("cat /proc/meminfo"),
            run.run("test -w /proc/sys/vm/nr_hugepages").succeeded,
            run.run(maps).succeeded,
        )
    )


def test_unit_is_little_exposed(shell, daemon, saw):
    host, name = daemon
    verdict = shell(host).check_output("systemd-analyze security --no-pager %s | tail -n 1", name)
    exposure = float(verdict.split(":")[1].split()[0])
    saw(f"{exposure}, at most 2.0", f"{exposure}, {'at most' if exposure <= 2.0 else 'over'} 2.0")


def test_process_is_confined(shell, daemon, saw):
    """What the kernel says of the main process: systemd passes over what a host does not grant it."""
    host, name = daemon
    said = shell(host).check_output(
        "cd /proc/$(systemctl show --property MainPID --value %s) && cat status && grep ' / / ' mountinfo",
        name,
    )
    *status, root = said.splitlines()
    process = dict(line.split(":", 1) for line in status if ":" in line)
    saw(
        ("capabilities 0", "no new privileges 1", "seccomp 2", "/ ro"),
        (
            f"capabilities {int(process['CapBnd'], 16)}",
            f"no new privileges {process['NoNewPrivs'].strip()}",
            f"seccomp {process['Seccomp'].strip()}",
            f"/ {root.split()[5].split(',')[0]}",
        ),
    )


def test_files_are_closed_to_others(shell, any_host, saw):
    # Debian's psql reads these as whoever calls it; only paths and pg_ctlcluster's options are in them.
    public = " ".join(
        f"-not -path '/etc/postgresql/*/main/{name}'"
        for name in ("postgresql.conf", "start.conf", "pg_ctl.conf", "environment")
    )
    public += " -not -path /etc/patroni/config.yml.in -not -path /etc/patroni/dcs.yml"  # Debian's examples
    open_files = shell(any_host).run(
        "find /etc/etcd /etc/patroni /etc/pgbouncer /etc/postgresql /etc/redis /etc/valkey"
        f" /etc/ssl/private/chat.key /var/log/postgresql -type f -perm /0137 {public};"
        " find /var/lib/postgresql/*/main -maxdepth 0 -perm /0077"
    )
    saw("none", " ".join(open_files.stdout.split()) or "none")
