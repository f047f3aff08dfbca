#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Refuse a host that holds something else where the play would put its services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_fits
short_description: Refuse a host that holds something else where the services go
description:
  - Looks for a PostgreSQL cluster, adopts the one that fits and fails where one does not, with what was
    expected and what was found; and for daemons that are not the play's own on its ports or in its units.
  - Fails where Patroni is paused.
  - Reads the cluster's files, so it works on a stopped server and on a host without PostgreSQL's packages.
  - Changes nothing. A host that is bare, or that the play has provided, passes.
options:
  cluster:
    description: The cluster that the play would make; none where the host gets no PostgreSQL.
    type: dict
    suboptions:
      version:
        description: PostgreSQL's major version.
        type: str
        required: true
      data_folder:
        description: Where its data lies.
        type: path
        required: true
      config_folder:
        description: Where its configuration lies.
        type: path
        required: true
      encoding:
        description: Its encoding, as C(pg_encoding_to_char) has it.
        type: str
        required: true
      locale:
        description: Its collation and character type, from the C library.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        required: true
      allow_restart:
        description: Whether this run may restart it, as another port or a change of O(cluster.unit) needs.
        type: bool
        default: false
      unit:
        description: The unit that runs it; another that does hands it over, by a restart.
        type: str
        required: true
      copied:
        description: Whether a host without data may get it from another one.
        type: bool
        default: false
  daemons:
    description: The daemons that the play runs on this host.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: The unit, with its suffix.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        required: true
      variable:
        description: The variable that holds the port, for the message.
        type: str
        required: true
      configuration:
        description: The file without which whatever runs in the unit is somebody else's.
        type: path
      stays:
        description: Whether other hosts reach it at its port, which it keeps then as long as it runs.
        type: bool
        default: false
  held:
    description: Units of the packages that the play never lets start.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: There is no difference to show.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Refuse a host that holds something else
  host_fits:
    cluster:
      version: "17"
      data_folder: /var/lib/postgresql/17/main
      config_folder: /etc/postgresql/17/main
      encoding: UTF8
      locale: C.UTF-8
      port: 5432
    daemons:
      - {unit: postgresql@17-main.service, port: 5432, variable: common_postgresql_port}
    held: [redis-server.service]
"""

RETURN = r"""
postgresql_data:
  description: Whether the host has the cluster's data.
  returned: always
  type: bool
postgresql_handover:
  description: Whether another unit than O(cluster.unit) runs it, so that a restart hands it over.
  returned: always
  type: bool
postgresql_system:
  description: The system identifier of the cluster's data; empty without data.
  returned: always
  type: str
postgresql_port:
  description: The port on which the cluster's server listens now; 0 where it does not run.
  returned: always
  type: int
watchdog:
  description: Whether the host has a watchdog device, or the kernel's module softdog to make one.
  returned: always
  type: bool
"""

import glob
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patroni_members import PAUSED

PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
ENCODINGS = {0: "SQL_ASCII", 1: "EUC_JP", 6: "UTF8", 8: "LATIN1", 9: "LATIN2", 16: "LATIN9"}

# Where pg_control has data_checksum_version, by pg_control_version (src/include/catalog/pg_control.h).
CHECKSUM_OFFSET = {1300: 252, 1700: 252}

# pg_database is relation 1262 of the folder global; pg_filenode.map names its file.
PG_DATABASE = 1262
FILENODE_MAP_MAGIC = 0x592717

BRING_OVER = (
    "Bring the data over (dump and restore, or pg_upgradecluster), or move it away if nobody needs it, "
    "and run again."
)


@dataclass(frozen=True)
class Listener:
    """A TCP port in use, and by whom."""

    port: int
    process: str
    pid: int
    unit: str

    def __str__(self) -> str:
        where = f" of {self.unit}" if self.unit else ""
        return f"{self.process} (process {self.pid}{where}) on port {self.port}"


@dataclass(frozen=True)
class Daemon:
    """A daemon that the play runs; `ours` is false as long as its configuration was never written.

    One that `stays` keeps its port while it runs: other hosts reach it there.
    """

    unit: str
    port: int
    variable: str
    ours: bool = True
    stays: bool = False


def checksums(control: bytes) -> str:
    """Whether a cluster with this pg_control has data checksums: on, off or unknown."""
    version = struct.unpack_from("=I", control, 8)[0]
    if version not in CHECKSUM_OFFSET:
        return "unknown"
    return "on" if struct.unpack_from("=I", control, CHECKSUM_OFFSET[version])[0] else "off"


def system_identifier(control: bytes) -> str:
    """The number that a cluster and its copies have in common, from pg_control; empty without one."""
    return str(struct.unpack_from("=Q", control)[0]) if len(control) >= 8 else ""


def database_file(mapping: bytes) -> int:
    """The number of pg_database's file, from pg_filenode.map; 0 where it is not in there."""
    magic, count = struct.unpack_from("=ii", mapping)
    if magic != FILENODE_MAP_MAGIC:
        return 0
    pairs = dict(struct.unpack_from("=II", mapping, 8 + 8 * number) for number in range(count))
    return int(pairs.get(PG_DATABASE, 0))


