"""Upgrade the tables of a file that an earlier version has written."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from struct import Struct
from typing import Final, TypeAlias

from ratelimit_mail.backends.sqlite.event_tree import EventTree, unpack_integers
from ratelimit_mail.backends.sqlite.schema import (
    BOOKING_INDEX,
    LOG_NODE_TABLE,
    MEMBER_TABLE,
    SUBJECT_TABLE,
    VERSION,
)
from ratelimit_mail.backends.sqlite.stored_log import StoredLog, log_number
from ratelimit_mail.counting.window import Retention

__all__ = ["upgrade"]

HEADER_1: Final = Struct("<BBIqqqIIqqqqqqq")
"""Of a packed log in version 1: unit, whether it has attempts, events of the tail, newest, held,
the last event; sealed events, head, compact_at, span, slot, ceiling, first chunk, trash, oldest."""

CHUNK_1: Final = 64
"""How many events a sealed chunk had in version 1."""

_Events: TypeAlias = "tuple[array[int], array[int], array[int] | None]"
"""Times, and the totals around them, with refused attempts or without."""


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring tables of version 1 to this version, in the caller's transaction.

    Version 1 had the older events of a log in a table `chunk`, and the number of the log of a unit
    was four times that of the subject, plus the unit. A process of that version that still has the
    file open finds no table `subject`, and changes nothing.
    """
    cursor = connection.cursor()
    execute = cursor.execute
    for statement in (SUBJECT_TABLE, LOG_NODE_TABLE, *MEMBER_TABLE, BOOKING_INDEX):
        execute(statement)
    subjects = connection.cursor()
    for number, ledger, name, packed, expires in subjects.execute(
        "SELECT id, ledger, name, logs, expires FROM subject"
    ):
        logs = b"".join(_converted(cursor, number, packed))
        row = (number, ledger, name, expires, logs)
        execute("INSERT INTO subject_counts VALUES(?,?,?,?,?)", row)
    subjects.close()
    execute("DROP TABLE chunk")
    execute("DROP TABLE subject")
    execute(f"PRAGMA user_version={VERSION}")


def _converted(cursor: sqlite3.Cursor, subject: int, packed: bytes) -> Iterator[bytes]:
    """Yield each log of a subject as this version packs it; its sealed events are stored."""
    start = 0
    while start < len(packed):
        fields = HEADER_1.unpack_from(packed, start)
        unit, has_attempts, tail, newest, held, _, sealed, head = fields[:8]
        compact_at, span, slot, ceiling, first = fields[8:13]
        width = 3 if has_attempts else 2
        end = start + HEADER_1.size + 8 * (width * tail + width - 1)
        events = _events(packed[start + HEADER_1.size : end], width)
        for chunk in reversed(range(first, first + sealed // CHUNK_1)):
            [data] = cursor.execute(
                "SELECT events FROM chunk WHERE log=? AND number=?", (4 * subject + unit, chunk)
            ).fetchone()
            events = _joined(_events(data, len(data) // 8 // CHUNK_1), events)
        tree = EventTree(cursor, log_number(subject, unit))
        log = StoredLog(tree, newest, Retention(span, slot, ceiling))
        log.times, log.sent, log.attempts = events
        log.head, log.held, log.compact_at = head, held, compact_at
        log.seal()
        yield log.pack(unit)
        start = end


def _events(data: bytes, width: int) -> _Events:
    """Return events that were packed: totals before the first, for each its time and totals."""
    numbers = unpack_integers(data)
    attempts = numbers[1::3] if width == 3 else None
    return numbers[width - 1 :: width], numbers[0::width], attempts


def _joined(chunk: _Events, later: _Events) -> _Events:
    """Return the events of a chunk and those after it."""
    attempts = later[2]
    if attempts is not None:
        attempts = (chunk[1] if chunk[2] is None else chunk[2])[:-1] + attempts
    return chunk[0] + later[0], chunk[1][:-1] + later[1], attempts
