"""The event log of one count: exact sliding windows, and a time that never goes back.

A log holds what was sent, what is booked for later, and what was refused, as moments with running
totals. The rule: with a limit of N in a window of W, no half-open interval of length W ever holds
more than N, and a message is turned away only if admitting it would break that.

How it works. The total of any window is one subtraction of running totals, and its ends are found
by bisection, so a log answers windows of any length, whatever the limit. Events that have left
every window are trimmed at the head in amortised constant time. For each log time stands still
while its clock is behind `newest`, the latest event that was recorded for its own present: a clock
that goes back never frees room.

An exception may come in the middle of any change: a signal handler may raise one. So each change
first adds to `undo` what takes it back, for a caller that gives the log such a list.

Integers only: no clock, no I/O. Times are milliseconds. This is the reference for every backend.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import sub
from typing import Any, Final

from ratelimit_mail.counting.window import Retention, Window

__all__ = ["FAR_AHEAD", "FIRST_COMPACTION", "LONG_AGO", "EventLog", "UndoList"]

LONG_AGO: Final = -(1 << 62)
FAR_AHEAD: Final = 1 << 62

FIRST_COMPACTION: Final = 64
"""How many events a log has when it is compacted for the first time."""

UndoList = list[tuple[Callable[..., object], tuple[Any, ...]]]
"""Functions with their arguments that take changes back, the last one first.