def template_locale(heap: bytes) -> dict[str, str]:
    """Encoding and locale of template0, from pg_database's file; initdb wrote them and nothing changes them.

    Behind datname (64 bytes) follow datdba, encoding, datlocprovider; at 92 datcollate and datctype begin,
    each with a length byte (src/include/catalog/pg_database.h, the same in PostgreSQL 15 to 17).
    """
    start = heap.rfind(b"template0".ljust(64, b"\0"))
    if start < 0:
        return {}
    number, provider = struct.unpack_from("=ic", heap, start + 68)
    texts, position = [], start + 92
    for _text in range(2):
        length = heap[position] >> 1  # counts itself; the lowest bit marks a short text
        texts.append(heap[position + 1 : position + length].decode(errors="replace"))
        position += length
    return {
        "encoding": ENCODINGS.get(number, f"number {number}"),
        "collation": texts[0],
        "character type": texts[1],
        "locale provider": PROVIDERS.get(provider.decode(errors="replace"), "unknown"),
    }


def differing(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """The names whose values differ; C.utf8 is C.UTF-8."""

    def normal(value: str) -> str:
        return value.lower().replace("-", "")

    return [name for name, value in expected.items() if normal(found.get(name, "unknown")) != normal(value)]


def table(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Three aligned columns: what, expected, found; the rows that differ are marked."""
    marked = differing(expected, found)
    rows = [("", "expected", "found", "")]
    rows += [
        (name, value, found.get(name, "unknown"), "  <-- differs" if name in marked else "")
        for name, value in expected.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        (
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)) + row[3]
        ).rstrip()
        for row in rows
    )


def misfit(
    subject: str, expected: Mapping[str, str], found: Mapping[str, str], checksums_by: str = ""
) -> list[str]:
    """Why `subject` cannot be adopted: nothing, or one text with the table and what to do."""
    names = differing(expected, found)
    if not names:
        return []
    if "version" in names:
        remedy = f"A cluster of another major version is never taken over. {BRING_OVER}"
    elif names == ["data checksums"]:
        remedy = f"Stop the cluster, run {checksums_by} as postgres, start it and run again."
    else:
        remedy = (
            "These are fixed at the creation. Dump it (pg_dump, pg_dumpall), move it out of the way (rename "
            "it), run again, and restore the dump."
        )
    return [f"{subject} that does not fit:\n{table(expected, found)}\n{remedy}"]


def locale_of(cluster: Mapping[str, Any]) -> dict[str, str]:
    """The encoding and locale that the cluster and the database chat have."""
    return {
        "encoding": cluster["encoding"],
        "collation": cluster["locale"],
        "character type": cluster["locale"],
        "locale provider": "libc",
    }


def foreign(listeners: Iterable[Listener], daemons: Sequence[Daemon], held: Sequence[str]) -> list[str]:
    """Why the host's daemons are in the play's way: a text for each."""
    by_unit = {daemon.unit: daemon for daemon in daemons}
    by_port = {daemon.port: daemon for daemon in daemons}
    problems = []
    for listener in listeners:
        if listener.unit in held:
            problems.append(
                f"{listener} is the package's own daemon, which would never start again. Bring its data over "
                f"and stop it (systemctl disable --now {listener.unit}), or take the host out of the group."
            )
        elif listener.unit in by_unit:
            if not by_unit[listener.unit].ours:
                problems.append(
                    f"{listener} runs with a configuration that is not this play's, which would replace it. "
                    f"Stop it (systemctl disable --now {listener.unit}) if nobody needs it, or take the host "
                    "out of the group."
                )
        elif listener.port in by_port:
            problems.append(
                f"{listener} has the port of {by_port[listener.port].unit}. Stop it, or change "
                f"{by_port[listener.port].variable}."
            )
    return problems


def moved(listeners: Iterable[Listener], daemons: Sequence[Daemon]) -> list[str]:
    """Why daemons that run cannot have the ports that are wanted: a text for each.

    A port that nobody listens on has not moved as long as its unit has no other: a unit may have several,
    as PostgreSQL's outlives a Patroni that was killed.
    """
    others: dict[str, set[int]] = {}
    served = set()
    for listener in listeners:
        served.add((listener.unit, listener.port))
        if not any((daemon.unit, daemon.port) == (listener.unit, listener.port) for daemon in daemons):
            others.setdefault(listener.unit, set()).add(listener.port)
    return [
        f"{daemon.unit} listens on {', '.join(map(str, sorted(others[daemon.unit])))}, where the other hosts "
        f"reach it, and not on {daemon.port}. In a cluster a daemon keeps its port: put {daemon.variable} "
        "back."
        for daemon in daemons
        if daemon.stays and daemon.ours and daemon.unit in others and (daemon.unit, daemon.port) not in served
    ]


def pause_problems(folder: str, listeners: Iterable[Listener]) -> list[str]:
    """Why a cluster is left alone: Patroni runs, and keeps a record beside the data that it is paused."""
    runs = any(listener.process == "patroni" for listener in listeners)
    paused = json.loads(text(f"{folder}/patroni.dynamic.json") or "{}").get("pause")
    return [PAUSED] if runs and paused else []


def doubled(daemons: Sequence[Daemon]) -> list[str]:
    """Why the daemons' ports cannot all be served: nothing, or one text."""
    ports = sorted(daemon.port for daemon in daemons)
    if len(ports) == len(set(ports)):
        return []
    variables = ", ".join(sorted({daemon.variable for daemon in daemons if ports.count(daemon.port) > 1}))
    return [f"One port is wanted twice: {', '.join(map(str, ports))}. Change one of {variables}."]


def listeners_of(listing: str, unit_of: Mapping[int, str]) -> list[Listener]:
    """The lines of `ss -Hltnp`, once for each port and process."""
    found = {}
    for line in listing.splitlines():
        port = int(line.split()[3].rsplit(":", 1)[1])
        user = re.search(r'\(\("([^"]*)",pid=(\d+)', line)
        name, pid = (user[1], int(user[2])) if user else ("an unknown process", 0)
        found[port, pid] = Listener(port, name, pid, unit_of.get(pid, ""))
    return list(found.values())


def unit_in(cgroup: str) -> str:
    """The service that a process belongs to, from its /proc/PID/cgroup; empty where it is none's."""
    found = re.search(r"/([^/\n]+\.service)$", cgroup, re.MULTILINE)
    return found[1] if found else ""


def data_directory(configuration: str) -> str:
    """The setting in a postgresql.conf; empty where it is not set there."""
    found = re.findall(r"^\s*data_directory\s*=?\s*'([^']*)'", configuration, re.MULTILINE)
    return str(found[-1]) if found else ""


def read(path: str, default: bytes = b"") -> bytes:
    """The file's bytes, or `default` where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return default


def text(path: str) -> str:
    return read(path).decode(errors="replace")


def properties_of(folder: str) -> dict[str, str]:
    """What a cluster was made with, from its files; of another version than we know, only that."""
    found = {"version": text(f"{folder}/PG_VERSION").strip()}
    try:
        found["data checksums"] = checksums(read(f"{folder}/global/pg_control"))
        number = database_file(read(f"{folder}/global/pg_filenode.map"))
        found |= template_locale(read(f"{folder}/global/{number}"))
    except (struct.error, IndexError):
        pass  # what is missing counts as unknown, and unknown does not fit
    return found


def other_clusters(own: str) -> dict[str, str]:
    """Data folders of this host's other clusters, with their versions; a half-made one of ours is none."""
    folders = {os.path.dirname(path) for path in glob.glob("/var/lib/postgresql/*/*/PG_VERSION")}
    for path in glob.glob("/etc/postgresql/*/*/postgresql.conf"):
        folders.add(data_directory(text(path)))
    found = {folder: text(f"{folder}/PG_VERSION").strip() for folder in folders - {"", own, f"{own}.new"}}
    return {folder: version for folder, version in found.items() if version}


def place_problems(cluster: Mapping[str, Any], others: Mapping[str, str]) -> list[str]:
    """Why no new cluster may be made in the data folder, where none is; `others`: folders and versions."""
    folder, configured = (
        cluster["data_folder"],
        data_directory(text(f"{cluster['config_folder']}/postgresql.conf")),
    )
    if others:
        listed = ", ".join(f"{other} (PostgreSQL {version})" for other, version in sorted(others.items()))
        return [
            f"This host has data in {listed}, but no cluster in {folder} (PostgreSQL {cluster['version']}): "
            f"an empty one beside it would look like lost data. {BRING_OVER}"
        ]
    if configured and not cluster["copied"]:
        return [
            f"{cluster['config_folder']} belongs to a cluster whose data is not in {configured}. Is its disk "
            f"mounted? If the data is given up for good, remove {cluster['config_folder']} and run again."
        ]
    try:
        entries = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return [f"{folder} is not a folder. Move it away."]
    if entries:
        shown = ", ".join(entries[:5]) + (", ..." if len(entries) > 5 else "")
        return [f"{folder} has no PG_VERSION and is not empty: {shown}. Move what it holds away."]
    if os.path.ismount(folder):
        return [f"{folder} is a mount point; mount the disk on /var/lib/postgresql instead."]
    return []


def has_watchdog(root: str = "/") -> bool:
    """Whether the host has a watchdog device, or a kernel that can make one (softdog)."""
    modules = f"{root}lib/modules/{os.uname().release}/kernel/drivers/watchdog/softdog.ko*"
    return os.path.exists(f"{root}dev/watchdog") or bool(glob.glob(modules))


def running_server(folder: str) -> tuple[int, str, int]:
    """Port, socket folder and process of the server on the data folder; (0, "", 0) where none runs."""
    lines = text(f"{folder}/postmaster.pid").splitlines()
    if len(lines) < 5 or "postgres" not in text(f"/proc/{int(lines[0])}/comm"):
        return 0, "", 0
    return int(lines[3]), lines[4], int(lines[0])


def main() -> None:
    cluster_options: dict[str, Any] = {
        "version": {"type": "str", "required": True},
        "data_folder": {"type": "path", "required": True},
        "config_folder": {"type": "path", "required": True},
        "encoding": {"type": "str", "required": True},
        "locale": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "allow_restart": {"type": "bool", "default": False},
        "unit": {"type": "str", "required": True},
        "copied": {"type": "bool", "default": False},
    }
    daemon_options: dict[str, Any] = {
        "unit": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "variable": {"type": "str", "required": True},
        "configuration": {"type": "path"},
        "stays": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "dict", "options": cluster_options},
            "daemons": {"type": "list", "elements": "dict", "default": [], "options": daemon_options},
            "held": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    daemons = [
        Daemon(
            entry["unit"],
            entry["port"],
            entry["variable"],
            entry["configuration"] is None or os.path.exists(entry["configuration"]),
            entry["stays"],
        )
        for entry in module.params["daemons"]
    ]
    _code, listing, _error = module.run_command(["ss", "-Hltnp"], check_rc=True)
    units = {int(pid): unit_in(text(f"/proc/{pid}/cgroup")) for pid in re.findall(r"pid=(\d+)", listing)}
    listeners = listeners_of(listing, units)
    problems = doubled(daemons)

    port, data, handover, system = 0, False, False, ""
    cluster = module.params["cluster"]
    if cluster:
        data = os.path.exists(f"{cluster['data_folder']}/PG_VERSION")
        system = system_identifier(read(f"{cluster['data_folder']}/global/pg_control"))
        port, socket_folder, pid = running_server(cluster["data_folder"])
        handover = port != 0 and unit_in(text(f"/proc/{pid}/cgroup")) != cluster["unit"]
        listeners = [listener for listener in listeners if listener.pid != pid or not handover]
        problems += cluster_problems(cluster, port, handover) + pause_problems(
            cluster["data_folder"], listeners
        )
        if port:
            problems += chat_problems(module, cluster, port, socket_folder)
    problems += foreign(listeners, daemons, module.params["held"]) + moved(listeners, daemons)
    if problems:
        module.fail_json(msg="\n\n".join([*problems, "Nothing was changed."]))
    module.exit_json(
        changed=False,
        postgresql_data=data,
        postgresql_handover=handover,
        postgresql_port=port,
        postgresql_system=system,
        watchdog=has_watchdog(),
    )


def cluster_problems(cluster: Mapping[str, Any], port: int, handover: bool) -> list[str]:
    """Why the cluster that is there cannot be adopted, or none be made."""
    folder = cluster["data_folder"]
    if not os.path.exists(f"{folder}/PG_VERSION"):
        return place_problems(cluster, other_clusters(folder))
    problems = misfit(
        f"{folder} holds a cluster",
        {"version": cluster["version"], **locale_of(cluster), "data checksums": "on"},
        properties_of(folder),
        checksums_by=f"/usr/lib/postgresql/{cluster['version']}/bin/pg_checksums --enable --pgdata={folder}",
    )
    configured = data_directory(text(f"{cluster['config_folder']}/postgresql.conf"))
    if configured not in ("", folder):
        problems.append(
            f"{cluster['config_folder']} belongs to a cluster in {configured}, and {folder} holds another. "
            f"{BRING_OVER}"
        )
    if handover and not cluster["allow_restart"]:
        problems.append(
            f"PostgreSQL would be handed over to {cluster['unit']}, by a restart, which "
            "postgresql_allow_restart forbids. Allow it (common_allow_restart) for this run."
        )
    if port not in (0, cluster["port"]) and cluster["copied"] and not handover:
        problems.append(
            f"PostgreSQL listens on {port}, where the other hosts reach it, and not on {cluster['port']}. "
            f"In a cluster it keeps its port: common_postgresql_port: {port}."
        )
    elif port not in (0, cluster["port"]) and not cluster["allow_restart"]:
        problems.append(
            f"PostgreSQL listens on port {port} and would move to {cluster['port']} only by a restart, which "
            "postgresql_allow_restart forbids. Allow it (common_allow_restart), or keep "
            f"common_postgresql_port: {port}."
        )
    return problems


def chat_problems(
    module: AnsibleModule, cluster: Mapping[str, Any], port: int, socket_folder: str
) -> list[str]:
    """Why the running server's database chat cannot be adopted; its owner is the play's to correct."""
    query = (
        "SELECT json_build_object('encoding', pg_encoding_to_char(encoding), 'collation', datcollate,"
        " 'character type', datctype, 'locale provider', datlocprovider)"
        " FROM pg_database WHERE datname = 'chat'"
    )
    # Not postgresql_query: on a host that is to be adopted its driver is not installed yet.
    psql = ["psql", "-XAtq", "-h", socket_folder, "-p", str(port), "-d", "postgres", "-c", query]
    code, out, _error = module.run_command(["runuser", "--user=postgres", "--", *psql], cwd="/")
    if code or not out.strip():
        return []  # no such database, or a server that is only starting; postgresql_db looks again
    found = json.loads(out)
    found["locale provider"] = PROVIDERS.get(found["locale provider"], "unknown")
    return misfit("The server has a database chat", locale_of(cluster), found)


if __name__ == "__main__":
    main()
