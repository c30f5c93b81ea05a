"""What one envelope adds to one count: all that a backend knows of a message."""

from __future__ import annotations

from math import gcd

import attrs

from ratelimit_mail.window import Keeping, Window

__all__ = ["Charge", "Count"]


@attrs.frozen(eq=False)
class Count:
    """Something counted per subject, and the windows that it must stay within.

    name: policy, scope and unit, in which no limit, window or tier stands, so that
        history outlives them. No two counts share it, whatever the subjects are.
    windows: those now in force for the message at hand.
    keeping: what a log must remember, for these windows and for every other of the policy.
    smallest: the smallest limit of the windows.
    counts_denied: whether a refused attempt is counted.
    """

    name: str
    windows: tuple[Window, ...]
    keeping: Keeping
    smallest: int = attrs.field(init=False)
    counts_denied: bool = attrs.field(init=False)

    @smallest.default
    def _smallest(self) -> int:
        return min((window.limit for window in self.windows), default=0)

    @counts_denied.default
    def _counts_denied(self) -> bool:
        return any(window.denied for window in self.windows)

    @staticmethod
    def keeping_for(windows: tuple[Window, ...]) -> Keeping:
        """What serves each of `windows` exactly."""
        return Keeping(
            span=max(window.length + window.resolution - 1 for window in windows),
            slot=gcd(*(window.resolution for window in windows)),
            ceiling=max((window.limit for window in windows if window.denied), default=0),
            little=min(window.limit for window in windows),
        )


Charge = tuple[Count, str, int]
"""A count, a subject, and what is added there: a plain tuple, for the sake of speed."""
