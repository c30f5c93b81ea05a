"""The events of one count, kept as columns of running totals that forget what is over.

Pure integers: no clock, no I/O. Times are milliseconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from ratelimit_mail.counting.window import Keeping

__all__ = ["FAR_AHEAD", "LONG_AGO", "Columns"]

LONG_AGO: Final = -(1 << 62)
FAR_AHEAD: Final = 1 << 62


class Columns:
    """Events in the order of their times.

    Event `i` stands at `times[i]` and cost `sent[i + 1] - sent[i]`. `asked` is the same
    with refused attempts added; it exists from the first of these on. What stands before
    `head` has left every window.

    `newest` is the latest event recorded for its own present: time never stands before
    it, so a clock that goes back frees no room.
    """

    __slots__ = ("asked", "compact_at", "head", "held", "newest", "sent", "times")

    def __init__(self, newest: int = LONG_AGO) -> None:
        self.times = array("q")
        self.sent = array("q", (0,))
        self.asked: array[int] | None = None
        self.head = 0
        self.held = 0
        """All that is held, refused attempts too: no window can hold more."""
        self.newest = newest
        self.compact_at = 64

    def _enter(self, at: int, sent: int, asked: int) -> None:
        """Put an event into its place in time, before whatever is booked after it."""
        times = self.times
        i = len(times)
        if times and times[-1] > at:
            i = bisect_right(times, at, self.head)
        if i > self.head and times[i - 1] == at:
            self._shift(i, len(self.sent), sent, asked)
            return
        times.insert(i, at)
        self.sent.insert(i, self.sent[i])
        if self.asked is not None:
            self.asked.insert(i, self.asked[i])
        self._shift(i + 1, len(self.sent), sent, asked)

    def _shift(self, start: int, end: int, sent: int, asked: int) -> None:
        """Raise the running totals from `start` up to `end`."""
        self.sent[start:end] = array("q", [total + sent for total in self.sent[start:end]])
        if self.asked is not None:
            self.asked[start:end] = array("q", [total + asked for total in self.asked[start:end]])

    def _drop_empty(self, start: int) -> None:
        """Drop the entries from `start` on that cost nothing any more."""
        columns = self._columns()
        kept = [
            i
            for i in range(start, len(self.times))
            if any(column[i] != column[i + 1] for column in columns)
        ]
        if len(kept) < len(self.times) - start:
            for column in columns:
                column[start:-1] = array("q", [column[i] for i in kept])
            self.times[start:] = array("q", [self.times[i] for i in kept])

    def _columns(self) -> list[array[int]]:
        return [self.sent] if self.asked is None else [self.sent, self.asked]

    def _forget(self, present: int, keeping: Keeping) -> None:
        """Forget what has left every window by `present`, and let time not fall back to it."""
        times, head = self.times, self.head
        gone = bisect_right(times, present - keeping.span, head)
        if gone > head:
            self.head = gone
            self.newest = max(self.newest, times[gone - 1] + keeping.span)
            column = self.sent if self.asked is None else self.asked
            self.held = column[-1] - column[gone]
            if gone > 16 and gone * 4 > len(times):
                self._cut()
        if len(times) >= self.compact_at:
            self._cut()
            if keeping.ceiling or keeping.slot > 1:
                self._compact(present, keeping)
            self.compact_at = 2 * len(self.times) + 64

    def _cut(self) -> None:
        head, self.head = self.head, 0
        del self.times[:head]
        del self.sent[:head]
        if self.asked is not None:
            del self.asked[:head]

    def _compact(self, present: int, keeping: Keeping) -> None:
        """Keep as one what no window can tell apart, so that memory stays bounded.

        That is what stands in one slot, and refused attempts so old that those after
        them fill the largest limit by themselves.
        """
        times, sent, asked, slot = self.times, self.sent, self.asked, keeping.slot
        past = bisect_right(times, present)
        refused = [] if asked is None else [a - s for a, s in zip(asked, sent, strict=True)]
        kept = array("q")
        starts: list[int] = []
        for i, time in enumerate(times):
            if i < past:
                if kept and kept[-1] // slot == time // slot:
                    kept[-1] = time
                    continue
                if (
                    refused
                    and sent[i] == sent[i + 1]
                    and refused[past] - refused[i + 1] >= keeping.ceiling
                ):
                    continue
            kept.append(time)
            starts.append(i)
        if past:
            self.newest = max(self.newest, times[past - 1])
        self.times = kept
        self.sent = array("q", [sent[i] for i in starts] + [sent[-1]])
        if asked is not None:
            self.asked = array("q", [asked[i] for i in starts] + [asked[-1]])
        column = self.sent if self.asked is None else self.asked
        self.held = column[-1] - column[0]
