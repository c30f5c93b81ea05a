"""The meaning of a limit, word for word: a plain list of all events, for comparison.

Slow and never forgetful. Where a backend answers otherwise, the backend is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Verdict
from ratelimit_mail.counting.charge import UNITS, Charge, Count, Ledger
from ratelimit_mail.counting.event_log import LONG_AGO
from ratelimit_mail.counting.window import Window

__all__ = ["BruteForceBackend"]


_Name = tuple[str, str, int]
"""Ledger, subject and unit: what tells one count of one subject from another."""

_Flat = tuple[_Name, Count, int]
"""One count of one subject, and what is added to it."""


@attrs.define(eq=False)
class _Event:
    name: _Name
    moment: int
    cost: int
    refused: bool


def _leaves(window: Window, moment: int) -> int:
    """The first moment at which an event no longer counts: its slot's last one, and a window."""
    end_of_slot = (moment // window.resolution + 1) * window.resolution - 1
    return end_of_slot + window.length


class BruteForceBackend:
    """A backend that keeps every event and tries every moment that could matter."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.events: list[_Event] = []
        self._newest: dict[_Name, int] = {}
        self._spans: dict[tuple[str, int], int] = {}
        self._told: dict[str, tuple[int, Verdict]] = {}

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        now, idempotency = self._clock(), intent.idempotency
        if idempotency is None:
            return self._rule(charges, intent, now)
        until, verdict = self._told.get(idempotency.name, (LONG_AGO, Verdict(now, now)))
        if now < until:
            return verdict._replace(now=now, at=max(now, verdict.at))
        verdict = self._rule(charges, intent, now)
        until = now + idempotency.lifetime
        self._told[idempotency.name] = (
            min(until, verdict.at) if verdict.refusals else until,
            verdict,
        )
        return verdict

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return [self.apply(*message) for message in messages]

    def _rule(self, charges: Sequence[Charge], intent: Intent, now: int) -> Verdict:
        flat = _flat(charges)
        if intent.refused:
            self._record_refused(flat, now)
            return Verdict(now, now)
        refusals = self._refusals(flat, now)
        start = now
        if intent.queue is not None:
            queue = _flat([intent.queue])
            start = max([now, *(event.moment for event in self._of(queue[0][0]))])
            at = self._first(start, flat)
            if intent.max_delay is None or at - now <= intent.max_delay:
                return Verdict(now, at, self._record(flat + queue if at > now else flat, now, at))
        elif not refusals:
            return Verdict(now, now, self._record(flat, now, now) if intent.record else None)
        if not refusals:  # only others in the line are in the way: the least room speaks
            refusals = [
                min(self._windows(flat), key=lambda pair: self._room(pair[0], pair[1], now))
            ]
        if intent.record:
            self._record_refused(flat, now)
        told = [(each[1], i, self._first(now, [each], i)) for each, i in refusals]
        return Verdict(now, self._first(start, flat), None, told)

    def refund(self, receipt: Iterable[_Event]) -> None:
        """See `Backend.refund`."""
        taken = list(receipt)
        for name in [name for name, (_, each) in self._told.items() if each.receipt is receipt]:
            del self._told[name]
        self.events = [event for event in self.events if event not in taken]

    def shard_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - it has no parts
        """See `Backend.shard_of`."""
        return ""

    def now(self) -> int:
        """The time that the clock gives."""
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

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        gone = [(ledger.name, subject, unit) for ledger in ledgers for unit in range(len(UNITS))]
        self.events = [event for event in self.events if event.name not in gone]
        for name in gone:
            self._newest.pop(name, None)

    def _of(self, name: _Name) -> list[_Event]:
        return [event for event in self.events if event.name == name]

    def _present(self, name: _Name, now: int) -> int:
        """Time as the count sees it: never before its newest event."""
        return max(now, self._newest.get(name, LONG_AGO))

    def _sums(self, name: _Name, window: Window, now: int) -> list[int]:
        """What each window holds that an event at `now` would be in."""
        at = self._present(name, now)
        events = [e for e in self._of(name) if window.denied or not e.refused]
        ends = [at, *(e.moment for e in events if at < e.moment < _leaves(window, at))]
        return [
            sum(e.cost for e in events if e.moment <= end < _leaves(window, e.moment))
            for end in ends
        ]

    def _fits(self, each: _Flat, window: Window, now: int) -> bool:
        name, _, cost = each
        return max(self._sums(name, window, now)) + cost <= window.limit

    def _first(self, start: int, flat: list[_Flat], only: int | None = None) -> int:
        """The first moment from `start` on at which all fit, in each window or in one."""
        moments = {start}
        for name, count, _ in flat:
            for event in self._of(name):
                moments.add(event.moment + 1)
                moments.update(_leaves(window, event.moment) for window in count.windows)
        return next(
            moment
            for moment in sorted(moments)
            if moment >= start
            and all(
                self._fits(each, window, moment)
                for each in flat
                for i, window in enumerate(each[1].windows)
                if only is None or i == only
            )
        )

    def _windows(self, flat: list[_Flat]) -> list[tuple[_Flat, int]]:
        return [(each, i) for each in flat for i in range(len(each[1].windows))]

    def _room(self, each: _Flat, window: int, now: int) -> int:
        name, count, _ = each
        limit = count.windows[window].limit
        return max(0, limit - max(self._sums(name, count.windows[window], now)))

    def _refusals(self, flat: list[_Flat], now: int) -> list[tuple[_Flat, int]]:
        return [
            (each, i)
            for each, i in self._windows(flat)
            if not self._fits(each, each[1].windows[i], now)
        ]

    def _record(self, flat: list[_Flat], now: int, at: int) -> list[_Event]:
        recorded = []
        for name, count, cost in flat:
            present = self._present(name, now)
            moment = max(present, at)
            if moment == present:
                self._newest[name] = present
            recorded.append(_Event(name, moment, cost, refused=False))
            self.events.append(recorded[-1])
            # A backend may forget what has left every window; then time stays behind it.
            for event in self._of(name):
                left = event.moment + self._span(name, count)
                if left <= present:
                    self._newest[name] = max(self._newest.get(name, LONG_AGO), left)
        return recorded

    def _span(self, name: _Name, count: Count) -> int:
        """How long an event matters to any policy of the name that was ever seen."""
        ledger, _, unit = name
        span = max(count.retention.span, self._spans.get((ledger, unit), 0))
        self._spans[ledger, unit] = span
        return span

    def _record_refused(self, flat: list[_Flat], now: int) -> None:
        for name, count, cost in flat:
            if count.counts_denied:
                self._newest[name] = self._present(name, now)
                self.events.append(_Event(name, self._newest[name], cost, refused=True))

    def _reading(self, name: _Name, window: Window, now: int) -> Reading:
        sums = self._sums(name, window, now)
        events = [e for e in self._of(name) if window.denied or not e.refused]
        empty_at = max([now, *(_leaves(window, e.moment) for e in events)])
        return Reading(sums[0], max(0, window.limit - max(sums)), empty_at - now)


def _flat(charges: Sequence[Charge]) -> list[_Flat]:
    """Each count of each charge that costs anything."""
    return [
        ((ledger.name, subject, count.unit), count, costs[count.unit])
        for ledger, subject, costs in charges
        for count in ledger.counts
        if costs[count.unit]
    ]
