"""What a migration declares in its first lines. yoyo reads those of SQL; Python is parsed, never imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .yoyo_model import BadFileError, Header, MigrationFile
from .yoyo_sql import skip_blank

_LINE_END = re.compile(r"\r\n?")


def read_header(file: MigrationFile, content: bytes) -> Header:
    """The header of `file`; raises BadFileError for one that makes no sense."""
    return _python_header(file, content) if file.is_python else _sql_header(file, content)


def _sql_header(file: MigrationFile, content: bytes) -> Header:
    from yoyo.migrations import parse_metadata_from_sql_comments

    # yoyo's own reader opens the file as text, which makes every line end a line feed.
    comments = _LINE_END.sub("\n", content[: skip_blank(content, 0)].decode("utf-8"))
    directives, _comment, _sql = parse_metadata_from_sql_comments(comments)
    transactional = directives.get("transactional", "true").strip().lower()
    if transactional not in ("true", "false"):
        raise BadFileError(
            file.path, f"the header says 'transactional: {transactional}'; it takes true or false"
        )
    return Header(
        depends=frozenset(directives.get("depends", "").split()),
        transactional=transactional == "true",
        reversible=file.rollback_path is not None,
    )


def _python_header(file: MigrationFile, content: bytes) -> Header:
    try:
        tree = ast.parse(content)
    except SyntaxError as failure:
        raise BadFileError(file.path, f"not valid Python: {failure.msg}", line=failure.lineno) from None
    depends: frozenset[str] = frozenset()
    transactional = True
    for name, value in _assignments(tree):
        if name == "__depends__":
            depends = _ids(file, value)
        elif name == "__transactional__":
            transactional = bool(_literal(file, name, value))
    return Header(depends, transactional, reversible=_is_reversible(tree))


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """The names that the module's own statements assign to, with the expression."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value:
            targets, value = [node.target], node.value
        else:
            continue
        yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))


def _ids(file: MigrationFile, value: ast.expr) -> frozenset[str]:
    found = _literal(file, "__depends__", value)
    if isinstance(found, str):
        return frozenset([found])
    # `yoyo new` writes {} for a migration that depends on nothing.
    ids = () if found == {} else found
    if not isinstance(ids, (set, list, tuple)) or not all(isinstance(id, str) for id in ids):
        message = "__depends__ must be an id or a set, list or tuple of ids, which are strings"
        raise BadFileError(file.path, message, line=value.lineno)
    return frozenset(ids)


def _literal(file: MigrationFile, name: str, value: ast.expr) -> object:
    try:
        return ast.literal_eval(value)
    except ValueError:
        message = f"{name} must be a literal, because the plan is made without running the file"
    except TypeError as failure:  # such as a list within a set
        message = f"{name}: {failure}"
    raise BadFileError(file.path, message, line=value.lineno)


def _is_reversible(tree: ast.Module) -> bool:
    """Whether every step has a rollback. Those of a group or a list are calls of step() like any other."""
    names = {"step"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("yoyo", "yoyo.migrations"):
            names |= {alias.asname for alias in node.names if alias.name == "step" and alias.asname}
    steps = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_step(node.func, names)]
    return bool(steps) and all(map(_has_rollback, steps))


def _is_step(called: ast.expr, names: set[str]) -> bool:
    if isinstance(called, ast.Attribute):
        return called.attr == "step"
    return isinstance(called, ast.Name) and called.id in names


def _has_rollback(step: ast.Call) -> bool:
    """Whether the call names a rollback. What arrives in *args or **kwargs nobody knows yet."""
    given = [argument.value for argument in step.keywords if argument.arg == "rollback"]
    if not any(isinstance(argument, ast.Starred) for argument in step.args[:2]):
        given += step.args[1:2]
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in given)
