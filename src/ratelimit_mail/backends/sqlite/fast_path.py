"""FastPath: messages that need no more than an event at the end of each of their logs.

As case 1 of `MemoryBackend.apply`: if everything held leaves room, whatever its times, no log is
looked at. The packed logs of a row are not taken apart, and what has left is forgotten later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from sqlite3 import Cursor
from struct import Struct
from typing import Final, NamedTuple

from ratelimit_mail.backends.base import Refusal, Verdict, verdict
from ratelimit_mail.backends.sqlite.answers import Receipt
from ratelimit_mail.backends.sqlite.event_tree import LEAF_SIZE, unpack_integers
from ratelimit_mail.backends.sqlite.session import (
    SELECT_NEW,
    SELECT_SUBJECT,
    Event,
    LedgerNumbers,
    Row,
    Rows,
)
from ratelimit_mail.backends.sqlite.stored_log import CHANGING, HEADER, StoredLog, size_of_log
from ratelimit_mail.counting.charge import Charge, Count, Ledger
from ratelimit_mail.counting.event_log import FIRST_COMPACTION, LONG_AGO

__all__ = ["FastPath"]

TOTAL: Final = Struct("<q")
EVENT: Final = Struct("<qq")
FIRST_LOG: Final = Struct("<BBIqqqIIIIqqqqqqqqq")
"""A header, and the first event with the totals before and after it."""
FIRST_FIELDS: Final = Struct("<BBIqqqIIIIqqqq")
"""The fields of a header that decide whether an event may be added without unpacking."""

MOST_REFUSALS: Final = 256
"""So many refusals are remembered, each with the logs of its subject."""


class _RememberedRefusal(NamedTuple):
    """A refusal, which stays the same until the logs have changed, or there is room.

    packed: the logs. since, at: when it was made, and when there is room.
    """

    packed: bytes
    ledger: Ledger
    costs: Sequence[int]
    since: int
    at: int
    refusals: Sequence[Refusal]

    def holds(self, packed: bytes, ledger: Ledger, costs: Sequence[int], now: int) -> bool:
        """Return whether these costs are refused for the same reasons."""
        return (
            self.since <= now < self.at
            and self.ledger is ledger
            and self.costs == costs
            and self.packed == packed
        )

    def again(self, now: int) -> Verdict:
        """Return the same verdict at a later moment."""
        return verdict(now, self.at, None, [each for each in self.refusals if each[2] > now])


class _Outcome:
    """What comes of a message.

    events: what each log is charged. refusals: the windows without room for it.
    too_long: the numbers of subjects with a log that is to be shortened.
    """

    __slots__ = ("events", "refusals", "too_long")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refusals: list[Refusal] = []
        self.too_long: set[int] = set()


class FastPath:
    """Decides on the usual message, from the rows of its subjects.

    ledgers: the numbers of ledgers that are known to be in the file.
    new_rows: how many subjects the last message has added.
    """

    def __init__(self, ledgers: LedgerNumbers) -> None:
        self._ledgers = ledgers
        self._refusals: dict[int, _RememberedRefusal] = {}
        """The latest refusals of messages with one charge, by the number of the subject."""
        self.new_rows = 0

    def forget(self) -> None:
        """Note that the file may be another."""
        self._refusals.clear()

    def take(
        self, cursor: Cursor, charges: Sequence[Charge], now: int, rows: Rows
    ) -> Verdict | None:
        """Charge what needs no more than an event at the end of each log, or refuse it.

        Returns None if more than that is needed. A refusal writes nothing.

        rows: gets the rows that were read.
        """
        ledgers = self._ledgers
        execute = cursor.execute
        updates: list[tuple[Ledger, int, bytes]] = []
        inserts: list[tuple[int, int, str, int, bytes]] = []
        outcome = _Outcome()
        refusals = outcome.refusals
        for ledger, subject, costs in charges:
            ledger_number = ledgers.get(ledger.name)
            if ledger_number is None:
                return None
            key = (ledger_number, subject)
            row = execute(SELECT_SUBJECT, key).fetchone()
            if row is None:
                if any(insert[1:3] == key for insert in inserts):
                    return None
                floor, number = execute(SELECT_NEW, (ledger_number,)).fetchone()
                number += len(inserts)
                if floor > now:
                    return None
                logs = _first_events(ledger.counts, costs, now, number, outcome.events)
                if not logs:
                    return None
                inserts.append((number, *key, now + 2 * ledger.span, logs))
                continue
            rows[key] = row
            number, packed, expires = row
            if len(charges) == 1 and number in self._refusals:
                refusal = self._refusals[number]
                if refusal.holds(packed, ledger, costs, now):
                    return refusal.again(now)
            if now + ledger.span > expires:
                return None
            logs = _with_event(cursor, row, ledger, costs, now, outcome)
            if logs is None:
                return None
            updates.append((ledger, number, logs))
        if refusals:
            for ledger, _, _ in charges:
                if ledger.counts_denied:
                    return None
            at = max([room_at for _, _, room_at in refusals])
            if len(charges) == 1:
                if len(self._refusals) >= MOST_REFUSALS:
                    self._refusals.clear()
                self._refusals[number] = _RememberedRefusal(
                    packed, ledger, costs, now, at, refusals
                )
            return verdict(now, at, None, refusals)
        for ledger, number, logs in updates:
            if number in outcome.too_long:
                logs = _shortened(cursor, number, logs, ledger, now)
            execute("UPDATE subject_counts SET logs=? WHERE id=?", (logs, number))
        for insert in inserts:
            execute("INSERT INTO subject_counts VALUES(?,?,?,?,?)", insert)
        self.new_rows = len(inserts)
        return verdict(now, now, Receipt(charges, outcome.events))


def _first_events(
    counts: Iterable[Count], costs: Sequence[int], now: int, number: int, events: list[Event]
) -> bytes | None:
    """Return packed logs with their first event, or None if it is not simple.

    events: gets what each log was charged.
    """
    pieces: list[bytes] = []
    for count in counts:
        unit = count.unit
        if cost := costs[unit]:
            if cost > count.smallest or count.is_unique:  # it is spread, or never fits
                return None
            needed = count.retention
            pieces.append(
                FIRST_LOG.pack(
                    *(unit, 0, 1, now, cost, now, 0, 0, 0, 0, FIRST_COMPACTION),
                    *(needed.span, needed.slot, needed.ceiling, LONG_AGO, LONG_AGO),
                    *(0, now, cost),
                )
            )
            events.append((number, unit, now, cost, ()))
    return b"".join(pieces)


def _with_event(
    cursor: Cursor, row: Row, ledger: Ledger, costs: Sequence[int], now: int, outcome: _Outcome
) -> bytes | None:
    """Return the packed logs of a row with an event at their ends, or None if it is not simple.

    Simple is an event after all others, in logs without refused attempts. Not of unique recipients,
    of which some may be counted already.

    outcome: gets what came of it. With refusals, what is returned is of no use.
    """
    number, packed, _ = row
    refusals = outcome.refusals
    needed = {count.unit: count for count in ledger.counts if costs[count.unit]}
    before = len(refusals)
    pieces: list[bytes] = []
    start, size = 0, len(packed)
    while start < size:
        fields = FIRST_FIELDS.unpack_from(packed, start)
        unit, has_attempts, tail, newest, held, last, sealed, _, header_rest = fields[:9]
        compact_at, span, slot, ceiling = fields[10:]
        end = start + size_of_log(tail, has_attempts, header_rest)
        count = needed.pop(unit, None)
        if count is None:
            pieces.append(packed[start:end])
            start = end
            continue
        cost = costs[unit]
        held += cost
        retention = count.retention
        if (
            has_attempts
            or not last <= now >= newest
            or not tail
            or span < retention.span
            or retention.slot % slot
            or ceiling < retention.ceiling
            or cost > count.smallest  # it is spread
            or count.is_unique
        ):
            return None
        [total] = TOTAL.unpack_from(packed, end - 8)
        if held > count.smallest:
            latest = unpack_integers(packed[start + HEADER.size + header_rest : end])
            log = None
            for i, window in enumerate(count.windows):
                if held > window.limit:
                    cutoff = window.cutoff(now)
                    if not sealed or cutoff >= latest[1]:
                        used = total - latest[2 * bisect_right(latest[1::2], cutoff)]
                        if used + cost <= window.limit:
                            continue
                    if log is None:
                        log = StoredLog.unpack(cursor, number, packed, start, retention)
                    room_at = log.earliest(now, cost, window)
                    if room_at > now:
                        refusals.append((count, i, room_at))
        rest = start + CHANGING.size
        if last == now:
            pieces += (
                CHANGING.pack(unit, 0, tail, now, held, now),
                packed[rest : end - 8],
                TOTAL.pack(total + cost),
            )
        else:
            pieces += (
                CHANGING.pack(unit, 0, tail + 1, now, held, now),
                packed[rest:end],
                EVENT.pack(now, total + cost),
            )
        if tail + 1 >= 2 * LEAF_SIZE or sealed + tail + 1 >= compact_at:
            outcome.too_long.add(number)
        outcome.events.append((number, unit, now, cost, ()))
        start = end
    if needed:
        first = _first_events(needed.values(), costs, now, number, outcome.events)
        if first is None:
            return None
        pieces.append(first)
    if len(refusals) > 1:
        units = [count.unit for count in ledger.counts]
        refusals[before:] = sorted(refusals[before:], key=lambda each: units.index(each[0].unit))
    return b"".join(pieces)


def _shortened(cursor: Cursor, number: int, packed: bytes, ledger: Ledger, now: int) -> bytes:
    """Return packed logs of which none is too long: older events are sealed, or compacted."""
    pieces: list[bytes] = []
    start, size = 0, len(packed)
    while start < size:
        fields = FIRST_FIELDS.unpack_from(packed, start)
        unit, has_attempts, tail, _, _, _, sealed, _, header_rest, _, compact_at, *_ = fields
        end = start + size_of_log(tail, has_attempts, header_rest)
        piece = packed[start:end]
        if tail >= 2 * LEAF_SIZE or sealed + tail >= compact_at:
            for count in ledger.counts:
                if count.unit == unit:
                    log = StoredLog.unpack(cursor, number, packed, start, count.retention)
                    log.forget(now, log.retention)
                    log.seal()
                    piece = log.pack(unit)
        pieces.append(piece)
        start = end
    return b"".join(pieces)
