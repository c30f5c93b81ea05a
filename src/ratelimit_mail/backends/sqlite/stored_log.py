"""StoredLog: an event log of which only the latest events are in memory.

The decisions are those of `EventLog`. Its latest events, the tail, are arrays; the events before
them stand in sealed chunks of `CHUNK` events each, which are read when they are needed. A change of
a sealed event first takes the chunks from there on back into the tail.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from sqlite3 import Cursor
from struct import Struct
from typing import Any, Final, NamedTuple

from ratelimit_mail.counting.charge import UNITS
from ratelimit_mail.counting.event_log import LONG_AGO, EventLog
from ratelimit_mail.counting.window import Retention

__all__ = [
    "CHANGING",
    "CHUNK",
    "HEADER",
    "StoredLog",
    "log_number",
    "logs_of_subject",
    "pack_events",
    "sealed_chunks",
    "unpack_integers",
]

CHUNK: Final = 64
"""How many events a sealed chunk has."""

MOST_BOOKED: Final = 4096
"""A tail longer than this is sealed even if its events are bookings, before which others go."""

HEADER: Final = Struct("<BBIqqqIIqqqqqqq")
"""Of a packed log: unit, whether it has attempts, events of the tail, newest, held, the last event;
sealed events, head, compact_at, span, slot, ceiling, first, trash and oldest."""

CHANGING: Final = Struct("<BBIqqq")
"""The fields of a header that change with each event."""

TIMES, SENT, ATTEMPTS = range(3)


def log_number(subject: int, unit: int) -> int:
    """Return the number of the log of a subject and a unit in the file."""
    return len(UNITS) * subject + unit


def logs_of_subject(subject: int) -> tuple[int, int]:
    """Return the first and the last number of the logs of a subject."""
    return log_number(subject, 0), log_number(subject, len(UNITS) - 1)


def sealed_chunks(packed: bytes) -> list[tuple[int, range]]:
    """Return the unit of each packed log of a subject, and the numbers of its chunks."""
    chunks = []
    start = 0
    while start < len(packed):
        unit, has_attempts, tail, *_, first, trash, _ = fields = HEADER.unpack_from(packed, start)
        chunks.append((unit, range(trash, first + fields[6] // CHUNK)))
        width = 3 if has_attempts else 2
        start += HEADER.size + 8 * (width * tail + width - 1)
    return chunks


def pack_events(times: array[int], sent: array[int], attempts: array[int] | None) -> bytes:
    """Pack events: the totals before the first, then for each its time and the totals after it."""
    width = 2 if attempts is None else 3
    packed = array("q", bytes(8 * (width * len(sent) - 1)))
    packed[0::width] = sent
    packed[width - 1 :: width] = times
    if attempts is not None:
        packed[1::3] = attempts
    return integers_to_bytes(packed)


def integers_to_bytes(integers: array[int]) -> bytes:
    """Return integers as bytes that are the same on every machine."""
    if sys.byteorder == "big":
        integers = integers[:]
        integers.byteswap()
    return integers.tobytes()


def unpack_integers(data: bytes) -> array[int]:
    """Return the integers that `integers_to_bytes` has packed."""
    integers = array("q")
    integers.frombytes(data)
    if sys.byteorder == "big":
        integers.byteswap()
    return integers


class _Chunk(NamedTuple):
    """The events of a chunk; the totals begin with those before its first event."""

    times: array[int]
    sent: array[int]
    attempts: array[int]


class _Column:
    """The times or the totals of a log: those of sealed events, then those of the tail.

    The total at index `i` is that before event `i`.
    """

    __slots__ = ("field", "log", "tail")

    def __init__(self, log: StoredLog, field: int, tail: array[int]) -> None:
        self.log = log
        self.field = field
        self.tail = tail

    def __len__(self) -> int:
        return self.log.sealed + len(self.tail)

    def __getitem__(self, index: Any) -> Any:
        sealed = self.log.sealed
        if isinstance(index, slice):
            return self.tail[self._in_tail(index)]
        if index < 0:
            index += len(self)
        if index >= sealed:
            return self.tail[index - sealed]
        return self.log.chunk(index // CHUNK)[self.field][index % CHUNK]

    def __setitem__(self, index: slice, values: array[int]) -> None:
        self.tail[self._in_tail(index)] = values

    def _in_tail(self, index: slice) -> slice:
        sealed, stop = self.log.sealed, index.stop
        return slice(index.start - sealed, stop if stop is None or stop < 0 else stop - sealed)

    def insert(self, index: int, value: int) -> None:
        """Insert a value into the tail."""
        self.tail.insert(index - self.log.sealed, value)

    def search(self, bisect: Callable[..., int], value: int, low: int, high: int | None) -> int:
        """Return what `bisect` of the values from `low` up to `high` returns."""
        log, tail, sealed = self.log, self.tail, self.log.sealed
        high = sealed + len(tail) if high is None else high
        if low >= high:
            return low
        is_in_tail = tail and (tail[0] <= value if self.field == TIMES else tail[0] < value)
        if low >= sealed or is_in_tail:
            end = high - sealed
            return (
                sealed + bisect(tail, value, max(0, low - sealed), max(0, end)) if end > 0 else high
            )
        number = log.find_chunk(self.field, value)
        if number is None:
            return low
        index = number * CHUNK + bisect(log.chunk(number)[self.field], value)
        return min(max(index, low), high)


_FIND: Final = (
    "SELECT number FROM log_chunk WHERE log=? AND moment<=? ORDER BY moment DESC LIMIT 1",
    "SELECT number FROM log_chunk WHERE log=? AND sent<? ORDER BY sent DESC, number DESC LIMIT 1",
    "SELECT number FROM log_chunk WHERE log=? AND attempted<?"
    " ORDER BY attempted DESC, number DESC LIMIT 1",
)


def _bisect_left(column: Any, value: int, low: int = 0, high: int | None = None) -> int:
    if type(column) is array:
        return bisect_left(column, value, low, len(column) if high is None else high)
    index: int = column.search(bisect_left, value, low, high)
    return index


def _bisect_right(column: Any, value: int, low: int = 0, high: int | None = None) -> int:
    if type(column) is array:
        return bisect_right(column, value, low, len(column) if high is None else high)
    index: int = column.search(bisect_right, value, low, high)
    return index


class StoredLog(EventLog):
    """An event log in the file; see `EventLog`. Its columns are arrays if nothing is sealed.

    retention: what it must remember.
    number: of the log in the file. sealed: how many events stand in chunks.
    first: the number of the first chunk. trash: that of the first chunk that was not deleted yet.
    oldest: the time of the event at `head`, if it is sealed.
    """

    __slots__ = (
        "_chunks",
        "_cursor",
        "first",
        "number",
        "oldest",
        "retention",
        "sealed",
        "trash",
        "unsealed_end",
    )

    _bisect_left: Callable[..., int] = staticmethod(_bisect_left)
    _bisect_right: Callable[..., int] = staticmethod(_bisect_right)

    def __init__(self, cursor: Cursor, number: int, floor: int, retention: Retention) -> None:
        super().__init__(floor)
        self._cursor = cursor
        self.number = number
        self.retention = retention
        self.sealed = self.first = self.trash = self.unsealed_end = 0
        self.oldest = LONG_AGO
        self._chunks: dict[int, _Chunk] = {}

    @classmethod
    def unpack(
        cls, cursor: Cursor, subject: int, packed: bytes, start: int, retention: Retention
    ) -> StoredLog:
        """Return the log that begins at `start`; it serves `retention` too."""
        log = cls.__new__(cls)
        (
            unit,
            has_attempts,
            tail,
            log.newest,
            log.held,
            _,
            log.sealed,
            log.head,
            log.compact_at,
            span,
            slot,
            ceiling,
            log.first,
            log.trash,
            log.oldest,
        ) = HEADER.unpack_from(packed, start)
        log.undo = None  # the file is rolled back
        log.full = None
        log.compacted = LONG_AGO
        log._cursor = cursor
        log.number = log_number(subject, unit)
        log.unsealed_end = 0
        log._chunks = {}
        if (span, slot, ceiling) != (retention.span, retention.slot, retention.ceiling):
            retention = retention.together_with(Retention(span, slot, ceiling))
        log.retention = retention
        width = 3 if has_attempts else 2
        start += HEADER.size
        events = unpack_integers(packed[start : start + 8 * (width * tail + width - 1)])
        log._set_columns(
            events[width - 1 :: width], events[0::width], events[1::3] if has_attempts else None
        )
        return log

    def pack(self, unit: int) -> bytes:
        """Return the log as bytes, which end with the last events."""
        times, sent, attempts = self._tails()
        last = times[-1] if times else self.times[-1] if self.sealed else LONG_AGO
        return HEADER.pack(
            unit,
            attempts is not None,
            len(times),
            self.newest,
            self.held,
            last,
            self.sealed,
            self.head,
            self.compact_at,
            self.retention.span,
            self.retention.slot,
            self.retention.ceiling,
            self.first,
            self.trash,
            self.oldest,
        ) + pack_events(times, sent, attempts)

    def _set_columns(
        self, times: array[int], sent: array[int], attempts: array[int] | None
    ) -> None:
        """Set the tail."""
        if not self.sealed:
            self.times, self.sent, self.attempts = times, sent, attempts
            return
        columns: Any = [_Column(self, TIMES, times), _Column(self, SENT, sent), None]
        if attempts is not None:
            columns[ATTEMPTS] = _Column(self, ATTEMPTS, attempts)
        self.times, self.sent, self.attempts = columns

    def _tails(self) -> tuple[array[int], array[int], array[int] | None]:
        columns: list[Any] = [self.times, self.sent, self.attempts]
        times, sent, attempts = [getattr(column, "tail", column) for column in columns]
        return times, sent, attempts

    def chunk(self, index: int) -> _Chunk:
        """Return the chunk at `index`."""
        number = self.first + index
        chunk = self._chunks.get(number)
        if chunk is None:
            [data] = self._cursor.execute(
                "SELECT events FROM log_chunk WHERE log=? AND number=?", (self.number, number)
            ).fetchone()
            events = unpack_integers(data)
            width = (len(events) + 1) // (CHUNK + 1)
            sent = events[0::width]
            attempts = events[1::3] if width == 3 else sent
            chunk = self._chunks[number] = _Chunk(events[width - 1 :: width], sent, attempts)
        return chunk

    def find_chunk(self, field: int, value: int) -> int | None:
        """Return the index of the last chunk that begins before `value`; None if none does.

        At `value` or before it for times.
        """
        row = self._cursor.execute(_FIND[field], (self.number, value)).fetchone()
        if row is None or row[0] < self.first:
            return None
        index: int = min(row[0] - self.first, self.sealed // CHUNK - 1)
        return index

    def seal(self) -> None:
        """Store the older events of a long tail as chunks, and delete chunks that are not needed.

        Only a few chunks are deleted at a time.
        """
        times, sent, attempts = self._tails()
        execute = self._cursor.execute
        if not self.sealed:
            self._cut()
        last = self.first + self.sealed // CHUNK
        if self.unsealed_end > last:
            execute(
                "DELETE FROM log_chunk WHERE log=? AND number>=? AND number<?",
                (self.number, last, self.unsealed_end),
            )
            self.unsealed_end = 0
        start = 0
        while (length := len(times) - start) >= 2 * CHUNK:
            end = start + CHUNK
            if times[end - 1] > self.newest and length <= MOST_BOOKED:
                break
            events = pack_events(
                times[start:end],
                sent[start : end + 1],
                None if attempts is None else attempts[start : end + 1],
            )
            execute(
                "INSERT INTO log_chunk VALUES(?,?,?,?,?,?)",
                (
                    self.number,
                    last,
                    times[start],
                    sent[start],
                    None if attempts is None else attempts[start],
                    events,
                ),
            )
            last += 1
            start = end
        if start:
            if not self.sealed:
                self.oldest = times[0]
            self.sealed += start
            self._set_columns(
                times[start:], sent[start:], None if attempts is None else attempts[start:]
            )
        if self.trash < self.first:
            end = min(self.first, self.trash + 8)
            execute(
                "DELETE FROM log_chunk WHERE log=? AND number>=? AND number<?",
                (self.number, self.trash, end),
            )
            self.trash = end

    def _unseal(self, event: int) -> None:
        """Take the chunks from that of `event` on back into the tail."""
        if event >= self.sealed:
            return
        times, sent, attempts = self._tails()
        index = max(event, 0) // CHUNK
        chunks = [self.chunk(i) for i in range(index, self.sealed // CHUNK)]
        self.unsealed_end = max(self.unsealed_end, self.first + self.sealed // CHUNK)
        for chunk in reversed(chunks):
            times = chunk.times + times
            sent = chunk.sent[:-1] + sent
            if attempts is not None:
                attempts = chunk.attempts[:-1] + attempts
        self.sealed = index * CHUNK
        self._set_columns(times, sent, attempts)

    def without(self, events: Iterable[tuple[int, int]], retention: Retention) -> EventLog:
        """See `EventLog.without`; the copy is never stored."""
        copy = StoredLog(self._cursor, self.number, self.newest, self.retention)
        copy.head, copy.held, copy.compact_at = self.head, self.held, self.compact_at
        copy.full = None if self.full is None else self.full.copy()
        copy.first, copy.sealed, copy.oldest = self.first, self.sealed, self.oldest
        copy._chunks = self._chunks
        times, sent, attempts = self._tails()
        copy._set_columns(times[:], sent[:], None if attempts is None else attempts[:])
        copy.refund(events, retention)
        return copy

    def refuse(self, now: int, cost: int, retention: Retention) -> None:
        """See `EventLog.refuse`."""
        if self.attempts is None and self.sealed:
            times, sent, _ = self._tails()
            self._set_columns(times, sent, sent[:])
            self._cursor.execute(
                "UPDATE log_chunk SET attempted=sent WHERE log=? AND attempted IS NULL",
                (self.number,),
            )
        super().refuse(now, cost, retention)

    def refund(self, events: Iterable[tuple[int, int]], retention: Retention) -> None:
        """See `EventLog.refund`."""
        events = list(events)
        if self.sealed:
            moments = [at for at, _ in events if at > self.newest - retention.span]
            if moments:
                self._unseal(_bisect_left(self.times, min(moments), self.head))
        super().refund(events, retention)

    def _is_near_head(self, place: int) -> bool:
        return not self.sealed and super()._is_near_head(place)

    def _enter(self, i: int, at: int, sent: int, attempts: int, *, near_head: bool) -> None:
        if self.sealed and self.times[-1] >= at:
            self._unseal(i - 1 if i > self.head and self.times[i - 1] == at else i)
        super()._enter(i, at, sent, attempts, near_head=near_head)

    def _trim(self, present: int, retention: Retention) -> None:
        if self.sealed and self.head < self.sealed and self.oldest > present - retention.span:
            return
        super()._trim(present, retention)
        if self.head >= CHUNK and self.sealed:
            self._cut()
        if self.head < self.sealed:
            self.oldest = self.times[self.head]

    def _cut(self) -> None:
        if not self.sealed:
            super()._cut()
            return
        gone = min(self.head, self.sealed) // CHUNK
        times, sent, attempts = self._tails()
        self.first += gone
        self.sealed -= gone * CHUNK
        self.head -= gone * CHUNK
        self._set_columns(times, sent, attempts)
        if not self.sealed:
            super()._cut()

    def _compact(self, present: int, retention: Retention) -> None:
        self._unseal(0)
        super()._compact(present, retention)
        while not self.compact_at:
            super()._compact(present, retention)
