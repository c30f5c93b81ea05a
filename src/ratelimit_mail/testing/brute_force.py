"""BruteForceBackend: the meaning of a limit as simple code, to compare other backends with.

It is slow and forgets nothing. If another backend gives a different answer, that one is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from itertools import count as count_up
from typing import Any, Final
from zoneinfo import ZoneInfo

import attrs

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail.backends.base import TAKE, Backend, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.counting.calendar_window import CalendarWindow
from ratelimit_mail.counting.charge import UNITS, Charge, Costs, Count, Ledger, UniqueCosts
from ratelimit_mail.counting.event_log import LONG_AGO
from ratelimit_mail.counting.window import Window

__all__ = ["BruteForceBackend"]

MINUTE: Final = 60_000

_Name = tuple[str, str, int]
"""Ledger, subject and unit, which together identify one count of one subject."""

_Addition = tuple[_Name, Count, int, tuple[str, ...]]
"""One count of one subject, the cost to add to it, and the unique recipients that it is of."""


@attrs.define(eq=False)
class _Event:
    """What was sent, will be sent or was refused.

    member: the unique recipient whose latest event it is. previous: the latest before.
    """

    name: _Name
    moment: int
    cost: int
    refused: bool
    member: str | None = None
    previous: _Event | None = None


class _Receipt(list[_Event]):
    """The events of one message; of a booking also its queue, its time and its place there."""

    def __init__(self, additions: list[_Addition]) -> None:
        super().__init__()
        self.additions = additions
        self.queue: Any = None
        self.at = 0
        self.number: Any = None
        self.in_queue: list[_Event] = []


@cache
def _parts(cost: int, windows: tuple[Window, ...]) -> list[tuple[int, int]]:
    """Return the parts of a cost with their offsets: each unit as early as windows that spread it.

    One part at offset 0, if no window spreads it.
    """
    spreading = [window for window in windows if window.spread and window.limit < cost]
    if not spreading:
        return [(0, cost)]
    units: list[int] = []
    spans = [(window.limit, window.length + window.resolution - 1) for window in spreading]
    offset = 0
    for _ in range(cost):
        while any(sum(unit + span > offset for unit in units) >= limit for limit, span in spans):
            leaving = (unit + span for unit in units for _, span in spans)
            offset = min(moment for moment in leaving if moment > offset)
        units.append(offset)
    return sorted(Counter(units).items())


def _leaves(window: Window, moment: int) -> int:
    """Return when an event at `moment` leaves: one window after the last moment of its slot.

    If the window is a period of a calendar, the next period after that moment.
    """
    end_of_slot = (moment // window.resolution + 1) * window.resolution - 1
    if isinstance(window, CalendarWindow):
        return _next_period(window.calendar.unit, window.calendar.time_zone, end_of_slot)
    return end_of_slot + window.length


_periods: dict[tuple[str, str], list[tuple[int, int]]] = {}
"""By unit and time zone, for spans of time the period that begins at their ends."""


def _next_period(unit: str, time_zone: str, moment: int) -> int:
    """Return when the next period begins, by looking at a clock every minute."""
    periods = _periods.setdefault((unit, time_zone), [])
    for start, end in periods:
        if start <= moment < end:
            return end
    minute = moment // MINUTE
    zone = ZoneInfo(time_zone)

    def clock(minute: int) -> datetime:
        return datetime.fromtimestamp(minute * 60, zone)

    end = minute + 1
    if unit == "hour":
        while clock(end).minute != 0 and _is_regular(clock(end - 1), clock(end)):
            end += 1
    else:
        # What was shown before counts too: the clocks may go back over midnight.
        shown = max(_date(clock(minute - back), unit) for back in range(180))
        while _date(clock(end), unit) <= shown:
            end += 1
    periods.append((minute * MINUTE, end * MINUTE))
    return end * MINUTE


def _date(clock: datetime, unit: str) -> tuple[int, ...]:
    return (clock.year, clock.month, clock.day)[: 3 if unit == "day" else 2]


def _is_regular(before: datetime, after: datetime) -> bool:
    """Return whether the clocks did not change, or by whole hours."""
    change = (after.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
    return change % timedelta(hours=1) == timedelta(0)


@with_methods_of(Backend)
class BruteForceBackend:
    """A backend that stores every event and tries every moment that could matter.

    clock: the time in milliseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.events: list[_Event] = []
        self._newest: dict[_Name, int] = {}
        self._spans: dict[tuple[str, int], int] = {}
        self._answers: dict[str, tuple[int, Verdict]] = {}
        self._bookings: dict[_Name, dict[int, _Receipt]] = {}
        self._numbers = count_up()
        self._numbers_ahead = count_up(-1, -1)
        self._registers: dict[str, dict[str, str]] = {}

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        now, idempotency = self._clock(), intent.idempotency
        if idempotency is None:
            return self._decide(charges, intent, now)
        until, verdict = self._answers.get(idempotency.name, (LONG_AGO, Verdict(now, now)))
        if now < until:
            return verdict._replace(now=now, at=max(now, verdict.at), repeated=True)
        if intent.recall:
            return Verdict(now, now)
        verdict = self._decide(charges, intent, now)
        booked_at = now if verdict.refusals else verdict.at
        until = booked_at + idempotency.lifetime
        self._answers[idempotency.name] = (
            min(until, verdict.at) if verdict.refusals else until,
            verdict,
        )
        return verdict

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return [self.apply(*message) for message in messages]

    def _decide(self, charges: Sequence[Charge], intent: Intent, now: int) -> Verdict:
        additions = _additions(charges)
        if intent.refused:
            self._record_refused(additions, now)
            return Verdict(now, now)
        with self._without(self._latest(additions)):
            refusals = self._refusals(additions, now)
        start = now
        if intent.queue is not None:
            queue = _additions([intent.queue])
            start = max([now, *(event.moment for event in self._of(queue[0][0]))])
            with self._without(self._latest(additions)):
                at = self._first(start, additions)
            if intent.max_delay is None or at - now <= intent.max_delay:
                booking = self._record(additions, now, at)
                booking.queue, booking.at = queue[0], at
                if at > now:
                    self._enqueue(booking, next(self._numbers), now)
                return Verdict(now, at, booking)
        elif not refusals:
            return Verdict(now, now, self._record(additions, now, now) if intent.record else None)
        with self._without(self._latest(additions)):
            if not refusals:  # only earlier bookings are in the way: report the fullest window
                refusals = [self._fullest_window(additions, now)]
        if intent.record:
            self._record_refused(additions, now)
        with self._without(self._latest(additions)):
            reasons = [(each[1], i, self._first(now, [each], i)) for each, i in refusals]
            return Verdict(now, self._first(start, additions), None, reasons)

    def refund(self, receipt: _Receipt) -> None:
        """See `Backend.refund`."""
        for name in [name for name, (_, each) in self._answers.items() if each.receipt is receipt]:
            del self._answers[name]
        self._remove(receipt)

    def settle(self, receipt: _Receipt, charges: Sequence[Charge] | None = None) -> _Receipt:
        """See `Backend.settle`."""
        now = self._clock()
        self._remove(receipt)
        additions = receipt.additions if charges is None else _additions(charges)
        settled = self._record(additions, now, now)
        receipt[:], receipt.additions = settled, additions
        return receipt

    def redeem(self, receipt: _Receipt, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        now, additions, number = self._clock(), _additions(charges), receipt.number
        bookings = self._bookings.setdefault(receipt.queue[0], {})
        others = [other for other in bookings.values() if other is not receipt]
        if number is None:
            behind = [other for other in others if other.at > receipt.at]
        else:
            behind = [other for other in others if other.number > number]
        ahead = [other for other in others if not any(other is each for each in behind)]
        start = max([now, *(other.at for other in ahead)])
        is_early = number is not None and receipt.at > now
        left_out = [event for each in [receipt, *behind] for event in each if event.member is None]
        reasons: list[tuple[Count, int, int]] = []
        with self._without([*left_out, *self._latest(additions)]):
            at = receipt.at if is_early else self._first(start, additions)
            if at > now:
                refusals = self._refusals(additions, now)
                reasons = [(each[1], i, self._first(now, [each], i)) for each, i in refusals]
                if not reasons:
                    each, i = self._fullest_window(additions, now)
                    reasons = [(each[1], i, at)]
        if not is_early:
            self._remove(receipt)
            receipt[:], receipt.at = self._record(additions, now, at), at
            receipt.additions = additions
            if at > now:
                self._enqueue(receipt, next(self._numbers_ahead) if number is None else number, now)
        return Verdict(now, at, receipt, reasons)

    def _enqueue(self, booking: _Receipt, number: int, now: int) -> None:
        booking.number = number
        booking.in_queue = self._record([booking.queue], now, booking.at)
        self._bookings.setdefault(booking.queue[0], {})[number] = booking

    def _remove(self, receipt: _Receipt) -> None:
        """Remove the events of a receipt, and a booking from its queue."""
        for event in [*receipt, *receipt.in_queue]:
            # A later message to a unique recipient has moved its event.
            if event in self.events:
                self.events.remove(event)
                if event.previous is not None:
                    self.events.append(event.previous)
        receipt.in_queue = []
        if receipt.number is not None:
            self._bookings.get(receipt.queue[0], {}).pop(receipt.number, None)
            receipt.number = None

    def shard_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - there are no shards
        """See `Backend.shard_of`."""
        return ""

    def now(self) -> int:
        """Return the time of the clock."""
        return self._clock()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        now = self._clock()
        return [
            [
                self._reading((ledger.name, subject, count.unit), window, now)
                for window in count.windows
            ]
            for count in ledger.counts
        ]

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        shares: dict[str, float] = {}
        for subject in {event.name[1] for event in self.events if event.name[0] == ledger.name}:
            readings = self.usage(ledger, subject)
            shares[subject] = max(
                each.used / window.limit
                for count, of_count in zip(ledger.counts, readings, strict=True)
                for window, each in zip(count.windows, of_count, strict=True)
            )
        used = (subject for subject, share in shares.items() if share)
        return sorted(used, key=lambda subject: (-shares[subject], subject))[:n]

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        names = [(ledger.name, subject, unit) for ledger in ledgers for unit in range(len(UNITS))]
        self.events = [event for event in self.events if event.name not in names]
        for name in names:
            self._newest.pop(name, None)
            self._bookings.pop(name, None)

    def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        return Register(self._clock(), dict(self._registers.get(name, {})))

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        entries = {**self._registers.get(name, {}), **changes}
        self._registers[name] = {key: text for key, text in entries.items() if text is not None}

    @contextmanager
    def _without(self, left_out: Collection[_Event]) -> Iterator[None]:
        """Leave events out for a while, in which none is recorded."""
        events = self.events
        self.events = [event for event in events if event not in left_out]
        try:
            yield
        finally:
            self.events = events

    def _latest(self, additions: Sequence[_Addition]) -> list[_Event]:
        """Return the events of the unique recipients that additions are of."""
        return [
            event
            for name, _, _, members in additions
            for event in self._of(name)
            if event.member in members
        ]

    def _of(self, name: _Name) -> list[_Event]:
        return [event for event in self.events if event.name == name]

    def _present(self, name: _Name, now: int) -> int:
        """Return the time for this count, which is never before its newest event."""
        return max(now, self._newest.get(name, LONG_AGO))

    def _sums(self, name: _Name, window: Window, now: int) -> list[int]:
        """Return the sums of all windows that an event at `now` would be in."""
        at = self._present(name, now)
        events = [e for e in self._of(name) if window.denied or not e.refused]
        ends = [at, *(e.moment for e in events if at < e.moment < _leaves(window, at))]
        return [
            sum(e.cost for e in events if e.moment <= end < _leaves(window, e.moment))
            for end in ends
        ]

    def _fits(self, each: _Addition, window: Window, now: int) -> bool:
        """Return whether an addition fits at `now`, each part of it at its own time."""
        name, count, cost, _ = each
        with self._without([]):
            start = self._present(name, now)
            for offset, part in _parts(cost, count.windows):
                if max(self._sums(name, window, start + offset)) + part > window.limit:
                    return False
                self.events.append(_Event(name, start + offset, part, refused=False))
            return True

    def _first(self, start: int, additions: list[_Addition], only: int | None = None) -> int:
        """Return the first moment from `start` at which all fit, in every window or in `only`."""
        moments = {start}
        for name, count, cost, _ in additions:
            for event in self._of(name):
                for offset, _ in _parts(cost, count.windows):
                    moments.add(event.moment + 1 - offset)
                    moments.update(
                        _leaves(window, event.moment) - offset for window in count.windows
                    )
        return next(
            moment
            for moment in sorted(moments)
            if moment >= start
            and all(
                self._fits(each, window, moment)
                for each in additions
                for i, window in enumerate(each[1].windows)
                if only is None or i == only
            )
        )

    def _windows(self, additions: list[_Addition]) -> list[tuple[_Addition, int]]:
        return [(each, i) for each in additions for i in range(len(each[1].windows))]

    def _remaining(self, each: _Addition, window: int, now: int) -> int:
        name, count, *_ = each
        limit = count.windows[window].limit
        return max(0, limit - max(self._sums(name, count.windows[window], now)))

    def _fullest_window(self, additions: list[_Addition], now: int) -> tuple[_Addition, int]:
        """Return the window with the least room."""
        return min(
            self._windows(additions), key=lambda pair: self._remaining(pair[0], pair[1], now)
        )

    def _refusals(self, additions: list[_Addition], now: int) -> list[tuple[_Addition, int]]:
        return [
            (each, i)
            for each, i in self._windows(additions)
            if not self._fits(each, each[1].windows[i], now)
        ]

    def _record(self, additions: list[_Addition], now: int, at: int) -> _Receipt:
        recorded = _Receipt(additions)
        pieces = [
            (name, count, max(at, self._present(name, now)) + offset, part, members)
            for name, count, cost, members in additions
            for offset, part in _parts(cost, count.windows)
        ]
        for name, count, start, part, members in pieces:
            present = self._present(name, now)
            moment = max(present, start)
            events = [_Event(name, moment, part, refused=False)]
            if moment == present:
                self._newest[name] = present
                if members:
                    latest = {e.member: e for e in self._of(name) if e.member in members}
                    events = [
                        _Event(name, moment, 1, False, member, latest.get(member))
                        for member in members
                    ]
                    self.events = [e for e in self.events if e not in latest.values()]
            recorded += events
            self.events += events
            # A backend may forget an event that has left every window, but not when it left.
            for event in self._of(name):
                left = event.moment + self._span(name, count)
                if left <= present:
                    self._newest[name] = max(self._newest.get(name, LONG_AGO), left)
        return recorded

    def _span(self, name: _Name, count: Count) -> int:
        """Return how long an event can matter to any policy that used this name."""
        ledger, _, unit = name
        span = max(count.retention.span, self._spans.get((ledger, unit), 0))
        self._spans[ledger, unit] = span
        return span

    def _record_refused(self, additions: list[_Addition], now: int) -> None:
        for name, count, cost, _ in additions:
            if count.counts_denied:
                self._newest[name] = self._present(name, now)
                self.events.append(_Event(name, self._newest[name], cost, refused=True))

    def _reading(self, name: _Name, window: Window, now: int) -> Reading:
        sums = self._sums(name, window, now)
        events = [e for e in self._of(name) if window.denied or not e.refused]
        empty_at = max([now, *(_leaves(window, e.moment) for e in events)])
        return Reading(sums[0], max(0, window.limit - max(sums)), empty_at - now)


def _additions(charges: Sequence[Charge]) -> list[_Addition]:
    """Return each count of each charge, if it has a cost."""
    return [
        (
            (ledger.name, subject, count.unit),
            count,
            costs[count.unit],
            _members(costs, count.unit),
        )
        for ledger, subject, costs in charges
        for count in ledger.counts
        if costs[count.unit]
    ]


def _members(costs: Costs, unit: int) -> tuple[str, ...]:
    return costs.members.get(unit, ()) if isinstance(costs, UniqueCosts) else ()
