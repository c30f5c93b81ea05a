"""The tables of the file, and how it is known to be ours.

A subject's row holds its logs: everything of a subject that sends little, and of others the latest
events. Older events stand in sealed chunks of equal size, which are looked up by their first moment
or by the running total before them, so that a decision reads a few rows however long a log is.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from ratelimit_mail.backends.sqlite.stored_log import log_number, sealed_chunks

__all__ = ["APPLICATION_ID", "SCHEMA", "VERSION", "upgrade"]

APPLICATION_ID: Final = 0x726C6D31
"""Identifies files of this library: `PRAGMA application_id`, shown by file(1)."""

VERSION: Final = 2
"""The version of the tables: `PRAGMA user_version`."""

# log: eight times the number of the subject, plus the unit. moment: of the first event.
# sent, attempted: the running totals before it; without refused attempts, attempted is NULL.
_LOG_CHUNK: Final = (
    """
    CREATE TABLE log_chunk(
        log INTEGER NOT NULL,
        number INTEGER NOT NULL,
        moment INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        attempted INTEGER,
        events BLOB NOT NULL,
        PRIMARY KEY(log, number)
    )
    """,
    "CREATE INDEX log_chunk_moment ON log_chunk(log, moment)",
    "CREATE INDEX log_chunk_sent ON log_chunk(log, sent, number)",
    "CREATE INDEX log_chunk_attempted ON log_chunk(log, attempted, number) WHERE attempted NOTNULL",
)

# The recipients of a log that counts each of them once: a digest of the address, and a stamp
# as ratelimit_mail.counting.members has it.
_MEMBER: Final = (
    """
    CREATE TABLE member(
        log INTEGER NOT NULL,
        digest TEXT NOT NULL,
        stamp INTEGER NOT NULL,
        PRIMARY KEY(log, digest)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX member_stamp ON member(log, stamp)",
)

SCHEMA: Final = (
    # floor: what stood before it was forgotten, and is not counted again by a clock that goes back.
    """
    CREATE TABLE ledger(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, floor INTEGER NOT NULL
    )
    """,
    # The number of a subject is never used again, so that what was charged before a reset cannot
    # be refunded afterwards. expires: from then on nothing of it can matter.
    """
    CREATE TABLE subject(
        id INTEGER PRIMARY KEY,
        ledger INTEGER NOT NULL,
        name TEXT NOT NULL,
        logs BLOB NOT NULL,
        expires INTEGER NOT NULL,
        UNIQUE(ledger, name)
    )
    """,
    "CREATE INDEX subject_expires ON subject(expires)",
    *_LOG_CHUNK,
    *_MEMBER,
    """
    CREATE TABLE booking(
        queue INTEGER NOT NULL,
        number INTEGER NOT NULL,
        moment INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY(queue, number)
    ) WITHOUT ROWID
    """,
    # An answer without a name is not used again, but callers may still hold its receipt.
    """
    CREATE TABLE answer(
        token INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        until INTEGER NOT NULL,
        moment INTEGER NOT NULL,
        refusals BLOB NOT NULL,
        record BLOB,
        refunded INTEGER NOT NULL,
        expires INTEGER NOT NULL
    )
    """,
    "CREATE INDEX answer_expires ON answer(expires)",
    """
    CREATE TABLE register(
        name TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY(name, key)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE sequence(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    # The last number of a booking; the last number of a subject that was deleted; when idle
    # subjects were last looked for, and since when they must have been idle.
    "INSERT INTO sequence VALUES('booking', 0), ('subject', 0), ('aged at', 0), ('idle before', 0)",
)


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring tables of version 1 to this version, in the caller's transaction.

    Version 1 had four numbers for the logs of a subject, in a table `chunk`. A process of that
    version that still has the file open finds no such table, and writes into no other log.
    """
    execute = connection.execute
    for statement in (*_LOG_CHUNK, *_MEMBER):
        execute(statement)
    logs = [log for (log,) in execute("SELECT DISTINCT log FROM chunk")]
    # The fifth and sixth log of a subject had the first numbers of the next one.
    for subject in {log // 4 - each for log in logs for each in (0, 1)}:
        for [packed] in execute("SELECT logs FROM subject WHERE id=?", (subject,)).fetchall():
            for unit, numbers in sealed_chunks(packed):
                execute(
                    "INSERT INTO log_chunk SELECT ?, number, moment, sent, attempted, events"
                    " FROM chunk WHERE log=? AND number>=? AND number<?",
                    (log_number(subject, unit), 4 * subject + unit, numbers.start, numbers.stop),
                )
    execute("DROP TABLE chunk")
    execute(f"PRAGMA user_version={VERSION}")
