"""Upgrade the tables of a file that an earlier version has written."""

from __future__ import annotations

import sqlite3

from ratelimit_mail.backends.sqlite.schema import LOG_CHUNK_TABLE, MEMBER_TABLE, VERSION
from ratelimit_mail.backends.sqlite.stored_log import log_number, sealed_chunks

__all__ = ["upgrade"]


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring tables of version 1 to this version, in the caller's transaction.

    Version 1 had four numbers for the logs of a subject, in a table `chunk`. A process of that
    version that still has the file open finds no such table, and writes into no other log.
    """
    execute = connection.execute
    for statement in (*LOG_CHUNK_TABLE, *MEMBER_TABLE):
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
