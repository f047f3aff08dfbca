"""The bodies of the modules: parameters in, result out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from .yoyo_db import Settings, settings_from
from .yoyo_info import look
from .yoyo_model import MigrationError, Request
from .yoyo_run import Run
from .yoyo_spec import sources_from

_REQUEST_OPTIONS = (
    "state",
    "target",
    "count",
    "on_drift",
    "on_missing",
    "on_out_of_order",
    "allow_irreversible",
    "allow_python",
)


class Module(Protocol):
    """The part of AnsibleModule that is used here."""

    params: dict[str, Any]
    check_mode: bool
    no_log_values: set[str]
    _diff: bool

    def warn(self, warning: str) -> None: ...
    def exit_json(self, **result: Any) -> NoReturn: ...
    def fail_json(self, msg: str, **result: Any) -> NoReturn: ...


def migrate(module: Module) -> NoReturn:
    """The body of yoyo_migrate."""
    request = Request(**{name: module.params[name] for name in _REQUEST_OPTIONS})
    run, failure = Run(request), None
    try:
        run.execute(
            _settings(module),
            sources_from(module.params),
            check_mode=module.check_mode,
            show_sql=module._diff,
            parse=module.params["check_syntax"],
        )
    except MigrationError as stopped:
        failure = stopped
    _finish(module, run, failure)


def inform(module: Module) -> NoReturn:
    """The body of yoyo_migrate_info."""
    try:
        settings = _settings(module)
        module.exit_json(changed=False, **look(settings, sources_from(module.params)))
    except MigrationError as failure:
        _fail(module, failure, {})


def _settings(module: Module) -> Settings:
    settings = settings_from(module.params)
    # Ansible knows the options' values; the forms that a password takes in a message are for us to name.
    module.no_log_values |= settings.secrets
    return settings


def _finish(module: Module, run: Run, failure: MigrationError | None) -> NoReturn:
    result = run.result()
    for warning in run.warnings + list(run.plan.warnings):
        module.warn(warning)
    if run.diff:
        result["diff"] = run.diff
    if failure is None:
        module.exit_json(**result)
    _fail(module, failure, result)


def _fail(module: Module, failure: MigrationError, result: Mapping[str, Any]) -> NoReturn:
    outcome = {**result, "database_state": failure.database_state, **failure.extra}
    if failure.database_state == "partial":
        outcome["changed"] = True
    module.fail_json(msg=str(failure), error=failure.error.as_dict(), **outcome)
