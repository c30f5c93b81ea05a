"""The window of a limit in numbers: what a limit is, and how long an event matters to it.

A window is sliding, or one period of a calendar (`CalendarWindow`, in a module of its own because
few limits have one). All else asks for `cutoff` and `expiry`. Pure integers, as everything that
decides on counts: no clock, no I/O. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import NamedTuple

import attrs

__all__ = ["Retention", "Window", "spread_schedule"]


@attrs.frozen
class Window:
    """At most `limit` in any half-open interval of `length`.

    limit: in the unit of the count. length: milliseconds.
    resolution: milliseconds; events within one slot of it leave together, at the slot's end.
    denied: whether refused attempts count too.
    spread: whether a cost above the limit is admitted into an empty window, and then holds it for
        as many windows as it takes.
    """

    limit: int
    length: int
    resolution: int = 1
    denied: bool = False
    spread: bool = False

    def cutoff(self, moment: int) -> int:
        """Return the latest event that no longer counts at `moment`."""
        slot = self.resolution
        return (moment - self.length + 1) // slot * slot - 1

    def expiry(self, event: int) -> int:
        """Return the first moment at which `event` no longer counts."""
        slot = self.resolution
        return event // slot * slot + slot - 1 + self.length


def spread_schedule(cost: int, windows: Iterable[Window]) -> list[tuple[int, int]]:
    """Return how a cost is spread over time: offsets in milliseconds, each with its part.

    As early as the windows that spread admit it, on empty counts. A cost within their limits is
    one part at offset 0.
    """
    spreading = [window for window in windows if window.spread and window.limit < cost]
    if not spreading:
        return [(0, cost)]
    spans = [(window.limit, window.length + window.resolution - 1) for window in spreading]
    schedule: list[tuple[int, int]] = []
    starts = [0] * len(spans)
    held = [0] * len(spans)
    offset = 0
    while True:
        for i, (_, span) in enumerate(spans):
            while starts[i] < len(schedule) and schedule[starts[i]][0] + span <= offset:
                held[i] -= schedule[starts[i]][1]
                starts[i] += 1
        part = min(cost, *(limit - held[i] for i, (limit, _) in enumerate(spans)))
        if part > 0:
            schedule.append((offset, part))
            held = [each + part for each in held]
            cost -= part
        if cost == 0:
            return schedule
        offset = min(
            schedule[starts[i]][0] + span
            for i, (_, span) in enumerate(spans)
            if starts[i] < len(schedule)
        )


class Retention(NamedTuple):
    """What a log must remember for every window that reads it.

    span: for how many milliseconds an event can matter.
    slot: milliseconds; events within one slot may be merged.
    ceiling: the largest limit that counts refused attempts; 0 for none.
    """

    span: int
    slot: int = 1
    ceiling: int = 0

    def together_with(self, other: Retention) -> Retention:
        """Return what serves the windows of both."""
        return Retention(
            max(self.span, other.span), gcd(self.slot, other.slot), max(self.ceiling, other.ceiling)
        )
