from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import pytest

from module_utils.yoyo_archive import Archive
from module_utils.yoyo_files import Migrations, checksum
from module_utils.yoyo_model import BadFileError, Header
from module_utils.yoyo_sources import Folder, Source


def archive(files: dict[str, bytes]) -> Archive:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return Archive("/on/the/controller", base64.b64encode(buffer.getvalue()).decode())


def header(content: str, name: str = "001.sql", **others: bytes) -> Header:
    migrations = Migrations([archive({name: content.encode(), **others})])
    return migrations.header(migrations.files[0])


FILES = {
    "002_b.sql": b"SELECT 2;",
    "001_a.sql": b"SELECT 1;",
    "001_a.rollback.sql": b"SELECT -1;",
    "003_c.py": b"",
    "_tmp_yoyonewabc.sql": b"a draft",
    "README.md": b"",
}


@pytest.fixture(params=["folder", "archive"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "archive":
        return archive(FILES)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return Folder(str(tmp_path))


def test_migrations_are_sql_and_python_files_without_drafts_in_order_of_name(source: Source) -> None:
    found = Migrations([source])
    assert [file.id for file in found.files] == ["001_a", "002_b", "003_c"]
    assert found.files[0].path == f"{source.location}/001_a.sql"
    assert found.files[0].rollback_path == f"{source.location}/001_a.rollback.sql"
    assert found.files[1].rollback_path is None
    assert found.content(f"{source.location}/001_a.rollback.sql") == b"SELECT -1;"


def test_a_rollback_without_its_migration_is_an_orphan() -> None:
    assert Migrations([archive({"001_a.rollback.sql": b""})]).orphans == [
        "/on/the/controller/001_a.rollback.sql"
    ]


def test_post_apply_files_are_hooks() -> None:
    assert [
        file.is_hook for file in Migrations([archive({"001.sql": b"", "post-apply.grants.sql": b""})]).files
    ] == [
        False,
        True,
    ]


def test_a_damaged_archive_is_refused() -> None:
    with pytest.raises(BadFileError, match="damaged"):
        Archive("/x", "bm90IGEgemlw")


@pytest.mark.parametrize("content", [b"a\nb\n", b"a\r\nb\r\n", b"a\rb\r", b"\xef\xbb\xbfa\nb\n"])
def test_the_sum_is_the_same_for_every_line_end_and_with_a_byte_order_mark(content: bytes) -> None:
    assert checksum(content) == checksum(b"a\nb\n") != checksum(b"a\nb")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("SELECT 1;", Header(reversible=False)),
        ("-- depends: a b\n-- depends: c\nSELECT 1;", Header(frozenset("abc"), reversible=False)),
        ("--transactional:false\r\n-- why\r\nSELECT 1;", Header(transactional=False, reversible=False)),
        ("-- transactional: false\r-- depends: a\rSELECT 1;", Header(frozenset("a"), False, False)),
        ("-- why\n-- transactional: false\r\n-- depends: a\r", Header(frozenset("a"), False, False)),
        ("SELECT 1;\n-- depends: a", Header(reversible=False)),
        ("\n-- transactional: TRUE\n", Header(reversible=False)),
    ],
)
def test_the_header_of_an_sql_file_is_read_as_yoyo_reads_it(content: str, expected: Header) -> None:
    assert header(content) == expected


def test_a_rollback_file_makes_a_migration_reversible() -> None:
    assert header("SELECT 1;", **{"001.rollback.sql": b""}).reversible


def test_a_header_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(BadFileError, match="takes true or false"):
        header("-- transactional: no\nSELECT 1;")


PYTHON = "from yoyo import step\n__depends__ = {'a'}\n__transactional__ = False\nstep('x', 'y')\n"


def test_the_header_of_a_python_file_is_read_without_running_it() -> None:
    assert header(PYTHON + "raise SystemExit\n", "001.py") == Header(frozenset("a"), False, True)
    assert not header("from yoyo import step\nstep('x')\n", "001.py").reversible
    assert header("__depends__ = 'a'", "001.py").depends == {"a"}


