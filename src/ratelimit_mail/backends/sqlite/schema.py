"""The tables of the file, and how it is known to be ours.

A subject's row holds its logs: everything of a subject that sends little, and of others the latest
events and the root of a tree with the older ones. The other nodes of the tree are rows too, so that
a decision reads, and a change writes, a few rows however long a log is.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "APPLICATION_ID",
    "BOOKING_INDEX",
    "LOG_NODE_TABLE",
    "MEMBER_TABLE",
    "SCHEMA",
    "SUBJECT_TABLE",
    "VERSION",
]

APPLICATION_ID: Final = 0x726C6D31
"""Identifies files of this library: `PRAGMA application_id`, shown by file(1)."""

VERSION: Final = 2
"""The version of the tables: `PRAGMA user_version`."""

# The number of a subject is never used again, so that what was charged before a reset cannot be
# refunded afterwards. expires: from then on nothing of it can matter.
SUBJECT_TABLE: Final = """
    CREATE TABLE subject_counts(
        id INTEGER PRIMARY KEY,
        ledger INTEGER NOT NULL,
        name TEXT NOT NULL,
        expires INTEGER NOT NULL,
        logs BLOB NOT NULL,
        UNIQUE(ledger, name)
    )
"""

# id: of a log, eight times the number of the subject, plus the unit; then 24 bits of its own.
LOG_NODE_TABLE: Final = "CREATE TABLE log_node(id INTEGER PRIMARY KEY, entries BLOB NOT NULL)"

# The recipients of a log that counts each of them once: a digest of the address, and a stamp
# as ratelimit_mail.counting.members has it.
MEMBER_TABLE: Final = (
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

BOOKING_INDEX: Final = "CREATE INDEX booking_moment ON booking(queue, moment)"

SCHEMA: Final = (
    # floor: what stood before it was forgotten, and is not counted again by a clock that goes back.
    """
    CREATE TABLE ledger(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, floor INTEGER NOT NULL
    )
    """,
    SUBJECT_TABLE,
    LOG_NODE_TABLE,
    *MEMBER_TABLE,
    """
    CREATE TABLE booking(
        queue INTEGER NOT NULL,
        number INTEGER NOT NULL,
        moment INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY(queue, number)
    ) WITHOUT ROWID
    """,
    BOOKING_INDEX,
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
