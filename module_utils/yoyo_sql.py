"""Where the statements of a SQL file begin and end.

Works on bytes, because a file may be tens of megabytes, and UTF-8 never hides an ASCII byte in a longer
character. Knows quotes, dollar quotes, nested comments, parentheses and BEGIN ATOMIC bodies, and nothing
else of the grammar: the server is the one that parses SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
    '[^']*'                                                 # '' inside reads as two strings: same extent
    | "[^"]*"
    | --[^\n]*
    | /\*
    | \$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$     # $$ or $tag$, never $1
    | ;
    | ['"]                                                  # never closed: the rest of the file
    """,
    re.VERBOSE,
)
_WORD_TOKEN = re.compile(_TOKEN.pattern + rb"| [()] | [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*", re.VERBOSE)
_ESCAPE_STRING = re.compile(rb"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'", re.DOTALL)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_BLANK = re.compile(rb"(?:\s+|--[^\n]*)+")
_IDENTIFIER_BYTE = re.compile(rb"[A-Za-z0-9_$\x80-\xff]")

# Only these statements may hold a semicolon that does not end them.
_COMPOUND = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:RULE|FUNCTION|PROCEDURE)\b", re.IGNORECASE)

_TRANSACTION_CONTROL = re.compile(
    rb"(?:COMMIT|END|ABORT|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b)|PREPARE\s+TRANSACTION)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement: `text[start:end]`, without its semicolon or the comments before it."""

    start: int
    end: int


def statements(text: bytes) -> Iterator[Statement]:
    """Yield the statements of `text` in order; what holds only blanks and comments is none."""
    start = skip_blank(text, 0)
    while start < len(text):
        compound = _COMPOUND.match(text, start) is not None
        end = _compound_end(text, start) if compound else _simple_end(text, start)
        if end > start:
            yield Statement(start, end)
        start = skip_blank(text, end + 1)


def transaction_control(text: bytes) -> tuple[int, str] | None:
    """The line and keyword of the first top-level statement that would end the surrounding transaction."""
    for statement in statements(text):
        if found := _TRANSACTION_CONTROL.match(text, statement.start, statement.end):
            return line_of(text, statement.start), b" ".join(found[0].split()).decode().upper()
    return None


def line_of(text: bytes, offset: int) -> int:
    """The line, from 1, that holds the byte at `offset`."""
    return text.count(b"\n", 0, offset) + 1


def locate(text: bytes, character: int) -> tuple[int, int]:
    """The line and column, from 1, of the server's 1-based position in characters."""
    before = text.decode("utf-8", "replace")[: max(character - 1, 0)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def skip_blank(text: bytes, at: int) -> int:
    """The offset of the first byte from `at` on that is neither blank nor part of a comment."""
    while True:
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif text.startswith(b"/*", at):
            at = _comment_end(text, at)
        else:
            return at


def _simple_end(text: bytes, at: int) -> int:
    """The offset of the semicolon that ends the statement, or of the end of the text."""
    while token := _TOKEN.search(text, at):
        if token[0] == b";":
            return token.start()
        at = _token_end(text, token)
    return len(text)


def _compound_end(text: bytes, at: int) -> int:
    """As `_simple_end`, for a statement whose parentheses or BEGIN ATOMIC body may hold semicolons."""
    parentheses = blocks = 0
    previous = b""
    while token := _WORD_TOKEN.search(text, at):
        word = token[0].upper()
        if word == b";":
            if parentheses <= 0 and blocks == 0:
                return token.start()
        elif word == b"(":
            parentheses += 1
        elif word == b")":
            parentheses -= 1
        elif (word == b"ATOMIC" and previous == b"BEGIN") or (word == b"CASE" and blocks):
            blocks += 1
        elif word == b"END" and blocks:
            blocks -= 1
        previous = word
        at = _token_end(text, token)
    return len(text)


def _token_end(text: bytes, token: re.Match[bytes]) -> int:
    """The offset just after the quoted or commented stretch that `token` opens."""
    head = token[0]
    if head.startswith(b"'") and _is_escape_string(text, token.start()):
        closed = _ESCAPE_STRING.match(text, token.start())
        return closed.end() if closed else len(text)
    if head in (b"'", b'"'):
        return len(text)
    if head == b"/*":
        return _comment_end(text, token.start())
    if head.startswith(b"$"):
        if token.start() and _IDENTIFIER_BYTE.match(text, token.start() - 1):
            return token.end()  # a dollar sign within an identifier, as in a$b$
        closing = text.find(head, token.end())
        return closing + len(head) if closing >= 0 else len(text)
    return token.end()


def _is_escape_string(text: bytes, quote: int) -> bool:
    if quote == 0 or text[quote - 1 : quote] not in (b"e", b"E"):
        return False
    return quote == 1 or not _IDENTIFIER_BYTE.match(text, quote - 2)


def _comment_end(text: bytes, at: int) -> int:
    depth = 0
    while edge := _COMMENT_EDGE.search(text, at):
        depth += 1 if edge[0] == b"/*" else -1
        at = edge.end()
        if depth == 0:
            return at
    return len(text)
