"""The meaning of a limit, word for word: a plain list of all events, for comparison.

Slow and never forgetful. Where a backend answers otherwise, the backend is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from ratelimit_mail.backends.base import TAKE, Intent, Reading, Verdict
from ratelimit_mail.charge import Charge, Count
from ratelimit_mail.window import LONG_AGO, Window

__all__ = ["BruteForceBackend"]


@attrs.define(eq=False)
class _Event:
    count: str
    subject: str
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
        self._newest: dict[tuple[str, str], int] = {}

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        now = self._clock()
        if intent.refused:
            self._record_refused(charges, now)
            return Verdict(now, now)
        refusals = self._refusals(charges, now)
        start = now
        if intent.line is not None:
            start = max([now, *(event.moment for event in self._of(intent.line))])
            at = self._first(start, charges)
            if intent.patience is None or at - now <= intent.patience:
                booked = [*charges, intent.line] if at > now else charges
                return Verdict(now, at, self._record(booked, now, at))
        elif not refusals:
            return Verdict(now, now, self._record(charges, now, now) if intent.record else None)
        if intent.record:
            self._record_refused(charges, now)
            refusals = [(i, j, self._first(now, [charges[i]], j)) for i, j, _ in refusals]
        return Verdict(now, self._first(start, charges), None, refusals)

    def take_out(self, receipt: Iterable[_Event]) -> None:
        """See `Backend.take_out`."""
        taken = list(receipt)
        self.events = [event for event in self.events if event not in taken]

    def read(self, counts: Sequence[Count], subject: str) -> list[list[Reading]]:
        """See `Backend.read`."""
        now = self._clock()
        return [
            [self._reading((count, subject, 0), window, now) for window in count.windows]
            for count in counts
        ]

    def forget(self, counts: Sequence[Count], subject: str) -> None:
        """See `Backend.forget`."""
        for count in counts:
            gone = self._of((count, subject, 0))
            self.events = [event for event in self.events if event not in gone]
            self._newest.pop((count.name, subject), None)

    def _of(self, charge: Charge) -> list[_Event]:
        count, subject, _ = charge
        return [e for e in self.events if e.count == count.name and e.subject == subject]

    def _present(self, charge: Charge, now: int) -> int:
        """Time as the count sees it: never before its newest event."""
        return max(now, self._newest.get((charge[0].name, charge[1]), LONG_AGO))

    def _sums(self, charge: Charge, window: Window, now: int) -> list[int]:
        """What each window holds that an event at `now` would be in."""
        at = self._present(charge, now)
        events = [e for e in self._of(charge) if window.denied or not e.refused]
        ends = [at, *(e.moment for e in events if at < e.moment < _leaves(window, at))]
        return [
            sum(e.cost for e in events if e.moment <= end < _leaves(window, e.moment))
            for end in ends
        ]

    def _fits(self, charge: Charge, window: Window, now: int) -> bool:
        return max(self._sums(charge, window, now)) + charge[2] <= window.limit

    def _first(self, start: int, charges: Sequence[Charge], only: int | None = None) -> int:
        """The first moment from `start` on at which all fit, in each window or in one."""
        moments = {start}
        for charge in charges:
            for event in self._of(charge):
                moments.add(event.moment + 1)
                moments.update(_leaves(window, event.moment) for window in charge[0].windows)
        return next(
            moment
            for moment in sorted(moments)
            if moment >= start
            and all(
                self._fits(charge, window, moment)
                for charge in charges
                for j, window in enumerate(charge[0].windows)
                if only is None or j == only
            )
        )

    def _refusals(self, charges: Sequence[Charge], now: int) -> list[tuple[int, int, int]]:
        return [
            (i, j, self._first(now, [charge], j))
            for i, charge in enumerate(charges)
            for j, window in enumerate(charge[0].windows)
            if not self._fits(charge, window, now)
        ]

    def _record(self, charges: Sequence[Charge], now: int, at: int) -> list[_Event]:
        recorded = []
        for charge in charges:
            count, subject, cost = charge
            present = self._present(charge, now)
            moment = max(present, at)
            if moment == present:
                self._newest[count.name, subject] = present
            recorded.append(_Event(count.name, subject, moment, cost, refused=False))
            self.events.append(recorded[-1])
            # A backend may forget what has left every window; then time stays behind it.
            for event in self._of(charge):
                left = event.moment + count.keeping.span
                if left <= present:
                    newest = self._newest.get((count.name, subject), LONG_AGO)
                    self._newest[count.name, subject] = max(newest, left)
        return recorded

    def _record_refused(self, charges: Sequence[Charge], now: int) -> None:
        for charge in charges:
            count, subject, cost = charge
            if count.counts_denied:
                present = self._present(charge, now)
                self._newest[count.name, subject] = present
                self.events.append(_Event(count.name, subject, present, cost, refused=True))

    def _reading(self, charge: Charge, window: Window, now: int) -> Reading:
        sums = self._sums(charge, window, now)
        events = [e for e in self._of(charge) if window.denied or not e.refused]
        empty_at = max([now, *(_leaves(window, e.moment) for e in events)])
        return Reading(sums[0], max(0, window.limit - max(sums)), empty_at - now)
