"""StoredLog: an event log of which only the latest events are in memory.

The decisions are those of `EventLog`. Its latest events, the tail, are arrays; the events before
them are sealed in an `EventTree`, which is read where it is needed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from sqlite3 import Cursor
from struct import Struct
from typing import Any, Final

from ratelimit_mail.backends.sqlite.event_tree import (
    EMPTY_ROOT,
    LEAF_SIZE,
    EventTree,
    Node,
    from_zero,
    integers_to_bytes,
    unpack_integers,
)
from ratelimit_mail.counting.charge import UNITS
from ratelimit_mail.counting.event_log import LONG_AGO, EventLog, FullTimes, Run
from ratelimit_mail.counting.window import Retention, Window

__all__ = [
    "CHANGING",
    "HEADER",
    "StoredLog",
    "log_number",
    "logs_of_subject",
    "size_of_log",
]

HEADER: Final = Struct("<BBIqqqIIIIqqqqqq")
"""Of a packed log: unit, whether it has attempts, events of the tail, newest, held, the last event;
sealed events, head, the size of the rest of the header, next_node, compact_at, span, slot, ceiling,
compacted and oldest. Then come the rest of the header, and the tail."""

CHANGING: Final = Struct("<BBIqqq")
"""The fields of a header that change with each event."""

REST: Final = Struct("<HH")
"""The rest of a header, if it has one: how many times are known to be full, the size of the root,
and then both."""

FULL: Final = Struct("<qqBqqq")
"""When a window is known to be full: its length, resolution and denied; room, since, until."""

TIMES, SENT, ATTEMPTS = range(3)

DROPPED_TOGETHER: Final = 8
"""How many leaves one change drops that have left every window, at most."""


def log_number(subject: int, unit: int) -> int:
    """Return the number of the log of a subject and a unit in the file."""
    return len(UNITS) * subject + unit


def logs_of_subject(subject: int) -> tuple[int, int]:
    """Return the first and the last number of the logs of a subject."""
    return log_number(subject, 0), log_number(subject, len(UNITS) - 1)


def size_of_log(tail: int, has_attempts: int, rest: int) -> int:
    """Return the size of a packed log by fields of its header."""
    return HEADER.size + rest + 8 * (3 * tail + 2 if has_attempts else 2 * tail + 1)


def _pack_tail(times: array[int], sent: array[int], attempts: array[int] | None) -> bytes:
    """Pack events: the totals before the first, then for each its time and the totals after it."""
    width = 2 if attempts is None else 3
    packed = array("q", bytes(8 * (width * len(sent) - 1)))
    packed[0::width] = sent
    packed[width - 1 :: width] = times
    if attempts is not None:
        packed[1::3] = attempts
    return integers_to_bytes(packed)


class _Column:
    """The times or the totals of a log: those of sealed events, then those of the tail.

    The total at index `i` is that before event `i`. Those of the tail are stored as they are; what
    is sealed ends with the first of these.
    """

    __slots__ = ("field", "log", "tail")

    def __init__(self, log: StoredLog, field: int, tail: array[int]) -> None:
        self.log = log
        self.field = field
        self.tail = tail

    def __len__(self) -> int:
        return self.log.sealed + len(self.tail)

    def __getitem__(self, index: int) -> int:
        sealed, tree = self.log.sealed, self.log.tree
        if index < 0:
            index += len(self)
        if index >= sealed:
            return self.tail[index - sealed]
        if self.field == TIMES:
            return tree.time(index)
        return self._before_sealed(tree) + tree.total_before(index, attempts=self.field == ATTEMPTS)

    def _before_sealed(self, tree: EventTree) -> int:
        totals = tree.root.sent if self.field == SENT else tree.root.attempts
        return self.tail[0] - totals[-1]

    def search(self, bisect: Callable[..., int], value: int, low: int, high: int | None) -> int:
        """Return what `bisect` of the values from `low` up to `high` returns."""
        tree, tail, sealed = self.log.tree, self.tail, self.log.sealed
        high = sealed + len(tail) if high is None else high
        if low >= high:
            return low
        is_in_tail = tail and (tail[0] <= value if self.field == TIMES else tail[0] < value)
        if low >= sealed or is_in_tail:
            end = high - sealed
            return (
                sealed + bisect(tail, value, max(0, low - sealed), max(0, end)) if end > 0 else high
            )
        if self.field == TIMES:
            index = tree.find_time(bisect, value)
        else:
            total = value - self._before_sealed(tree)
            index = tree.find_total(total, attempts=self.field == ATTEMPTS)
        return min(max(index, low), high)


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

    retention: what it must remember. tree: the sealed events. sealed: how many these are.
    oldest: the time of the event at `head`, if it is sealed.
    """

    __slots__ = ("oldest", "retention", "sealed", "tree")

    _bisect_near: Callable[..., int] = staticmethod(_bisect_left)
    _bisect_left: Callable[..., int] = staticmethod(_bisect_left)
    _bisect_right: Callable[..., int] = staticmethod(_bisect_right)

    def __init__(self, tree: EventTree, floor: int, retention: Retention) -> None:
        super().__init__(floor)
        self.tree = tree
        self.retention = retention
        self.sealed = 0
        self.oldest = LONG_AGO

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
            rest,
            next_node,
            log.compact_at,
            span,
            slot,
            ceiling,
            log.compacted,
            log.oldest,
        ) = HEADER.unpack_from(packed, start)
        log.undo = None  # the file is rolled back
        log.full = None
        if (span, slot, ceiling) != (retention.span, retention.slot, retention.ceiling):
            retention = retention.together_with(Retention(span, slot, ceiling))
        log.retention = retention
        end = start + size_of_log(tail, has_attempts, rest)
        start += HEADER.size
        root = EMPTY_ROOT
        if rest:
            times_full, root_size = REST.unpack_from(packed, start)
            if times_full:
                log.full = _unpack_full(packed, start + REST.size, times_full)
            start += rest
            if root_size:
                root = Node.unpack(packed[start - root_size : start])
        log.tree = EventTree(cursor, log_number(subject, unit), root, next_node)
        width = 3 if has_attempts else 2
        events = unpack_integers(packed[start:end])
        log._set_columns(
            events[width - 1 :: width], events[0::width], events[1::3] if has_attempts else None
        )
        return log

    def pack(self, unit: int) -> bytes:
        """Return the log as bytes, which end with the last events."""
        times, sent, attempts = self._tails()
        last = times[-1] if times else self.times[-1] if self.sealed else LONG_AGO
        root = self.tree.root.pack() if self.sealed else b""
        full = _pack_full(self.full, self.newest) if self.full else b""
        rest = b""
        if root or full:
            rest = REST.pack(len(full) // FULL.size, len(root)) + full + root
        return (
            HEADER.pack(
                unit,
                attempts is not None,
                len(times),
                self.newest,
                self.held,
                last,
                self.sealed,
                self.head,
                len(rest),
                self.tree.next_number,
                self.compact_at,
                self.retention.span,
                self.retention.slot,
                self.retention.ceiling,
                self.compacted,
                self.oldest,
            )
            + rest
            + _pack_tail(times, sent, attempts)
        )

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

    def seal(self) -> None:
        """Store the older events of a long tail, and drop some that have left every window."""
        if not self.sealed:
            if len(self.times) < 2 * LEAF_SIZE:
                return
            self._cut()
        times, sent, attempts = self._tails()
        while len(times) >= 2 * LEAF_SIZE:
            if not self.sealed:
                self.oldest = times[0]
            self.tree.append(
                _leaf(
                    times[:LEAF_SIZE],
                    sent[: LEAF_SIZE + 1],
                    None if attempts is None else attempts[: LEAF_SIZE + 1],
                )
            )
            self.sealed += LEAF_SIZE
            times, sent = times[LEAF_SIZE:], sent[LEAF_SIZE:]
            attempts = None if attempts is None else attempts[LEAF_SIZE:]
        for _ in range(DROPPED_TOGETHER):
            dropped = self.tree.drop_first(self.head)
            if not dropped:
                break
            self.sealed -= dropped
            self.head -= dropped
        self._set_columns(times, sent, attempts)
        self.tree.store()

    def without(self, events: Iterable[tuple[int, int]], retention: Retention) -> EventLog:
        """See `EventLog.without`; the copy is never stored."""
        copy = StoredLog(self.tree.copy(), self.newest, self.retention)
        copy.head, copy.held, copy.compact_at = self.head, self.held, self.compact_at
        copy.full = None if self.full is None else self.full.copy()
        copy.sealed, copy.oldest = self.sealed, self.oldest
        times, sent, attempts = self._tails()
        copy._set_columns(times[:], sent[:], None if attempts is None else attempts[:])
        copy.refund(events, retention)
        return copy

    def refuse(self, now: int, cost: int, retention: Retention) -> None:
        """See `EventLog.refuse`."""
        if self.attempts is None and self.sealed:
            times, sent, _ = self._tails()
            self._set_columns(times, sent, sent[:])  # in sealed events too, nothing was refused
        super().refuse(now, cost, retention)

    @staticmethod
    def _full_key(window: Window, room: int) -> tuple[Window, int]:
        if type(window) is not Window:  # a period of a calendar is not stored
            return window, room
        # Without its limit, which is not stored: only the room matters.
        return Window(0, window.length, window.resolution, denied=window.denied), room

    def _is_near_head(self, place: int) -> bool:
        return not self.sealed and super()._is_near_head(place)

    def _enter(self, i: int, at: int, sent: int, attempts: int, *, near_head: bool) -> None:
        if not self.sealed:
            super()._enter(i, at, sent, attempts, near_head=near_head)
            return
        is_new = i == self.head or self.times[i - 1] != at
        place = i if is_new else i - 1
        if place >= self.sealed:
            self._enter_in_tail(place - self.sealed, at, sent, attempts, is_new=is_new)
        elif is_new:
            self.tree.insert(place, at, sent, attempts)
            self._tree_has_changed(place)
        else:
            self.tree.add(place, sent, attempts)

    def _enter_in_tail(self, i: int, at: int, sent: int, attempts: int, *, is_new: bool) -> None:
        times, *columns = self._tails()
        if is_new:
            times.insert(i, at)
        for column, cost in zip(columns, (sent, attempts), strict=True):
            if column is None:
                continue
            if is_new:
                column.insert(i, column[i])
            for later in range(i + 1, len(column)):
                column[later] += cost

    def _tail(self) -> Node:
        """Return the tail as a leaf."""
        times, sent, attempts = self._tails()
        return _leaf(times, sent, attempts)

    def _set_tail(self, tail: Node) -> None:
        """Set the tail as a leaf; what was sent and attempted before it stays the same."""
        _, sent, attempts = self._tails()
        self._set_columns(
            tail.times,
            _raised(tail.sent, sent[0]),
            None if attempts is None else _raised(tail.attempts, attempts[0]),
        )

    def _tree_has_changed(self, place: int) -> None:
        """Note that events were inserted in the tree, or taken out, from `place` on."""
        times, sent, attempts = self._tails()
        self.sealed = self.tree.root.count
        if not self.sealed:
            self._set_columns(times, sent, attempts)
        elif place <= self.head < self.sealed:
            self.oldest = self.tree.time(self.head)

    def _take_out(self, cost_at: dict[int, int]) -> None:
        if not self.sealed:
            super()._take_out(cost_at)
            return
        self.held -= sum(cost_at.values())
        in_tree = {i: cost for i, cost in cost_at.items() if i < self.sealed}
        in_tail = {i - self.sealed: cost for i, cost in cost_at.items() if i >= self.sealed}
        if in_tail:
            self._set_tail(self._tail().take_out(in_tail))
        if in_tree:
            self.tree.take_out(in_tree)
            self._tree_has_changed(min(in_tree))

    def _trim(self, present: int, retention: Retention) -> None:
        if self.sealed and self.head < self.sealed and self.oldest > present - retention.span:
            return
        super()._trim(present, retention)
        if self.head < self.sealed:
            self.oldest = self.tree.time(self.head)

    def _cut(self) -> None:
        if not self.sealed:  # else `seal` drops what has left
            super()._cut()

    def _run(self, start: int, end: int) -> Run:
        sealed = self.sealed
        if start < sealed - 1:
            end = min(end, sealed)
            times, sent, attempts = self.tree.events(start, end)
            return start, times, sent, None if self.attempts is None else attempts
        start = max(start, sealed)
        first, last = start - sealed, max(start, end) - sealed
        tail_times, tail_sent, tail_attempts = self._tails()
        return (
            start,
            tail_times[first:last],
            tail_sent[first : last + 1],
            None if tail_attempts is None else tail_attempts[first : last + 1],
        )

    def _replace(self, run: Run, times: array[int], entries: list[int]) -> None:
        if not self.sealed:
            super()._replace(run, times, entries)
            return
        start, run_times, run_sent, run_attempts = run
        end = start + len(run_times)
        before_sent, sent = _costs_of(run_sent, entries)
        if run_attempts is None:
            before_attempts, attempts = before_sent, sent
        else:
            before_attempts, attempts = _costs_of(run_attempts, entries)
        if start >= self.sealed:
            tail, first, last = self._tail(), start - self.sealed, end - self.sealed
            attempted = None if tail.attempts is tail.sent else attempts
            self._set_tail(tail.replace_events(first, last, times, sent, attempted))
        else:
            self.tree.replace(start, end, times, sent, attempts)
            self._tree_has_changed(start)
        self._add_before(start, before_sent, before_attempts)
        column: Any = self.sent if self.attempts is None else self.attempts
        self.held = column[-1] - column[self.head]

    def _add_before(self, start: int, sent: int, attempts: int) -> None:
        """Add costs to the event before `start`, if there is one."""
        if (sent or attempts) and start > 0:
            place = start - 1
            if place < self.sealed:
                self.tree.add(place, sent, attempts)
            else:
                self._set_tail(self._tail().add(place - self.sealed, sent, attempts))


def _costs_of(totals: array[int], entries: list[int]) -> tuple[int, list[int]]:
    """Return what stands before the first of some events, and what each of them costs then.

    What stands between two of them belongs to the first of the two.
    """
    bounds = [totals[entry] for entry in entries] + [totals[-1]]
    return bounds[0] - totals[0], [after - before for before, after in pairwise(bounds)]


def _leaf(times: array[int], sent: array[int], attempts: array[int] | None) -> Node:
    of_sent = from_zero(sent)
    return Node(0, times, of_sent, of_sent if attempts is None else from_zero(attempts))


def _raised(totals: array[int], by: int) -> array[int]:
    return array("q", [total + by for total in totals])


def _pack_full(full: FullTimes, newest: int) -> bytes:
    """Pack what may be of use to later searches."""
    return b"".join(
        FULL.pack(window.length, window.resolution, window.denied, room, since, until)
        for (window, room), times in full.items()
        for since, until in times
        if until > newest and type(window) is Window
    )


def _unpack_full(packed: bytes, start: int, number: int) -> FullTimes:
    """Return what `_pack_full` has packed: so many times."""
    full: FullTimes = {}
    for place in range(start, start + number * FULL.size, FULL.size):
        length, resolution, denied, room, since, until = FULL.unpack_from(packed, place)
        key = Window(0, length, resolution, denied=bool(denied)), room
        full[key] = (*full.get(key, ()), (since, until))
    return full
