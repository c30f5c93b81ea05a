"""Upgrade a file of an earlier version of the tables, inside one transaction."""

from __future__ import annotations

import sqlite3

from ratelimit_mail.backends.sqlite.schema import MEMBER_TABLE, VERSION
from ratelimit_mail.backends.sqlite.stored_log import CHUNK, HEADER, log_number

__all__ = ["UPGRADABLE", "upgrade"]

UPGRADABLE = frozenset({1})
"""The earlier versions of the tables that `upgrade` knows."""


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables from version 1 to this one: it must be inside a transaction."""
    for statement in MEMBER_TABLE:
        connection.execute(statement)
    _renumber_chunks(connection)
    connection.execute(f"PRAGMA user_version={VERSION}")


def _renumber_chunks(connection: sqlite3.Connection) -> None:
    """Give the chunks of each log its number of today.

    A log was four times the number of its subject, plus the unit. With more than four units some
    of these numbers belong to two logs, so the chunks that a log has are found by its header.
    """
    execute = connection.execute
    subjects = execute(
        "SELECT id, logs FROM subject WHERE id IN"
        " (SELECT log/4 FROM chunk UNION SELECT log/4-1 FROM chunk)"
    ).fetchall()
    for number, packed in subjects:
        start = 0
        while start < len(packed):
            unit, has_attempts, tail, *fields = HEADER.unpack_from(packed, start)
            sealed, first, trash = fields[3], fields[9], fields[10]
            # Negative at first: the new number of one log may be the old number of another.
            execute(
                "UPDATE chunk SET log=? WHERE log=? AND number>=? AND number<?",
                (
                    -1 - log_number(number, unit),
                    4 * number + unit,
                    min(first, trash),
                    first + sealed // CHUNK,
                ),
            )
            width = 3 if has_attempts else 2
            start += HEADER.size + 8 * (width * tail + width - 1)
    execute("DELETE FROM chunk WHERE log>=0")  # of subjects that are gone
    execute("UPDATE chunk SET log=-1-log")
