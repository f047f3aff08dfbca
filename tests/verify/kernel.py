"""What the checks expect of the running kernel, and what they saw."""

from __future__ import annotations

READ_ONLY = "read-only: the machine's owner sets it"

Row = tuple[str, str]  # expected, seen


def shown_value(text: str) -> str:
    """The value that a kernel's file shows; of `always [madvise] never` the one in brackets."""
    return text.split("[")[-1].split("]")[0].strip()


def setting_row(wanted: str, seen: str, writable: bool) -> Row:
    """A setting's row: it fails where the value differs although it could be written."""
    return (wanted, seen) if writable or seen == wanted else (READ_ONLY, READ_ONLY)


def huge_pages_row(meminfo: str, writable: bool, in_postgresql: bool) -> Row:
    """The row of the pool of huge pages: it fails where pages lie idle although they could be given back."""
    if not writable and not in_postgresql:
        return READ_ONLY, READ_ONLY
    pages = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in meminfo.splitlines())}
    idle = pages["HugePages_Free"] - pages["HugePages_Rsvd"]
    uses = f"idle, PostgreSQL uses {'huge' if in_postgresql else 'ordinary'} pages"
    return f"{0 if writable else idle} {uses}", f"{idle} {uses}"
