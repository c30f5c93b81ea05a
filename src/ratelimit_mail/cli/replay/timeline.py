"""What happened when: decisions and mail per hour, bin by bin."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ratelimit_mail.cli.replay.tally import Counts
from ratelimit_mail.cli.replay.time_bins import HOUR, Bins
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope

__all__ = ["Busy", "Timeline"]


@attrs.frozen
class Busy:
    """The hour, or minute, with the most messages: when it begins, and how many."""

    start: int
    messages: int


class Timeline:
    """Decisions in each bin, and the mail of its busiest hour; a watcher of a replay.

    In bins of a minute it is mail per minute.
    """

    def __init__(self, bins: Bins) -> None:
        self.bins = bins
        self.outcomes = [Counts() for _ in range(len(bins))]
        self.unit = "minute" if bins.unit == "minute" else "hour"
        self._length = HOUR if self.unit == "hour" else HOUR // 60
        self._all: dict[int, int] = {}
        self._each: dict[tuple[int, str], int] = {}

    def add(self, time: int, envelope: Envelope, decision: Decision) -> None:
        """Count one message."""
        at = self.bins.find(time)
        if at is not None:
            self.outcomes[at].add(decision.action)
        hour = time // self._length
        self._all[hour] = self._all.get(hour, 0) + 1
        own = hour, envelope.sender
        self._each[own] = self._each.get(own, 0) + 1

    def busiest_hours(self) -> list[int]:
        """The most messages within one hour, for each bin."""
        return self._peaks((hour, n) for hour, n in self._all.items())

    def busiest_senders(self) -> list[int]:
        """The most messages of one sender within one hour, for each bin."""
        return self._peaks((hour, n) for (hour, _), n in self._each.items())

    def peak(self) -> Busy:
        """The hour with the most messages; of equals, the first."""
        hour, messages = max(self._all.items(), key=lambda item: (item[1], -item[0]))
        return Busy(hour * self._length, messages)

    def peak_of_one(self) -> tuple[str, Busy]:
        """The sender with the most messages within one hour, and that hour."""
        (hour, sender), messages = max(
            self._each.items(), key=lambda item: (item[1], -item[0][0], item[0][1])
        )
        return sender, Busy(hour * self._length, messages)

    def _peaks(self, found: Iterable[tuple[int, int]]) -> list[int]:
        peaks = [0] * len(self.bins)
        for hour, messages in found:
            at = self.bins.find(hour * self._length)
            if at is not None and messages > peaks[at]:
                peaks[at] = messages
        return peaks
