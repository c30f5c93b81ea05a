"""A share of each limit, for one of several processes that count on their own in an outage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Refusal, counts_of
from ratelimit_mail.counting.charge import Charge, Count, Ledger

__all__ = ["FallbackShare"]

MOST_LEDGERS: Final = 4096


class FallbackShare:
    """Charges under a share of their limits.

    share: above 0, at most 1. A limit of 30 and a share of 1/8 make a limit of 3.
    """

    def __init__(self, share: float) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise TypeError(f"fallback_share: a number such as 1/8 is needed, not {show(share)}")
        if not 0 < share <= 1:
            raise ValueError(f"fallback_share: {show(share)} is not above 0 and at most 1")
        # A little more, or the 1/49 of a float would leave nothing of 49.
        self._share = share * (1 + 1e-15)
        self._ledgers: dict[Ledger, Ledger] = {}

    def of(self, charges: Sequence[Charge]) -> list[Charge]:
        """Return the same charges under the share of their limits."""
        return [
            (self._ledgers.get(ledger) or self._shared(ledger), subject, costs)
            for ledger, subject, costs in charges
        ]

    @staticmethod
    def fits(charges: Sequence[Charge]) -> bool:
        """Return whether charges from `of` could fit into empty counts."""
        return all(
            costs[count.unit] <= count.most
            for ledger, _, costs in charges
            for count in ledger.counts
            if costs[count.unit]
        )

    @staticmethod
    def whole(
        refusals: Sequence[Refusal], shared: Sequence[Charge], charges: Sequence[Charge]
    ) -> list[Refusal]:
        """Return refusals of `shared` with the counts of `charges`, which they are a share of."""
        whole = dict(zip(counts_of(shared), counts_of(charges), strict=True))
        return [(whole[count], window, at) for count, window, at in refusals]

    def _shared(self, ledger: Ledger) -> Ledger:
        if len(self._ledgers) >= MOST_LEDGERS:
            self._ledgers.clear()
        counts = []
        for count in ledger.counts:
            windows = [
                attrs.evolve(window, limit=int(window.limit * self._share))
                for window in count.windows
            ]
            counts.append(Count(count.unit, tuple(windows), count.retention))
        shared = Ledger(ledger.name, tuple(counts), ledger.span, ledger.tag_of)
        self._ledgers[ledger] = shared
        return shared
