#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: yoyo_migrate
short_description: Apply, roll back, baseline or repair yoyo migrations of a PostgreSQL database
description:
  - Brings a PostgreSQL database to the migrations of a folder, in the file format of yoyo-migrations.
  - Keeps yoyo's own tables, so that the stock C(yoyo list) and C(yoyo rollback) understand the database.
  - Runs each migration, its log row and its mark as one transaction, under a lock that a killed run does
    not leave behind.
  - Records the SHA-256 of each file, so that an edit of an applied migration is found.
  - Check mode opens a read-only transaction, takes no lock, works on a standby, and returns the same
    C(changed) and ids as the run that follows.
options:
  source:
    description:
      - Folder on the controller that holds the migrations.
      - A relative path is searched as for M(ansible.builtin.copy).
      - Its files travel inside the module call. Nothing is left on the host.
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
      - Several hosts with C(target_session_attrs=read-write) find the primary.
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
    description: Database to migrate.
    type: str
  ssl_mode:
    description: How TLS is negotiated and verified; libpq's C(sslmode).
    type: str
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File on the host with the authorities' certificates; libpq's C(sslrootcert).
    type: path
  connect_timeout:
    description: Seconds to wait for a connection, unless O(dsn) says otherwise.
    type: int
    default: 10
  session_role:
    description: Role to switch to after login. It runs the migrations, and owns what they make.
    type: str
  search_path:
    description: Schemas of the session's search path for migrations; the login role's own if left out.
    type: list
    elements: str
  bookkeeping_schema:
    description:
      - Schema of yoyo's tables and of the module's own, created if missing.
      - Pinned, because yoyo's own choice, the current schema, changes when a migration creates a schema
        named like the role. Give the stock command the same with C(?schema=) in its URI.
    type: str
    default: public
  state:
    description:
      - V(applied) runs what is not recorded, in yoyo's order, and then the C(post-apply) hooks.
      - V(rolled_back) undoes the newest records first; needs O(target) or O(count).
      - V(baselined) records migrations as applied and runs nothing.
      - V(repaired) accepts the files as they are now for what is recorded. It forgets an unfinished
        non-transactional migration, so that it runs again, and that a migration was applied whose
        non-transactional rollback was finished by hand.
    type: str
    choices: [applied, rolled_back, baselined, repaired]
    default: applied
  target:
    description:
      - Exact id of a migration, which is its file's name without C(.sql) or C(.py).
      - The last one to apply or to baseline, the newest one to keep when rolling back, the only one to
        repair.
    type: str
  count:
    description: How many migrations to apply, roll back or baseline at most; not for V(state=repaired).
    type: int
  on_drift:
    description: What to do when an applied migration's file was edited since.
    type: str
    choices: [fail, warn, ignore]
    default: fail
  on_missing:
    description: What to do when an applied migration's file is gone.
    type: str
    choices: [fail, warn, ignore]
    default: fail
  on_out_of_order:
    description:
      - What to do when a migration to apply sorts before one of its folder that is applied, and no dependency
        explains it.
    type: str
    choices: [fail, warn, ignore]
    default: fail
  lock_wait_s:
    description: Seconds to wait for another migration run and for the stock command to end, both together.
    type: int
    default: 60
  lock_timeout_ms:
    description:
      - Milliseconds that a statement waits for a lock before the migration is rolled back and tried again;
        V(0) waits for ever.
      - Statements with C(CONCURRENTLY) in a non-transactional migration wait as long as they need, because
        they block nobody.
    type: int
    default: 5000
  lock_retries:
    description: How often a transactional migration is tried again after a lock timeout or a deadlock.
    type: int
    default: 3
  statement_timeout_ms:
    description: Milliseconds after which a statement is cancelled; V(0) is never.
    type: int
    default: 0
  stale_lock:
    description:
      - What to do about a lock row of the stock command that is still there after O(lock_wait_s).
      - A row that a killed run of this module left is recognised and removed in any case.
    type: str
    choices: [fail, break]
    default: fail
  allow_irreversible:
    description: Accept a rollback of migrations that have no rollback; only their record is removed.
    type: bool
    default: false
  allow_python:
    description: Accept migrations that are Python files. They run on the host, as the user of the task.
    type: bool
    default: false
  check_syntax:
    description:
      - In check mode, have the server parse each file that would run, without running it.
      - Leaves one ERROR a file in the server's log, C(yoyo_migrate has checked the syntax).
    type: bool
    default: true
attributes:
  async:
    support: full
    description: Supports the C(async) keyword, for migrations that take longer than a connection lasts.
  check_mode:
    support: full
    description: Predicts what a run would do without changing anything.
  diff_mode:
    support: full
    description: Shows the applied ids before and after, and the SQL that would run.
  platform:
    platforms: posix
    support: full
    description: The target operating systems.
requirements:
  - python >= 3.11
  - psycopg >= 3.1
  - yoyo-migrations >= 8.2, only where something is to be applied or rolled back
