"""The event log of one count: exact sliding windows, and a time that never goes back.

A log holds what was sent, what is booked for later, and what was refused, as moments with running
totals. The rule: with a limit of N in a window of W, no half-open interval of length W ever holds
more than N, and a message is turned away only if admitting it would break that.

How it works. The total of any window is one subtraction of running totals, and its ends are found
by bisection, so a log answers windows of any length, whatever the limit. Events that have left
every window are trimmed at the head in amortised constant time. For each log time stands still
while its clock is behind `newest`, the latest event that was recorded for its own present: a clock
that goes back never frees room.

A long queue of bookings leaves no room for a long time. What a search among bookings has found
full is remembered, so that the next one begins behind it, until something is taken out of there.

An exception may come in the middle of any change: a signal handler may raise one. So each change
first adds to `undo` what takes it back, for a caller that gives the log such a list.

Integers only: no clock, no I/O. Times are milliseconds. This is the reference for every backend.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, TypeAlias

from ratelimit_mail.counting.running_totals import shifted
from ratelimit_mail.counting.window import Retention, Window

__all__ = ["FAR_AHEAD", "FIRST_COMPACTION", "LONG_AGO", "EventLog", "FullTimes", "Run", "UndoList"]

LONG_AGO: Final = -(1 << 62)
FAR_AHEAD: Final = 1 << 62

FIRST_COMPACTION: Final = 64
"""How many events a log has when it is compacted for the first time."""

COMPACTED_TOGETHER: Final = 256
"""How many events one change looks at while the log is compacted, so that none takes long."""

MOST_SEARCHES: Final = 8
"""Of how many windows and rooms a log remembers what searches among bookings have found full."""

MOST_TIMES_FULL: Final = 4
"""How many times a window is remembered to be full: some are cut in two by a cancelled booking."""

UndoList = list[tuple[Callable[..., object], tuple[Any, ...]]]
"""Functions with their arguments that take changes back, the last one first.

