"""Forget what is not needed any more, a little at a time, so that no call takes long."""

from __future__ import annotations

import random
from sqlite3 import Cursor
from typing import Final

from ratelimit_mail.backends.sqlite.event_tree import node_numbers
from ratelimit_mail.backends.sqlite.session import FORGOTTEN_TOGETHER
from ratelimit_mail.backends.sqlite.stored_log import logs_of_subject

__all__ = ["delete_subject", "tidy"]

AGE: Final = 3_600_000
"""For how many milliseconds more than needed a subject is remembered, at least."""

LOOKED_AT: Final = 64
"""How many subjects are looked at together."""

FORGOTTEN_AT_MOST: Final = 32
"""How many of these subjects, and how many answers, are forgotten together."""

NODES_TOGETHER: Final = 64
"""How many nodes of a forgotten subject are deleted together."""

FREE_PAGES: Final = 256
"""So many unused pages of the file may be left, or a quarter of it."""


def tidy(cursor: Cursor, now: int, after: int | None) -> int:
    """Forget some subjects and answers that cannot matter, and shrink the file a little.

    after: the number of the subject after which to look; None for any. Return where to go on.
    """
    execute = cursor.execute
    limit = min(now, _idle_before(cursor, now))
    answers = execute(
        "SELECT token FROM answer WHERE expires<=? ORDER BY expires LIMIT ?",
        (limit, FORGOTTEN_AT_MOST),
    ).fetchall()
    if answers:
        cursor.executemany("DELETE FROM answer WHERE token=?", answers)
    after = _forget_subjects(cursor, limit, after)
    [free] = execute("PRAGMA freelist_count").fetchone()
    if free > FREE_PAGES:
        [pages] = execute("PRAGMA page_count").fetchone()
        if free > pages // 4:
            execute(f"PRAGMA incremental_vacuum({FREE_PAGES // 4})").fetchall()
    return after


def _forget_subjects(cursor: Cursor, limit: int, after: int | None) -> int:
    """Look at the next subjects; forget those that nothing matters of from `limit` on."""
    if after is None:
        [last] = cursor.execute("SELECT max(id) FROM subject_counts").fetchone()
        after = int(random.random() * (last or 0))  # noqa: S311 - processes begin anywhere
    rows = cursor.execute(
        "SELECT id, ledger, expires FROM subject_counts WHERE id>? ORDER BY id LIMIT ?",
        (after, LOOKED_AT),
    ).fetchall()
    forgotten = 0
    for number, ledger, expires in rows:
        if expires <= limit:
            if forgotten == FORGOTTEN_AT_MOST or not _forget_subject(cursor, number):
                return int(number) - 1
            forgotten += 1
            cursor.execute("UPDATE ledger SET floor=max(floor,?) WHERE id=?", (expires, ledger))
    return int(rows[-1][0]) if len(rows) == LOOKED_AT else 0


def _forget_subject(cursor: Cursor, number: int) -> bool:
    """Delete a part of what is stored of a subject; return whether that was all."""
    nodes = cursor.execute(
        "DELETE FROM log_node WHERE id IN"
        " (SELECT id FROM log_node WHERE id BETWEEN ? AND ? LIMIT ?)",
        (*node_numbers(*logs_of_subject(number)), NODES_TOGETHER),
    )
    members = cursor.execute(
        "DELETE FROM member WHERE (log, digest) IN"
        " (SELECT log, digest FROM member WHERE log BETWEEN ? AND ? LIMIT ?)",
        (*logs_of_subject(number), FORGOTTEN_TOGETHER),
    )
    if nodes.rowcount == NODES_TOGETHER or members.rowcount == FORGOTTEN_TOGETHER:
        return False
    cursor.execute("DELETE FROM booking WHERE queue=?", (number,))
    delete_subject(cursor, number)
    return True


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
    cursor.execute("DELETE FROM subject_counts WHERE id=?", (number,))
    cursor.execute("UPDATE sequence SET value=max(value,?) WHERE name='subject'", (number,))
