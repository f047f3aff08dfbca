"""What a migration declares in its first lines. yoyo reads those of SQL; Python is parsed, never imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

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
    declared: dict[str, object] = {}
    reversible = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.col_offset == 0:
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in ("__depends__", "__transactional__"):
                    declared[target.id] = _literal(file, target.id, node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step":
            reversible = reversible or len(node.args) > 1 or any(k.arg == "rollback" for k in node.keywords)
    depends = declared.get("__depends__", ())
    names = [depends] if isinstance(depends, str) else list(depends) if isinstance(depends, Iterable) else []
    return Header(
        depends=frozenset(str(name) for name in names),
        transactional=bool(declared.get("__transactional__", True)),
        reversible=reversible,
    )


def _literal(file: MigrationFile, name: str, node: ast.Assign) -> object:
    try:
        return ast.literal_eval(node.value)
    except ValueError:
        message = f"{name} must be a literal, because the plan is made without running the file"
        raise BadFileError(file.path, message, line=node.lineno) from None