notes:
  - Connect to the server itself. A pooler in transaction mode cannot hold a session's lock.
  - With C(--diff) a migration's SQL is printed; keep secrets out of migrations.
author:
  - The project's maintainers (@chatdata)
"""

EXAMPLES = r"""
- name: Apply the project's migrations over the socket, as the owner of the schema
  yoyo_migrate:
    source: migrations
    login_unix_socket: /var/run/postgresql
    login_user: chat_owner
    login_db: chat

- name: Reach a managed database, whichever of its hosts is the primary
  yoyo_migrate:
    source: migrations
    dsn: host=db1,db2 dbname=chat user=chat_owner target_session_attrs=read-write passfile=/etc/chat/pgpass
    ssl_mode: verify-full
    ca_cert: /etc/ssl/certs/ca-certificates.crt

- name: Undo everything after a migration
  yoyo_migrate:
    source: migrations
    login_db: chat
    state: rolled_back
    target: 002_create_rooms_table

- name: Take over a database whose schema is there already
  yoyo_migrate:
    source: migrations
    login_db: chat
    state: baselined
"""

RETURN = r"""
applied:
  description: Migrations that were applied, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample: [{id: 001_create_users_table, checksum: 9f86d081884c7d65, transactional: true, duration_ms: 12}]
  contains: &migration
    id: {description: Id of the migration, type: str, returned: always}
    checksum: {description: SHA-256 of its file, type: str, returned: always}
    transactional: {description: Whether it ran in a transaction, type: bool, returned: always}
    duration_ms: {description: 'How long it took, V(0) in check mode', type: int, returned: always}
rolled_back:
  description: Migrations that were rolled back, in order.
  returned: always
  type: list
  elements: dict
  contains: *migration
marked:
  description: Migrations that were recorded without being run.
  returned: always
  type: list
  elements: dict
  contains: *migration
repaired:
  description: Migrations whose record was repaired.
  returned: always
  type: list
  elements: dict
  contains: *migration
post_apply:
  description: Hooks that ran after the migrations.
  returned: always
  type: list
  elements: dict
  contains: *migration
pending:
  description: Ids that were not applied when the module looked, in the order in which they run.
  returned: always
  type: list
  elements: str
drift:
  description: Applied migrations whose file was edited since.
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Id of the migration, type: str, returned: always}
    path: {description: Its file, type: str, returned: always}
    recorded: {description: SHA-256 of the content that was applied, type: str, returned: always}
    found: {description: SHA-256 of the file now, type: str, returned: always}
    applied_at: {description: 'When it was applied, in UTC', type: str, returned: always}
missing:
  description: Applied ids that have no file.
  returned: always
  type: list
  elements: str
out_of_order:
  description: Ids to apply that sort before an applied one.
  returned: always
  type: list
  elements: str
current:
  description: Id of the newest applied migration once the module is done.
  returned: always
  type: str
lock:
  description: How long the module waited for its lock, and who held it.
  returned: always
  type: dict
  contains:
    waited_ms: {description: Milliseconds waited, type: int, returned: always}
    holder: {description: 'The session or process that held it, if any', type: dict, returned: always}
notices:
  description: What the server had to say, up to 100 messages.
  returned: always
  type: list
  elements: str
error:
  description: What went wrong, and where.
  returned: failure
  type: dict
  contains:
    id: {description: Id of the migration, type: str, returned: always}
    file: {description: Its file, type: str, returned: always}
    line: {description: 'Line in the file, from 1', type: int, returned: always}
    column: {description: 'Column in the line, from 1', type: int, returned: always}
    sqlstate: {description: The server's five-character code, type: str, returned: always}
    message: {description: The server's message, type: str, returned: always}
    detail: {description: The server's detail, type: str, returned: always}
    hint: {description: The server's hint, type: str, returned: always}
    context: {description: The server's context, type: str, returned: always}
database_state:
  description:
    - V(unchanged), V(earlier_migrations_kept) if those before the failed one are applied, V(partial) if a
      migration got through in part, because it is non-transactional or committed by itself.
    - V(unknown) if the connection was lost at a COMMIT and no new one could be made to ask.
  returned: failure
  type: str
finished_statements:
  description: How the statements begin that had finished before the failure, and stay.
  returned: failure of a non-transactional migration
  type: list
  elements: str
invalid_indexes:
  description: Indexes that a failed CREATE INDEX CONCURRENTLY left behind.
  returned: failure of a non-transactional migration
  type: list
  elements: str
"""

import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.yoyo_spec import CONNECTION, MUTUALLY_EXCLUSIVE, RUN

try:
    from ansible.module_utils.yoyo_main import migrate

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()


def main() -> None:
    module = AnsibleModule(
        argument_spec={**CONNECTION, **RUN},
        mutually_exclusive=[*MUTUALLY_EXCLUSIVE, ("target", "count")],
        required_one_of=[("source", "sources")],
        required_if=[("state", "rolled_back", ("target", "count"), True)],
        supports_check_mode=True,
    )
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg"), exception=IMPORT_ERROR)
    migrate(module)


if __name__ == "__main__":
    main()
