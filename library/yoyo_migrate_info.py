#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: yoyo_migrate_info
short_description: Tell which yoyo migrations a PostgreSQL database has, and which it lacks
description:
  - Compares the migrations of a folder with the record in a PostgreSQL database.
  - Reads in a read-only transaction, takes no lock, and works on a standby.
options:
  source:
    description:
      - Folder on the controller that holds the migrations.
      - A relative path is searched as for M(ansible.builtin.copy).
      - Exactly one of O(source) and O(sources) is required.
    type: path
  sources:
    description:
      - Folders on the host that hold the migrations.
    type: list
    elements: path
  dsn:
    description:
      - Connection URI or string of libpq, instead of the O(login_user) family of options.
    type: str
  login_host:
    description: Host name or address of the server.
    type: str
  login_unix_socket:
    description: Folder of the server's Unix-domain socket.
    type: path
  login_port:
    description: Port of the server, and part of the name of its socket.
    type: int
  login_user:
    description: Role to log in as.
    type: str
  login_password:
    description: Password of that role.
    type: str
  login_db:
    description: Database to look at.
    type: str
  ssl_mode:
    description: How TLS is negotiated and verified; libpq's C(sslmode).
    type: str
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File on the host with the authorities' certificates; libpq's C(sslrootcert).
    type: path
  connect_timeout:
    description: Seconds to wait for a connection.
    type: int
    default: 10
  session_role:
    description: Role to switch to after login.
    type: str
  bookkeeping_schema:
    description: Schema of yoyo's tables and of the module's own.
    type: str
    default: public
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing, so there is no difference to show.
  platform:
    platforms: posix
    support: full
    description: The target operating systems.
requirements:
  - python >= 3.11
  - psycopg >= 3.1
  - yoyo-migrations >= 8.2, only where something is pending
seealso:
  - module: yoyo_migrate
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: See what is pending
  yoyo_migrate_info:
    source: migrations
    login_unix_socket: /var/run/postgresql
    login_user: chat_owner
    login_db: chat
  register: __migrations

- name: Stop before the deployment if a migration is pending
  ansible.builtin.assert:
    that: __migrations.pending | length == 0
"""

RETURN = r"""
applied:
  description: What is recorded, in the order in which it was applied.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id of the migration, type: str, returned: always}
    applied_at: {description: 'When it was applied, in UTC', type: str, returned: always}
    checksum: {description: 'SHA-256 of the content, if known', type: str, returned: always}
pending:
  description: Ids that are not applied, in the order in which they run.
  returned: always
  type: list
  elements: str
drift:
  description: Applied migrations whose file was edited since.
  returned: always
  type: list
  elements: dict
missing:
  description: Applied ids that have no file.
  returned: always
  type: list
  elements: str
out_of_order:
  description: Pending ids that sort before an applied one.
  returned: always
  type: list
  elements: str
unfinished:
  description: Non-transactional migrations that began and did not end.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id of the migration, type: str, returned: always}
    operation: {description: 'V(apply) or V(rollback)', type: str, returned: always}
    statements_done: {description: Statements known to have finished, type: int, returned: always}
    statements_total: {description: Statements of the file, type: int, returned: always}
    started_at: {description: 'When it began, in UTC', type: str, returned: always}
problems:
  description: Why V(state=applied) of M(yoyo_migrate) would refuse to run; empty if it would not.
  returned: always
  type: list
  elements: str
current:
  description: Id of the newest applied migration.
  returned: always
  type: str
"""

import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.yoyo_spec import CONNECTION, MUTUALLY_EXCLUSIVE

try:
    from ansible.module_utils.yoyo_main import inform

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()


def main() -> None:
    module = AnsibleModule(
        argument_spec=CONNECTION,
        mutually_exclusive=MUTUALLY_EXCLUSIVE,
        required_one_of=[("source", "sources")],
        supports_check_mode=True,
    )
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg"), exception=IMPORT_ERROR)
    inform(module)


if __name__ == "__main__":
    main()