Each may be called again after it was interrupted.
"""


_NOTHING: Final = Retention(0)
_EMPTY: Final = array("q")


class EventLog:
    """Events in the order of their times.

    times, sent: event `i` stands at `times[i]` and costs `sent[i + 1] - sent[i]`.
    attempts: as `sent`, with refused attempts added; exists from the first of these on.
    head: events before it have left every window.
    held: everything that is held, refused attempts included: no window can hold more.
    newest: the latest event that was recorded for its own present; time is never before it.
    undo: where each change adds what takes it back; None for nowhere.
    """

    __slots__ = ("attempts", "compact_at", "head", "held", "newest", "sent", "times", "undo")

    def __init__(self, newest: int = LONG_AGO, undo: UndoList | None = None) -> None:
        self.undo = undo
        self.times = array("q")
        self.sent = array("q", (0,))
        self.attempts: array[int] | None = None
        self.head = 0
        self.held = 0
        self.newest = newest
        self.compact_at = FIRST_COMPACTION

    # A log whose events are elsewhere searches there.
    _bisect_left: Callable[..., int] = staticmethod(bisect_left)
    _bisect_right: Callable[..., int] = staticmethod(bisect_right)

    def fits(self, now: int, cost: int, window: Window) -> bool:
        """Return whether `cost` more at `now` keeps every window at or below its limit."""
        return self.earliest(now, cost, window) == now

    def earliest(self, now: int, cost: int, window: Window) -> int:
        """Return the first moment from `now` on at which `cost` more fits; at most the limit."""
        room = window.limit - cost
        if self.held <= room:  # whatever its times
            return now
        times, head = self.times, self.head
        at = now if now > self.newest else self.newest  # noqa: FURB136 - quicker
        if times[-1] > at:
            return self._earliest_among_bookings(now, at, room, window)
        column = self.attempts if window.denied and self.attempts is not None else self.sent
        # So many of the oldest must have left; often it is the very first.
        target = column[-1] - room
        gone = head + 1
        if column[gone] < target:
            gone = self._bisect_left(column, target, gone)
        elif column[head] >= target:
            return now
        left_at = window.expiry(times[gone - 1])
        return left_at if left_at > at else now

    def earliest_spread(
        self, now: int, schedule: Sequence[tuple[int, int]], windows: Iterable[Window]
    ) -> int:
        """Return the first moment from `now` on at which every part of a spread cost fits.

        schedule: from `spread_schedule`: offsets from that moment, each with its part.
        """
        at = present = max(now, self.newest)
        while True:
            probe = self.without((), _NOTHING)
            for offset, part in schedule:
                moment = fits_at = at + offset
                for window in windows:
                    fits_at = probe.earliest(fits_at, part, window)
                if fits_at > moment:
                    at = fits_at - offset
                    break
                probe.held += part
                probe._enter(probe._place(moment), moment, part, part)
            else:
                return now if at == present else at

    def _earliest_among_bookings(self, now: int, present: int, room: int, window: Window) -> int:
        """Return the same if events are booked ahead: windows that end at these count too."""
        times, head = self.times, self.head
        column = self._column(window)
        at = present
        while True:
            end = self._bisect_right(times, at, head)
            first = self._bisect_right(times, window.cutoff(at), head, end)
            if column[end] - column[first] > room:
                gone = self._bisect_left(column, column[end] - room, first + 1, end)
                at = window.expiry(times[gone - 1])
                continue
            overfull = self._last_overfull(at, end, first, room, window, column)
            if overfull is None:
                return now if at == present else at
            at = overfull + 1

    def _last_overfull(
        self, at: int, end: int, first: int, room: int, window: Window, column: array[int]
    ) -> int | None:
        """Return the last booking after `at` whose window holds `at` and would have no room."""
        times = self.times
        if end == len(times):
            return None
        last = self._bisect_left(times, window.expiry(at), end)
        if column[last] - column[first] <= room:  # even if they all stood in one window
            return None
        for i in range(last - 1, end - 1, -1):
            start = self._bisect_right(times, window.cutoff(times[i]), first, i)
            if column[i + 1] - column[start] > room:
                return times[i]
        return None

    def used(self, now: int, window: Window) -> int:
        """Return how much the window that ends at `now` holds."""
        at = max(now, self.newest)
        column = self._column(window)
        end = self._bisect_right(self.times, at, self.head)
        return (
            column[end] - column[self._bisect_right(self.times, window.cutoff(at), self.head, end)]
        )

    def remaining(self, now: int, window: Window) -> int:
        """Return the most that would fit at `now`, bookings respected."""
        if not self.times or self.times[-1] <= max(now, self.newest):  # nothing is booked
            return max(0, window.limit - self.used(now, window))
        low, high = 0, window.limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(now, middle, window) else (low, middle - 1)
        return low

    def empty_at(self, now: int, window: Window) -> int:
        """Return the first moment from which nothing recorded counts any more."""
        column = self._column(window)
        last = self._bisect_left(column, column[-1], self.head) - 1
        return now if last < self.head else max(now, window.expiry(self.times[last]))

    def idle_from(self, span: int) -> int:
        """Return the first moment from which nothing here can matter to a window of `span`."""
        return max(self.newest, self.times[-1] if self.times else self.newest) + span

    def last_booking(self, now: int) -> int | None:
        """Return the time of the last event after `now`, or None."""
        return self.times[-1] if self.times and self.times[-1] > now else None

    def _column(self, window: Window) -> array[int]:
        """Return the running totals that `window` reads."""
        return self.attempts if window.denied and self.attempts is not None else self.sent

    def add(self, now: int, cost: int, retention: Retention) -> int:
        """Record what is sent now; return the moment at which it stands."""
        at = max(now, self.newest)
        place = self._place(at)
        self._save(place)
        self.newest = at
        self.held += cost
        self._enter(place, at, cost, cost)
        self._forget(at, retention)
        return at

    def save(self, at: int) -> None:
        """Add to `undo` what takes back later changes of the events after the moment `at`."""
        self._save(self._place(at))

    def extend(self, sent: Mapping[int, int], cost: int, retention: Retention) -> None:
        """Record how many events of one cost were sent at which moments, none before `newest`.

        The caller calls `save` with the first of the moments before.
        """
        times = list(sent)
        costs = [number * cost for number in sent.values()]
        self.held += sum(costs)
        self.newest = times[-1]
        if self.attempts is None and (not self.times or self.times[-1] < times[0]):
            # What `_enter` does, for the usual case at a tenth of the price.
            self.times.fromlist(times)
            self.sent.fromlist(list(accumulate(costs, initial=self.sent.pop())))
        else:
            for at, total in zip(times, costs, strict=True):
                self._enter(self._place(at), at, total, total)
        self._forget(self.newest, retention)

    def forget(self, now: int, retention: Retention) -> None:
        """Forget what has left every window by `now`."""
        if now >= self.newest:
            self._save(len(self.times))
            self._forget(now, retention)

    def refuse(self, now: int, cost: int, retention: Retention) -> None:
        """Record a refused attempt."""
        at = max(now, self.newest)
        place = self._place(at)
        self._save(place)
        if self.attempts is None:
            self.attempts = self.sent[:]
        self.newest = at
        self.held += cost
        self._enter(place, at, 0, cost)
        self._forget(at, retention)

    def book(self, now: int, at: int, cost: int, retention: Retention) -> int:
        """Record what will be sent at `at`; return the moment at which it stands."""
        present = max(now, self.newest)
        if at <= present:
            return self.add(now, cost, retention)
        place = self._place(at)
        self._save(place)
        self.held += cost
        self._enter(place, at, cost, cost)
        self._forget(present, retention)
        return at

    def without(self, events: Iterable[tuple[int, int]], retention: Retention) -> EventLog:
        """Return a copy of the log from which events are taken out."""
        copy = EventLog(self.newest)
        copy.times, copy.sent = self.times[:], self.sent[:]
        copy.attempts = None if self.attempts is None else self.attempts[:]
        copy.head, copy.held, copy.compact_at = self.head, self.held, self.compact_at
        copy.refund(events, retention)
        return copy

    def refund(self, events: Iterable[tuple[int, int]], retention: Retention) -> None:
        """Take out events, each a moment and a cost; events that have left are ignored."""
        times, slot = self.times, retention.slot
        cost_at: dict[int, int] = {}
        for at, cost in events:
            i = self._bisect_left(times, at, self.head)
            if (
                at > self.newest - retention.span
                and i < len(times)
                and times[i] // slot == at // slot
            ):
                cost_at[i] = cost_at.get(i, 0) + cost
        if not cost_at:
            return
        ends = [*sorted(cost_at), len(times)]
        self._save(ends[0])
        self.held -= sum(cost_at.values())
        lowered = 0
        removed: list[int] = []  # by each event from the first on, all that is taken out until it
        for i, end in pairwise(ends):
            lowered += cost_at[i]
            removed += [lowered] * (end - i)
        first = ends[0]
        for column in self._columns():
            column[first + 1 :] = array("q", map(sub, column[first + 1 :], removed))
        self._drop_empty(first)

    def _place(self, at: int) -> int:
        """Return the index of an event at `at`, before whatever is booked after it."""
        times = self.times
        if times and times[-1] > at:
            return self._bisect_right(times, at, self.head)
        return len(times)

    def _save(self, start: int) -> None:
        """Add to `undo` what takes back a change of the events from `start` on."""
        if self.undo is None:
            return
        times, sent, attempts = self.times, self.sent, self.attempts
        columns = (
            times,
            times[start:] if start < len(times) else _EMPTY,
            sent,
            sent[start:],
            attempts,
            None if attempts is None else attempts[start:],
        )
        numbers = (self.head, self.held, self.newest, self.compact_at)
        self.undo.append((EventLog._restore, (self, start, columns, numbers)))

    def _restore(self, start: int, columns: Any, numbers: tuple[int, int, int, int]) -> None:
        """Set the columns and the numbers to what `_save` has saved."""
        times, last_times, sent, last_sent, attempts, last_attempts = columns
        times[start:] = last_times
        sent[start:] = last_sent
        if attempts is not None:
            attempts[start:] = last_attempts
        self.times, self.sent, self.attempts = times, sent, attempts
        self.head, self.held, self.newest, self.compact_at = numbers

    def _enter(self, i: int, at: int, sent: int, attempts: int) -> None:
        """Insert an event at its time; `i` is its place."""
        times = self.times
        if i > self.head and times[i - 1] == at:
            self._shift(i, len(self.sent), sent, attempts)
            return
        times.insert(i, at)
        self.sent.insert(i, self.sent[i])
        if self.attempts is not None:
            self.attempts.insert(i, self.attempts[i])
        self._shift(i + 1, len(self.sent), sent, attempts)

    def _shift(self, start: int, end: int, sent: int, attempts: int) -> None:
        """Raise the running totals from `start` up to `end`."""
        self.sent[start:end] = array("q", [total + sent for total in self.sent[start:end]])
        if self.attempts is not None:
            self.attempts[start:end] = array(
                "q", [total + attempts for total in self.attempts[start:end]]
            )

    def _drop_empty(self, start: int) -> None:
        """Drop the events from `start` on that cost nothing any more."""
        column = self.sent if self.attempts is None else self.attempts  # what is sent is attempted
        used = [i for i in range(start, len(self.times)) if column[i] != column[i + 1]]
        if len(used) < len(self.times) - start:
            for column in self._columns():
                column[start:-1] = array("q", [column[i] for i in used])
            self.times[start:] = array("q", [self.times[i] for i in used])

    def _columns(self) -> list[array[int]]:
        return [self.sent] if self.attempts is None else [self.sent, self.attempts]

    def _forget(self, present: int, retention: Retention) -> None:
        """Forget what has left every window by `present`; time never goes back to it."""
        self._trim(present, retention)
        if len(self.times) >= self.compact_at:
            self._cut()
            if retention.ceiling or retention.slot > 1:
                self._compact(present, retention)
            self.compact_at = 2 * len(self.times) + 64

    def _trim(self, present: int, retention: Retention) -> None:
        """Move the head behind what has left every window by `present`."""
        times, head = self.times, self.head
        gone = self._bisect_right(times, present - retention.span, head)
        if gone > head:
            self.head = gone
            self.newest = max(self.newest, times[gone - 1] + retention.span)
            column = self.sent if self.attempts is None else self.attempts
            self.held = column[-1] - column[gone]
            if gone > 16 and gone * 4 > len(times):
                self._cut()

    def _cut(self) -> None:
        # New columns, because `undo` may hold places in those of before.
        head, self.head = self.head, 0
        self.times = self.times[head:]
        self.sent = self.sent[head:]
        if self.attempts is not None:
            self.attempts = self.attempts[head:]

    def _compact(self, present: int, retention: Retention) -> None:
        """Merge events that no window can tell apart, so that memory stays bounded.

        These are the events of one slot, and refused attempts so old that later ones fill the
        largest limit by themselves.
        """
        times, sent, attempts, slot = self.times, self.sent, self.attempts, retention.slot
        past = self._bisect_right(times, present)
        refused = [] if attempts is None else [a - s for a, s in zip(attempts, sent, strict=True)]
        merged = array("q")
        starts: list[int] = []
        for i, time in enumerate(times):
            if i < past:
                if merged and merged[-1] // slot == time // slot:
                    merged[-1] = time
                    continue
                if (
                    refused
                    and sent[i] == sent[i + 1]
                    and refused[past] - refused[i + 1] >= retention.ceiling
                ):
                    continue
            merged.append(time)
            starts.append(i)
        if past:
            self.newest = max(self.newest, times[past - 1])
        self.times = merged
        self.sent = array("q", [sent[i] for i in starts] + [sent[-1]])
        if attempts is not None:
            self.attempts = array("q", [attempts[i] for i in starts] + [attempts[-1]])
        column = self.sent if self.attempts is None else self.attempts
        self.held = column[-1] - column[0]