Each may be called again after it was interrupted.
"""


Run: TypeAlias = "tuple[int, array[int], array[int], array[int] | None]"
"""Some events one after another: the index of the first, their times, the totals around them."""

FullTimes = dict[tuple[Window, int], tuple[tuple[int, int], ...]]
"""By window and room, when it is known that the window has less room: from when until when."""

_NOTHING: Final = Retention(0)
_EMPTY: Final = array("q")


def _bisect_near(column: array[int], total: int, low: int) -> int:
    """Return what `bisect_left` returns; often it is the index `low` or the next."""
    if column[low + 1] < total:
        return bisect_left(column, total, low + 1)
    return low + 1 if column[low] < total else low


class EventLog:
    """Events in the order of their times.

    times, sent: event `i` stands at `times[i]` and costs `sent[i + 1] - sent[i]`.
    attempts: as `sent`, with refused attempts added; exists from the first of these on.
    head: events before it have left every window.
    held: everything that is held, refused attempts included: no window can hold more.
    newest: the latest event that was recorded for its own present; time is never before it.
    undo: where each change adds what takes it back; None for nowhere.
    compact_at: how many events the log has when it is compacted. 0 while that goes on: `compacted`
        is then the time of the last event that is done.
    full: by window and room, when a window has less room: since and until each; None for nothing.
    """

    __slots__ = (
        "attempts",
        "compact_at",
        "compacted",
        "full",
        "head",
        "held",
        "newest",
        "sent",
        "times",
        "undo",
    )

    def __init__(self, newest: int = LONG_AGO, undo: UndoList | None = None) -> None:
        self.undo = undo
        self.times = array("q")
        self.sent = array("q", (0,))
        self.attempts: array[int] | None = None
        self.head = 0
        self.held = 0
        self.newest = newest
        self.compact_at = FIRST_COMPACTION
        self.compacted = LONG_AGO
        self.full: FullTimes | None = None

    # A log whose events are elsewhere searches there.
    _bisect_near: Callable[..., int] = staticmethod(_bisect_near)
    _bisect_left: Callable[..., int] = staticmethod(bisect_left)
    _bisect_right: Callable[..., int] = staticmethod(bisect_right)

    def fits(self, now: int, cost: int, window: Window) -> bool:
        """Return whether `cost` more at `now` keeps every window at or below its limit."""
        at, times = max(now, self.newest), self.times
        if self.held <= window.limit - cost or times[-1] <= at:
            return self.earliest(now, cost, window) == now
        column, head = self._column(window), self.head
        return self._next_with_room(at, head, window.limit - cost, window, column) == at

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
        gone = self._bisect_near(column, column[-1] - room, head)  # so many must have left
        if gone == head:
            return now
        left_at = window.expiry(times[gone - 1])
        if left_at <= at:
            return now
        if times[-1] == at > self.newest:  # behind the last booking, where the next one begins
            self._remember_full(window, room, at, left_at)
        return left_at

    def earliest_spread(self, now: int, schedule: Sequence[tuple[int, int]], window: Window) -> int:
        """Return the first moment from `now` on at which every part of a spread cost fits.

        schedule: from `spread_schedule`: offsets from that moment, each with its part.
        """
        at = present = max(now, self.newest)
        while True:
            probe = self.without((), _NOTHING)
            for offset, part in schedule:
                moment = at + offset
                fits_at = probe.earliest(moment, part, window)
                if fits_at > moment:
                    at = fits_at - offset
                    break
                probe.held += part
                place = probe._place(moment)
                probe._enter(place, moment, part, part, near_head=probe._is_near_head(place))
            else:
                return now if at == present else at

    def _earliest_among_bookings(self, now: int, present: int, room: int, window: Window) -> int:
        """Return the same if events are booked ahead: windows that end at these count too."""
        column = self._column(window)
        full = () if self.full is None else self.full.get(self._full_key(window, room), ())
        at, before, head = present, LONG_AGO, self.head
        while at > before:
            for since, until in full:
                if since <= at < until:
                    at = until
            before, at = at, self._next_with_room(at, head, room, window, column)
        if at == present:
            return now
        for since, until in full:
            if since <= present and at == until:  # known already
                return at
        self._remember_full(window, room, present, at)
        return at

    def _next_with_room(
        self, at: int, head: int, room: int, window: Window, column: array[int]
    ) -> int:
        """Return `at` if there is room, windows that end at later bookings included.

        Otherwise return a later moment before which there is none.
        """
        times = self.times
        end = self._bisect_right(times, at, head)
        first = self._bisect_right(times, window.cutoff(at), head, end)
        if column[end] - column[first] > room:
            gone = self._bisect_left(column, column[end] - room, first + 1, end)
            return window.expiry(times[gone - 1])
        overfull = next(self._windows_above(at, end, first, room, window, column), None)
        return at if overfull is None else overfull[0] + 1

    @staticmethod
    def _full_key(window: Window, room: int) -> tuple[Window, int]:
        return window, room

    def _remember_full(self, window: Window, room: int, since: int, until: int) -> None:
        """Remember that a window has less than `room` from `since` until before `until`."""
        key = self._full_key(window, room)
        full = {} if self.full is None else self.full
        others = []
        for times in full.get(key, ()):
            if times[0] <= until and since <= times[1]:
                since, until = min(since, times[0]), max(until, times[1])
            elif times[1] > self.newest:
                others.append(times)
        if key not in full and len(full) >= MOST_SEARCHES:
            full = {}
        known = [*others, (since, until)]
        if len(known) > MOST_TIMES_FULL:  # of short ones, what is full earlier matters more
            known.remove(min(known, key=lambda times: (times[1] - times[0], -times[0])))
        full[key] = tuple(known)
        self.full = full

    def _forget_full(self, first: int, last: int) -> None:
        """Note that events are taken out: the windows that contained them have more room."""
        if self.full is None:
            return
        for key, full in self.full.items():
            before, after = key[0].cutoff(first) + 1, key[0].expiry(last)
            rest = [(since, min(until, before)) for since, until in full]
            rest += [(max(since, after), until) for since, until in full]
            self.full[key] = tuple([each for each in rest if each[0] < each[1]][:MOST_TIMES_FULL])

    def _windows_above(
        self, at: int, end: int, first: int, room: int, window: Window, column: array[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield the bookings after `at` whose windows contain `at`, the last one first.

        Only those whose window holds more than `room`, and more than each one before; each with
        what its window holds.

        end, first: the index of the first event after `at`, and that of the first in its window.
        """
        times = self.times
        i = (
            len(times) - 1
            if end == len(times)
            else self._bisect_left(times, window.expiry(at), end) - 1
        )
        while i >= end:
            total = column[i + 1]
            if total - column[first] <= room:  # even if they all stood in one window
                return
            used = total - column[self._bisect_right(times, window.cutoff(times[i]), first, i)]
            if used > room:
                yield times[i], used
                room = used
            # A window that ends no later, and begins with this event or later, holds no more.
            begin = self._bisect_left(column, total - room, first, i)
            if begin <= first:
                return
            i = self._bisect_left(times, window.expiry(times[begin - 1]), end, i) - 1

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
        at = max(now, self.newest)
        times, column = self.times, self._column(window)
        end = self._bisect_right(times, at, self.head)
        first = self._bisect_right(times, window.cutoff(at), self.head, end)
        most = column[end] - column[first]
        for _, used in self._windows_above(at, end, first, most, window, column):
            most = used
        return max(0, window.limit - most)

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
        near_head = self._save(place)
        self.newest = at
        self.held += cost
        self._enter(place, at, cost, cost, near_head=near_head)
        self._forget(at, retention)
        return at

    def extend(self, sent: Mapping[int, int], cost: int, retention: Retention) -> None:
        """Record how many events of one cost were sent at which moments, none before `newest`."""
        times = list(sent)
        costs = [number * cost for number in sent.values()]
        place = self._place(times[0])
        is_last = place == len(self.times)
        near_head = self._save(place, all_together=is_last or times[-1] < self.times[place])
        self.held += sum(costs)
        self.newest = times[-1]
        if self.attempts is None and is_last and (not place or self.times[-1] < times[0]):
            # What `_enter` does, for the usual case at a tenth of the price.
            self.times.fromlist(times)
            self.sent.fromlist(list(accumulate(costs, initial=self.sent.pop())))
        elif near_head and (place == self.head or self.times[place - 1] < times[0]):
            # Also before many bookings.
            self._shift(self.head, place + 1, -sum(costs), -sum(costs))
            self.times[place:place] = array("q", times)
            for column in self._columns():
                totals = list(accumulate(costs, initial=column[place]))
                column[place + 1 : place + 1] = array("q", totals[1:])
        else:
            for at, total in zip(times, costs, strict=True):
                self._enter(self._place(at), at, total, total, near_head=near_head)
        self._forget(self.newest, retention)

    def forget(self, now: int, retention: Retention) -> None:
        """Forget what has left every window by `now`."""
        if now < self.newest:
            return
        length, head = len(self.times), self.head
        # Mostly nothing has left, and nothing needs to be saved.
        if length >= self.compact_at or (
            head < length and self.times[head] <= now - retention.span
        ):
            self._save_end(length)
            self._forget(now, retention)

    def refuse(self, now: int, cost: int, retention: Retention) -> None:
        """Record a refused attempt."""
        at = max(now, self.newest)
        place = self._place(at)
        near_head = self._save(place)
        if self.attempts is None:
            self.attempts = self.sent[:]
        self.newest = at
        self.held += cost
        self._enter(place, at, 0, cost, near_head=near_head)
        self._forget(at, retention)

    def append(self, now: int, cost: int, retention: Retention, *, is_sent: bool = True) -> None:
        """Do as `add`, or as `refuse`, in a third of the time; what has left is forgotten later.

        Only for a log without bookings and without `undo`, and `now` is not before `newest`.
        """
        times, sent, attempts = self.times, self.sent, self.attempts
        if attempts is None and not is_sent:
            attempts = self.attempts = sent[:]
        if len(times) > self.head and times[-1] == now:
            if is_sent:
                sent[-1] += cost
            if attempts is not None:
                attempts[-1] += cost
        else:
            times.append(now)
            total = sent[-1]
            sent.append(total + cost if is_sent else total)
            if attempts is not None:
                attempts.append(attempts[-1] + cost)
        self.newest = now
        self.held += cost
        if len(times) >= self.compact_at:
            self._forget(now, retention)

    def book(self, now: int, at: int, cost: int, retention: Retention) -> int:
        """Record what will be sent at `at`; return the moment at which it stands."""
        present = max(now, self.newest)
        if at <= present:
            return self.add(now, cost, retention)
        place = self._place(at)
        near_head = self._save(place)
        self.held += cost
        self._enter(place, at, cost, cost, near_head=near_head)
        self._forget(present, retention)
        return at

    def without(self, events: Iterable[tuple[int, int]], retention: Retention) -> EventLog:
        """Return a copy of the log from which events are taken out."""
        copy = EventLog(self.newest)
        copy.times, copy.sent = self.times[:], self.sent[:]
        copy.attempts = None if self.attempts is None else self.attempts[:]
        copy.head, copy.held, copy.compact_at = self.head, self.held, self.compact_at
        copy.full = None if self.full is None else self.full.copy()
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
        self._forget_full(times[min(cost_at)], times[max(cost_at)])
        self._take_out(cost_at)

    def _take_out(self, cost_at: dict[int, int]) -> None:
        """Take costs out, by the index of their event."""
        ends = [*sorted(cost_at), len(self.times)]
        if self._is_near_head(ends[-2]):
            self._refund_near_head(ends[-2], cost_at)
            return
        self._save_end(ends[0])
        self.held -= sum(cost_at.values())
        lowered = list(accumulate(cost_at[i] for i in ends[:-1]))
        steps = [(end - i, -cost) for (i, end), cost in zip(pairwise(ends), lowered, strict=True)]
        for column in self._columns():
            column[ends[0] + 1 :] = shifted(column[ends[0] + 1 :], steps)
        self._drop_empty(ends[:-1])

    def _refund_near_head(self, last: int, cost_at: Mapping[int, int]) -> None:
        """Take out costs of events up to `last`, and raise the totals before them instead."""
        columns = self._columns()
        widest = columns[-1]  # what is sent is attempted
        changes = [(column, array("q")) for column in (self.times, *columns)]
        raised, first = sum(cost_at.values()), self.head
        steps = []
        for i in sorted(cost_at):
            # An event that costs nothing any more is dropped.
            end = i if widest[i + 1] - widest[i] == cost_at[i] else i + 1
            for column, rest in changes:
                rest += column[first:end]
            steps.append((end - first, raised))
            raised, first = raised - cost_at[i], i + 1
        changes[1:] = [(column, shifted(totals, steps)) for column, totals in changes[1:]]
        start, end = self.head, last + 1
        if self.undo is not None:
            before = [(column, column[start:end], len(column)) for column, _ in changes]
            self.undo.append((EventLog._restore_first, (self, start, before, self._numbers())))
        self.held -= sum(cost_at.values())
        for column, values in changes:
            column[start:end] = values

    def _restore_first(
        self, start: int, before: list[tuple[array[int], array[int], int]], numbers: tuple[int, ...]
    ) -> None:
        """Set the first events, of which some may be gone, to what was saved."""
        times, *columns = before
        for column, values, length in before:
            column[start : start + len(values) - length + len(column)] = values
        attempts = columns[1][0] if len(columns) > 1 else None
        self._set(times[0], columns[0][0], attempts, numbers)

    def put_back(self, events: Iterable[tuple[int, int]]) -> None:
        """Enter events that were taken out before, each a moment and a cost."""
        for at, cost in events:
            place = self._bisect_right(self.times, at, self.head)
            near_head = self._save(place)
            self.held += cost
            self._enter(place, at, cost, cost, near_head=near_head)

    def _place(self, at: int) -> int:
        """Return the index of an event at `at`, before whatever is booked after it."""
        times = self.times
        if times and times[-1] > at:
            return self._bisect_right(times, at, self.head)
        return len(times)

    def _is_near_head(self, place: int) -> bool:
        """Return whether fewer totals change if those before an event are lowered.

        Totals matter only as differences: an event that is inserted before many bookings lowers
        the totals before it, instead of raising all that follow.
        """
        return place - self.head < len(self.times) - place

    def _save(self, place: int, *, all_together: bool = True) -> bool:
        """Add to `undo` what takes back that events are inserted at `place`, or join that before.

        Returns whether the totals before them are to be lowered. Otherwise those after them are
        to be raised.

        all_together: whether no event that is there already will stand between those inserted.
        """
        if not all_together or not self._is_near_head(place):
            self._save_end(place)
            return False
        if self.undo is not None:
            first = slice(self.head, place + 1)
            attempts = self.attempts
            first_attempts = None if attempts is None else attempts[first]
            columns = (self.times, self.sent, self.sent[first], attempts, first_attempts)
            where = (first, len(self.times))
            self.undo.append((EventLog._restore_head, (self, where, columns, self._numbers())))
        return True

    def _restore_head(
        self, where: tuple[slice, int], columns: Any, numbers: tuple[int, ...]
    ) -> None:
        """Take out what was inserted, and set the totals before it to what was saved."""
        first, length = where
        times, sent, first_sent, attempts, first_attempts = columns
        place = first.stop - 1
        del times[place : place + len(times) - length]
        del sent[place : place + len(sent) - 1 - length]
        sent[first] = first_sent
        if attempts is not None:
            del attempts[place : place + len(attempts) - 1 - length]
            attempts[first] = first_attempts
        self._set(times, sent, attempts, numbers)

    def _save_end(self, start: int) -> None:
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
        self.undo.append((EventLog._restore_end, (self, start, columns, self._numbers())))

    def _restore_end(self, start: int, columns: Any, numbers: tuple[int, ...]) -> None:
        """Set the events from `start` on to what was saved."""
        times, last_times, sent, last_sent, attempts, last_attempts = columns
        times[start:] = last_times
        sent[start:] = last_sent
        if attempts is not None:
            attempts[start:] = last_attempts
        self._set(times, sent, attempts, numbers)

    def _numbers(self) -> tuple[int, ...]:
        return self.head, self.held, self.newest, self.compact_at, self.compacted

    def _set(
        self,
        times: array[int],
        sent: array[int],
        attempts: array[int] | None,
        numbers: tuple[int, ...],
    ) -> None:
        self.full = None
        self.times, self.sent, self.attempts = times, sent, attempts
        self.head, self.held, self.newest, self.compact_at, self.compacted = numbers

    def _enter(self, i: int, at: int, sent: int, attempts: int, *, near_head: bool) -> None:
        """Insert an event at its time; `i` is its place. `near_head`: from `_save`."""
        times = self.times
        if i == self.head or times[i - 1] != at:
            times.insert(i, at)
            self.sent.insert(i, self.sent[i])
            if self.attempts is not None:
                self.attempts.insert(i, self.attempts[i])
            i += 1
        if near_head:
            self._shift(self.head, i, -sent, -attempts)
        else:
            self._shift(i, len(self.sent), sent, attempts)

    def _shift(self, start: int, end: int, sent: int, attempts: int) -> None:
        """Raise the running totals from `start` up to `end`."""
        self.sent[start:end] = shifted(self.sent[start:end], [(end - start, sent)])
        if self.attempts is not None:
            self.attempts[start:end] = shifted(self.attempts[start:end], [(end - start, attempts)])

    def _drop_empty(self, events: Iterable[int]) -> None:
        """Drop those of some events, in order, that cost nothing any more."""
        column = self.sent if self.attempts is None else self.attempts  # what is sent is attempted
        empty = [i for i in events if column[i] == column[i + 1]]
        if empty:
            for column in [*self._columns(), self.times]:
                rest = array("q")
                for i, end in pairwise([*empty, len(column)]):
                    rest += column[i + 1 : end]
                column[empty[0] :] = rest

    def _columns(self) -> list[array[int]]:
        return [self.sent] if self.attempts is None else [self.sent, self.attempts]

    def _forget(self, present: int, retention: Retention) -> None:
        """Forget what has left every window by `present`; time never goes back to it."""
        self._trim(present, retention)
        if len(self.times) >= self.compact_at:
            if retention.ceiling or retention.slot > 1:
                self._compact(present, retention)
            else:
                self._end_compaction()

    def _end_compaction(self) -> None:
        self._cut()
        self.compacted = LONG_AGO
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
        """Merge some events that no window can tell apart, so that memory stays bounded.

        These are the events of one slot, and refused attempts so old that later ones fill the
        largest limit by themselves.
        """
        slot = retention.slot
        past = self._bisect_right(self.times, present, self.head)
        start = max(self._bisect_right(self.times, self.compacted, self.head) - 1, self.head)
        run = self._run(start, min(start + COMPACTED_TOGETHER, past))
        start, times, sent, attempts = run
        end = start + len(times)
        merged = array("q")
        entries: list[int] = []
        # A refused attempt is outweighed if no more than this was refused until after it.
        most = LONG_AGO
        if self.attempts is not None:
            most = self.attempts[past] - self.sent[past] - retention.ceiling
        for i, at in enumerate(times):
            if merged and merged[-1] // slot == at // slot:
                merged[-1] = at
            elif attempts is None or sent[i] != sent[i + 1] or attempts[i + 1] - sent[i + 1] > most:
                merged.append(at)
                entries.append(i)
        if past > self.head:
            self.newest = max(self.newest, self.times[past - 1])
        if end < past:
            self.compacted = times[-1]
            self.compact_at = 0
        if len(entries) < len(times):
            self._replace(run, merged, entries)
        if end == past:
            self._end_compaction()

    def _run(self, start: int, end: int) -> Run:
        """Return the events from `start` up to `end`, or the first of them: where they begin."""
        attempts = None if self.attempts is None else self.attempts[start : end + 1]
        return start, self.times[start:end], self.sent[start : end + 1], attempts

    def _replace(self, run: Run, times: array[int], entries: list[int]) -> None:
        """Set the times of the events of a run, and the totals before them.

        entries: which of the totals are left, one for each of `times`.
        """
        start, run_times, *run_totals = run
        end = start + len(run_times)
        columns = [
            (column, array("q", [totals[i] for i in entries]))
            for column, totals in zip((self.sent, self.attempts), run_totals, strict=True)
            if column is not None and totals is not None
        ]
        if self.undo is not None:
            before = [(column, column[start:end], len(column)) for column, _ in columns]
            before.append((self.times, run_times, len(self.times)))
            self.undo.append((EventLog._restore_replaced, (self, start, before, self._numbers())))
        self.times[start:end] = times
        for column, totals in columns:
            column[start:end] = totals
        column = columns[-1][0]
        self.held = column[-1] - column[self.head]

    def _restore_replaced(
        self, start: int, before: list[tuple[array[int], array[int], int]], numbers: tuple[int, ...]
    ) -> None:
        for column, values, length in before:
            if len(column) != length:
                column[start : start + len(values) - length + len(column)] = values
        self._set(self.times, self.sent, self.attempts, numbers)
