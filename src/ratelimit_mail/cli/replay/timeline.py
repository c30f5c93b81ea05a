"""Timeline: the decisions in each bin of time, and the messages of each hour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo

import attrs

from ratelimit_mail.cli.replay.tally import DecisionCounts
from ratelimit_mail.cli.replay.time_bins import HOUR, Bins
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope

__all__ = ["Peak", "Rhythm", "Timeline"]


@attrs.frozen
class Peak:
    """The hour, or minute, with the most messages: its start, and their number."""

    start: int
    messages: int


@attrs.frozen
class Rhythm:
    """The messages of each hour of the week in a time zone, 168 numbers from Monday on.

    messages: all messages. refused: those that were deferred or rejected.
    """

    zone: tzinfo
    messages: list[int]
    refused: list[int]


class Timeline:
    """The decisions in each bin, and the messages of its busiest hour.

    If the bins are minutes, messages are counted per minute. Only those of the current hour are
    counted by sender, because messages come in the order of time.
    """

    def __init__(self, bins: Bins) -> None:
        self.bins = bins
        self.decisions = [DecisionCounts() for _ in range(len(bins))]
        self.unit = "minute" if bins.unit == "minute" else "hour"
        self._length = HOUR if self.unit == "hour" else HOUR // 60
        self._per_hour: dict[int, int] = {}
        self._refused_per_hour: dict[int, int] = {}
        self._hour = 0
        self._in_hour: dict[str, int] = {}
        """The messages of each sender in the current hour."""
        self._peak_of_one = (0, 0, "")
        """The most messages of one sender, the negative of their hour, and the sender."""
        self._spellings: dict[str, str] = {}
        """Each sender as written first, by the address without case."""

    def add(self, time: int, envelope: Envelope, decision: Decision) -> None:
        """Count one message; a callback of `replay`."""
        time_bin = self.bins.find(time)
        if time_bin is not None:
            self.decisions[time_bin].add(decision.action)
        hour = time // self._length
        self._per_hour[hour] = self._per_hour.get(hour, 0) + 1
        if decision.action is Action.DEFER or decision.action is Action.REJECT:
            self._refused_per_hour[hour] = self._refused_per_hour.get(hour, 0) + 1
        if hour != self._hour:
            self._end_hour()
            self._hour = hour
        sender = self._spellings.setdefault(envelope.folded_sender, envelope.sender)
        self._in_hour[sender] = self._in_hour.get(sender, 0) + 1

    def peak(self) -> Peak:
        """Return the hour with the most messages, the first if there are several."""
        hour, messages = max(self._per_hour.items(), key=lambda item: (item[1], -item[0]))
        return Peak(hour * self._length, messages)

    def peak_of_one_sender(self) -> tuple[str, Peak]:
        """Return the sender with the most messages within one hour, and that hour."""
        self._end_hour()
        messages, hour, sender = self._peak_of_one
        return sender, Peak(-hour * self._length, messages)

    def rhythm(self, zone: tzinfo) -> Rhythm:
        """Return the hours of the week.

        They are those of UTC if hours of the zone do not begin with hours of UTC: messages are
        counted by the hour.
        """
        messages = self._week(self._per_hour, zone)
        refused = self._week(self._refused_per_hour, zone)
        if messages is None or refused is None:
            return self.rhythm(UTC)
        return Rhythm(zone, messages, refused)

    def _week(self, counts: Mapping[int, int], zone: tzinfo) -> list[int] | None:
        week = [0] * 168
        for period, number in counts.items():
            start = period * self._length // HOUR * HOUR // 1000
            try:
                local = datetime.fromtimestamp(start, UTC).astimezone(zone)
            except OverflowError:  # after the year 9999
                return None
            if local.minute or local.second:
                return None
            week[24 * local.weekday() + local.hour] += number
        return week

    def _end_hour(self) -> None:
        """Take the current hour into account, which the next message is not in."""
        for sender, messages in self._in_hour.items():
            self._peak_of_one = max(self._peak_of_one, (messages, -self._hour, sender))
        self._in_hour.clear()
