"""Where the statements of a SQL file begin and end.

Works on bytes, because a file may be tens of megabytes, and UTF-8 never hides an ASCII byte in a longer
character. Knows quotes, dollar quotes, nested comments, parentheses and BEGIN ATOMIC bodies, and the first
words of a statement, and nothing else of the grammar: the server is the one that parses SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_TOKEN = re.compile(
    rb"""
    '[^']*'                                                 # '' inside reads as two strings: same extent
    | "[^"]*"
    | --[^\r\n]*                                            # a lone carriage return ends it too
    | /\*
    | \$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$     # $$ or $tag$, never $1
    | ;
    | ['"]                                                  # never closed: the rest of the file
    """,
    re.VERBOSE,
)
_WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*")
_WORD_TOKEN = re.compile(_TOKEN.pattern + rb"| [()] | " + _WORD.pattern, re.VERBOSE)
# A string goes on after a line end, a comment or not, and stays the escape string that it began as.
_ESCAPE_STRING = re.compile(
    rb"""
    '(?:[^'\\]++|\\.|'')*+'
    (?:(?:[ \t\f\v]|--[^\r\n]*)*+ [\r\n] (?:\s|--[^\r\n]*[\r\n])*+ '(?:[^'\\]++|\\.|'')*+')*
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_BLANK = re.compile(rb"(?:\s+|--[^\r\n]*)+")
_IDENTIFIER_BYTE = re.compile(rb"[A-Za-z0-9_$\x80-\xff]")

# The only statements that matter here, told by their first words as `_head` returns them. Most files hold
# thousands of others, so the first of these patterns stands in front.
_HEAD = re.compile(rb"CREATE|COMMIT|COPY|END|ABORT|ROLLBACK|PREPARE|BEGIN|START", re.IGNORECASE)
_HEAD_WORDS = 4
# Only these statements may hold a semicolon that does not end them.
_COMPOUND = re.compile(rb"CREATE (?:OR REPLACE )?(?:RULE|FUNCTION|PROCEDURE)(?!\S)")
_ENDS_TRANSACTION = re.compile(
    rb"(?:COMMIT|END|ABORT|PREPARE TRANSACTION|ROLLBACK(?! (?:(?:WORK|TRANSACTION) )?TO(?!\S)))(?!\S)"
)
# On its own, a statement may end a transaction that was prepared elsewhere, but neither begin nor end one.
_CONTROLS_TRANSACTION = re.compile(
    rb"(?:BEGIN|START TRANSACTION|(?!(?:COMMIT|ROLLBACK) PREPARED)" + _ENDS_TRANSACTION.pattern + rb")(?!\S)"
)
_META_COMMAND = re.compile(rb"\\\S*")


@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement: `text[start:end]`, without its semicolon or the comments before it."""

    start: int
    end: int


def statements(text: bytes) -> Iterator[Statement]:
    """Yield the statements of `text` in order; what holds only blanks and comments is none."""
    start = skip_blank(text, 0)
    while start < len(text):
        head = _head(text, start)
        end = _compound_end(text, start) if _COMPOUND.match(head) else _simple_end(text, start)
        if end > start:
            yield Statement(start, end)
        start = skip_blank(text, end + 1)


def refusal(text: bytes, *, transactional: bool) -> tuple[int, str] | None:
    """The line of the first statement that no migration may hold, and why; known without a server.

    A transactional migration may not end the transaction that it shares with its record; any other may
    neither begin nor end one.
    """
    for statement in statements(text):
        if message := _refused(text, statement, transactional):
            return line_of(text, statement.start), message
    return None


def line_of(text: bytes, offset: int) -> int:
    """The line, from 1, that holds the byte at `offset`."""
    line_feeds = text.count(b"\n", 0, offset)
    carriage_returns = text.count(b"\r", 0, offset) - text.count(b"\r\n", 0, offset + 1)
    return line_feeds + carriage_returns + 1


def locate(text: bytes, character: int) -> tuple[int, int]:
    """The line and column, from 1, of the server's 1-based position in characters."""
    before = text.decode("utf-8", "surrogateescape")[: max(character - 1, 0)]
    line = line_of(text, len(before.encode("utf-8", "surrogateescape")))
    return line, len(before) - max(before.rfind("\n"), before.rfind("\r"))


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
    depth = 0
    in_body = False
    previous = b""
    for word, start in _words(text, at):
        if word == b";" and depth <= 0 and not in_body:
            return start
        depth += (word == b"(") - (word == b")")
        if word == b"ATOMIC" and previous == b"BEGIN" and depth == 0:
            in_body = True
        elif word == b"END" and previous in (b";", b"ATOMIC"):  # any other END is a CASE's, or a name
            in_body = False
        previous = word
    return len(text)


def _refused(text: bytes, statement: Statement, transactional: bool) -> str | None:
    if meta := _META_COMMAND.match(text, statement.start, statement.end):
        command = meta[0].decode("utf-8", "replace")
        return f"{command} is a command for psql (pg_dump writes some), not SQL; remove it"
    if not (head := _head(text, statement.start)):
        return None
    if head.split(b" ", 1)[0] == b"COPY" and (direction := _client_copy(text, statement)):
        return (
            f"COPY {direction}: a migration cannot exchange data with a client;"
            " write INSERTs, as pg_dump --inserts does"
        )
    if transactional and (found := _ENDS_TRANSACTION.match(head)):
        return f"{found[0].decode()} at the top level: the transaction is the module's; remove the statement"
    if not transactional and (found := _CONTROLS_TRANSACTION.match(head)):
        return (
            f"{found[0].decode()} in a non-transactional migration:"
            " each statement is its own transaction here; remove the statement"
        )
    return None


def _client_copy(text: bytes, copy: Statement) -> str | None:
    """FROM STDIN or TO STDOUT, if the COPY has it; the server takes either word for either."""
    depth = 0
    previous = b""
    for word, start in _words(text, copy.start):
        if start >= copy.end:
            break
        depth += (word == b"(") - (word == b")")
        if depth == 0 and previous in (b"FROM", b"TO") and word in (b"STDIN", b"STDOUT"):
            return f"{previous.decode()} {word.decode()}"
        previous = word
    return None


def _head(text: bytes, at: int) -> bytes:
    """The first words from `at` on, in capitals and one space apart; empty if they cannot matter."""
    if not _HEAD.match(text, at):
        return b""
    return b" ".join(islice(_leading_words(text, at), _HEAD_WORDS))


def _leading_words(text: bytes, at: int) -> Iterator[bytes]:
    while word := _WORD.match(text, at):
        yield word[0].upper()
        at = skip_blank(text, word.end())


def _words(text: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """Yield words in capitals, parentheses, semicolons and quoted stretches, with their offsets."""
    while token := _WORD_TOKEN.search(text, at):
        if not token[0].startswith((b"--", b"/*")):
            yield token[0].upper(), token.start()
        at = _token_end(text, token)


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
