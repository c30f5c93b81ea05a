"""The sliding window in numbers: what a limit is, and how long an event matters to it.

Pure integers, as everything that decides on counts: no clock, no I/O. Times are milliseconds.
"""

from __future__ import annotations

from math import gcd

import attrs

__all__ = ["Retention", "Window"]


@attrs.frozen
class Window:
    """At most `limit` in any half-open interval of `length`.

    limit: in the unit of the count. length: milliseconds.
    resolution: milliseconds; events within one slot of it leave together, at the slot's end.
    denied: whether refused attempts count too.
    """

    limit: int
    length: int
    resolution: int = 1
    denied: bool = False

    def cutoff(self, moment: int) -> int:
        """Return the latest event that no longer counts at `moment`."""
        slot = self.resolution
        return (moment - self.length + 1) // slot * slot - 1

    def expiry(self, event: int) -> int:
        """Return the first moment at which `event` no longer counts."""
        slot = self.resolution
        return event // slot * slot + slot - 1 + self.length


@attrs.frozen
class Retention:
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
