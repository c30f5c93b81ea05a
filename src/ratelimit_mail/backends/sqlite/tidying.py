"""Forget what is not needed any more, a little at a time, so that no call takes long."""

from __future__ import annotations

from sqlite3 import Cursor
from typing import Final

from ratelimit_mail.backends.sqlite.event_tree import node_numbers
from ratelimit_mail.backends.sqlite.session import FORGOTTEN_TOGETHER
from ratelimit_mail.backends.sqlite.stored_log import logs_of_subject

__all__ = ["delete_subject", "tidy"]

AGE: Final = 3_600_000
"""For how many milliseconds more than needed a subject is remembered, at least."""

FREE_PAGES: Final = 256
"""So many unused pages of the file may be left, or a quarter of it."""


def tidy(cursor: Cursor, now: int) -> None:
    """Forget a few subjects and answers that cannot matter, and shrink the file a little."""
    execute = cursor.execute
    limit = min(now, _idle_before(cursor, now))
    rows = execute(
        "SELECT id, ledger, expires FROM subject WHERE expires<=? ORDER BY expires LIMIT 16",
        (limit,),
    ).fetchall()
    for number, ledger, expires in rows:
        nodes = execute(
            "DELETE FROM log_node WHERE id IN"
            " (SELECT id FROM log_node WHERE id BETWEEN ? AND ? LIMIT 64)",
            node_numbers(*logs_of_subject(number)),
        )
        members = execute(
            "DELETE FROM member WHERE (log, digest) IN"
            " (SELECT log, digest FROM member WHERE log BETWEEN ? AND ? LIMIT ?)",
            (*logs_of_subject(number), FORGOTTEN_TOGETHER),
        )
        if nodes.rowcount < 64 and members.rowcount < FORGOTTEN_TOGETHER:
            execute("DELETE FROM booking WHERE queue=?", (number,))
            delete_subject(cursor, number)
            execute("UPDATE ledger SET floor=max(floor,?) WHERE id=?", (expires, ledger))
    execute(
        "DELETE FROM answer WHERE token IN"
        " (SELECT token FROM answer WHERE expires<=? ORDER BY expires LIMIT 16)",
        (limit,),
    )
    [free] = execute("PRAGMA freelist_count").fetchone()
    if free > FREE_PAGES:
        [pages] = execute("PRAGMA page_count").fetchone()
        if free > pages // 4:
            execute(f"PRAGMA incremental_vacuum({FREE_PAGES // 4})").fetchall()


def _idle_before(cursor: Cursor, now: int) -> int:
    """Return a moment that has passed for at least `AGE`, whatever the clock has done.

    A clock that goes far ahead for a while makes no subject idle.
    """
    times = dict(cursor.execute("SELECT name, value FROM sequence").fetchall())
    aged_at, idle_before = times["aged at"], times["idle before"]
    if now < aged_at or now - aged_at >= AGE:
        idle_before = min(aged_at, now)
        cursor.executemany(
            "UPDATE sequence SET value=? WHERE name=?",
            [(now, "aged at"), (idle_before, "idle before")],
        )
    return int(idle_before)


def delete_subject(cursor: Cursor, number: int) -> None:
    """Delete a subject, whose number is never used again."""
    cursor.execute("DELETE FROM subject WHERE id=?", (number,))
    cursor.execute("UPDATE sequence SET value=max(value,?) WHERE name='subject'", (number,))
