"""Ranking: the subjects that hold the largest shares of a window, found one after another."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

__all__ = ["Ranking"]


class Ranking:
    """The `n` subjects with the largest shares among those that were added.

    threshold: the share that a subject must exceed to be among them, so that a backend need not
        look closer at a subject that cannot hold more. It is 0.0 at first: subjects that use
        nothing are left out.

    A subject that is added several times, for several windows, has its largest share.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._shares: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        """The smallest share first; an entry that is not in `_shares` any more is skipped."""
        self.threshold = 0.0

    def add(self, subject: str, share: float) -> None:
        """Add a share of a window that a subject holds."""
        shares = self._shares
        if share <= self.threshold or share <= shares.get(subject, 0.0):
            return
        shares[subject] = share
        heappush(self._heap, (share, subject))
        if len(self._heap) > 4 * self._n + 64:
            self._heap = [(share, subject) for subject, share in shares.items()]
            heapify(self._heap)
        while len(shares) > self._n or (self._heap and not self._is_current(self._heap[0])):
            smallest = heappop(self._heap)
            if self._is_current(smallest):
                del shares[smallest[1]]
        if len(shares) == self._n:
            self.threshold = self._heap[0][0]

    def subjects(self) -> list[str]:
        """Return the subjects, the one with the largest share first."""
        return sorted(self._shares, key=lambda subject: (-self._shares[subject], subject))

    def _is_current(self, entry: tuple[float, str]) -> bool:
        share, subject = entry
        return self._shares.get(subject) == share
