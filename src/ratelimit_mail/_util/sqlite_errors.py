"""What an error of SQLite means, and what to do about it."""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = ["BUSY", "DAMAGED", "REASONS", "primary_code", "with_next_step"]

BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

DAMAGED: Final = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}

REASONS: Final = {
    sqlite3.SQLITE_FULL: "the disk or the quota is full; free some space",
    sqlite3.SQLITE_READONLY: "it cannot be written; make the file and its directory writable",
    sqlite3.SQLITE_PERM: "permission denied; make the file and its directory writable",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the directory must exist, and be writable",
    sqlite3.SQLITE_IOERR: "reading or writing failed; the disk may be full or faulty",
}
"""What to do, by the primary error code."""


def primary_code(error: sqlite3.Error) -> int:
    """Return the primary error code; 0 if the error is not SQLite's own."""
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF


def with_next_step(error: sqlite3.Error) -> str:
    """Return the text of an error, with what to do about it if that is known."""
    code = primary_code(error)
    if code in BUSY:
        return f"{error}: another program has locked it; try again when that has ended"
    if code in DAMAGED:
        return f"{error}: restore it from a copy, or name another file"
    return f"{error}: {REASONS[code]}" if code in REASONS else str(error)