@pytest.mark.parametrize(
    "declaration",
    [
        "__depends__: set = {'a'}",
        "from yoyo import step; __depends__ = ['a']",
        "__depends__ = other = ('a',)",
        "__depends__ = {\n    'a',\n}",
    ],
)
def test_a_declaration_is_any_assignment_of_the_module_s_own(declaration: str) -> None:
    assert header(declaration, "001.py").depends == {"a"}


@pytest.mark.parametrize(
    "code", ["__depends__ = {}", "__depends__: set", "__depends__ = set()", "def f(): __depends__ = {'a'}"]
)
def test_a_python_file_may_depend_on_nothing(code: str) -> None:
    assert header(code, "001.py").depends == set()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("compute()", "literal"),
        ("{['a']}", "unhashable"),
        ("7", "set, list or tuple"),
        ("[7]", "set, list or tuple"),
        ("None", "set, list or tuple"),
        ("b'a'", "set, list or tuple"),
        ("{'a': 1}", "set, list or tuple"),
    ],
)
def test_dependencies_that_are_no_ids_are_refused_with_their_line(value: str, said: str) -> None:
    with pytest.raises(BadFileError, match=said) as bad:
        header(f"\n__depends__ = {value}", "001.py")
    assert bad.value.error.line == 2


@pytest.mark.parametrize(
    ("code", "reversible"),
    [
        ("step('x', 'y')", True),
        ("step('x', rollback=undo)", True),
        ("yoyo.step('x', 'y')", True),
        ("from yoyo import step as s\ns('x', 'y')", True),
        ("steps = [step('x', 'y'), step('z', 'w')]", True),
        ("group(step('x', 'y'), step('z', 'w'))", True),
        ("for t in TABLES:\n    step(create(t), drop(t))", True),
        ("step('x', '')", True),
        ("", False),
        ("step('x')", False),
        ("step('x', None)", False),
        ("step('x', rollback=None)", False),
        ("step('x', ignore_errors='all')", False),
        ("step('x', 'y')\nstep('z')", False),
        ("yoyo.step('x')\nstep('z', 'w')", False),
        ("from yoyo import step as s\nstep('x', 'y')\ns('z')", False),
        ("steps = [step('x', 'y'), step('z')]", False),
        ("group(steps=[step('x', 'y'), step('z', None)])", False),
        ("step(*pair)", False),
        ("step('x', **more)", False),
    ],
)
def test_a_python_file_is_reversible_if_every_step_is(code: str, reversible: bool) -> None:
    assert header(code, "001.py").reversible is reversible


def test_python_that_does_not_parse_is_refused_with_its_line() -> None:
    with pytest.raises(BadFileError, match="not valid Python") as bad:
        header("\n\ndef", "001.py")
    assert bad.value.error.line == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n\xe9", "0xe9 at offset 1"),
        (b"\xef\xbb\xbfa\xe9 ", "0xe9 at offset 4"),
        ("ß".encode() + b"\xc3", "0xc3 at offset 2"),
        (b"a" * (1 << 20) + b"\xff", "0xff at offset 1048576"),
        (b"a" * ((1 << 20) - 1) + b"\xf0\x9f!", "0xf0 at offset 1048575"),
        (b"a\0b", "NUL byte at offset 1"),
    ],
)
def test_what_is_not_utf_8_text_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(BadFileError, match=said):
        Migrations([archive({"001.sql": content})]).content("/on/the/controller/001.sql")


def test_an_id_too_long_for_the_column_is_refused() -> None:
    with pytest.raises(BadFileError, match="256 characters"):
        Migrations([archive({"x" * 256 + ".sql": b""})])


def test_a_character_across_two_pieces_is_read() -> None:
    content = b"a" * ((1 << 20) - 1) + "😀".encode()
    assert Migrations([archive({"001.sql": content})]).content("/on/the/controller/001.sql") == content
