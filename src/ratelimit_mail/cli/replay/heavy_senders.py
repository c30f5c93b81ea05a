"""Find the heaviest senders of some mail, and say what their mail looks like.

A sender is heavy if it has a day (UTC) with at least 100 external recipients. Each is judged by its
own mail alone, so that what one sender does never changes what another looks like:

- A *burst* is a day with at least 100 external recipients, and ten times as many as on any earlier
  day; the day before does not count, because a burst may last over midnight. Of a sender without
  earlier mail, it is a day with at least 1,000.
- A *theft* is a burst of which 80 % of the recipients never had mail of this sender before.
- *Bulk mail*, such as a newsletter, goes out at least four times, in the same size and at the same
  distance (80 % of the times within a quarter of the median), and at least half of its recipients
  had mail before.

If the files say only how many recipients a message has, whether they had mail before is not known:
then a burst of 1,000 is called a burst, and regular mail is bulk mail.

Memory: ten numbers for each sender, and for the 1,000 heaviest two samples of 500 recipients.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from heapq import nlargest, nsmallest
from statistics import median
from typing import Final, Literal, NamedTuple
from zlib import crc32

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.addresses import NULL_SENDER, DomainSet
from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.cli.replay.mail_records import PLACEHOLDER_DOMAIN
from ratelimit_mail.cli.replay.run import TimedEnvelopes
from ratelimit_mail.cli.replay.time_bins import DAY, HOUR, moment
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy import Policy

__all__ = ["BusyDays", "HeavySender", "Likeness", "heavy_senders"]

MINUTE: Final = HOUR // 60

HEAVY: Final = 100
"""External recipients in a day; mail servers must accept as many in one message (RFC 5321)."""

HEAVY_WITHOUT_HISTORY: Final = 1000
TIMES: Final = 10
NEW: Final = 0.8
"""A burst has so many external recipients, and so many times those of any day before; of those of a
theft, this share is new."""

MAILINGS: Final = 4
REGULAR: Final = 0.8
TOLERANCE: Final = 0.25
"""Bulk mail: at least so many days, of which this share is this near to the median."""

MOST: Final = 1000
SAMPLE: Final = 500
"""How many heavy senders are looked at, and how many recipients of one day of each."""

Likeness = Literal["theft", "burst", "bulk"]


@attrs.frozen(kw_only=True)
class HeavySender:
    """A heavy sender, and what its mail looks like. Recipients are external ones.

    key: the sender as its policy compares it. sender: as it was written first.
    looks_like: None if its mail looks like none of these.
    minute, hour, day: its recipients in the busiest minute, hour and day of the clock, in UTC.
    on: the day of the burst, or its busiest day. burst: the recipients of the burst; 0 without one.
    before: the recipients of the busiest day before the burst; None if it sent nothing before.
    external: which share of all its recipients was external.
    new: which share of the recipients of that day, or of the last mailing, had no mail before;
        None if the files do not say who the recipients are.
    mailings, size, every: of bulk mail: how many, the median of recipients, and days between two.
    """

    key: str
    sender: str
    looks_like: Likeness | None
    messages: int
    minute: int
    hour: int
    day: int
    on: date
    burst: int
    before: int | None
    external: float
    new: float | None
    mailings: int = 0
    size: int = 0
    every: int = 0

    @property
    def is_set_apart(self) -> bool:
        """Whether numbers are suggested without its mail, too."""
        return self.looks_like is not None

    @property
    def reason(self) -> str:
        """Why it looks like that, in words."""
        if self.looks_like == "bulk":
            days = "day" if self.every == 1 else f"{self.every} days"
            return f"{self.mailings} mailings to about {self.size:,} recipients, one every {days}"
        if self.looks_like is None:
            return f"{self.day:,} external recipients on {self.on}"
        before = "no earlier mail to compare with"
        if self.before is not None:
            before = f"at most {self.before:,} on any day before"
        text = f"{self.burst:,} external recipients on {self.on}, {before}"
        if self.new is None:
            return f"{text}; the files do not say who they are"
        return f"{text}; {self.new:.0%} of them never had mail from it"


class Burst(NamedTuple):
    """A burst: its day, and the recipients of that day and of the busiest day before, if any."""

    day: int
    size: int
    before: int | None


class BusyDays:
    """The busiest days of each sender, counted while mail is replayed, in order of time."""

    def __init__(self, policy: Policy) -> None:
        self._keys = sender_keys(policy)
        self._rows: dict[str, int] = {}
        internal = DomainSet(policy.internal_domains)
        self.external_of: Callable[[tuple[str, ...]], int] = BoundedCache(
            partial(_external, internal)
        ).__getitem__
        """Returns how many of the domains of a message's recipients are external."""
        columns: list[array[int]] = [array("q") for _ in range(9)]
        self._columns = columns
        self._first, self._day, self._today, self._yesterday, self._before = columns[:5]
        self._peak, self._burst, self._burst_day, self._burst_before = columns[5:]

    def add(self, time: int, envelope: Envelope, decision: Decision | None = None) -> None:
        """Count one message; a callback of `replay`."""
        del decision  # what was sent counts, also where the policy would have refused it
        key = self._keys[envelope.sender]
        day = time // DAY
        external = self.external_of(envelope.folded_domains)
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = len(self._day)
            for column, value in zip(
                self._columns, (day, day, external, 0, 0, 0, 0, 0, -1), strict=True
            ):
                column.append(value)
        elif day == self._day[row]:
            self._today[row] += external
        else:
            self._close(row, day)
            self._today[row] = external

    def heaviest(self) -> Iterator[tuple[str, int, Burst | None]]:
        """Yield the key, the recipients of the busiest day, and the burst of each heavy sender."""
        for row in range(len(self._day)):
            self._close(row, self._day[row])

        def weight(item: tuple[str, int]) -> tuple[bool, int, str]:
            key, row = item
            return self._burst[row] > 0, self._peak[row], key

        heavy = (item for item in self._rows.items() if self._peak[item[1]] >= HEAVY)
        for key, row in nlargest(MOST, heavy, key=weight):
            before = self._burst_before[row]
            burst = Burst(self._burst_day[row], self._burst[row], None if before < 0 else before)
            yield key, self._peak[row], burst if burst.size else None

    def _close(self, row: int, next_day: int) -> None:
        """Take the last day of a sender into account, after which it has mail on `next_day`."""
        day, today, before = self._day[row], self._today[row], self._before[row]
        if today > self._peak[row]:
            self._peak[row] = today
        has_history = self._first[row] < day - 1
        floor = HEAVY if has_history else HEAVY_WITHOUT_HISTORY
        if today >= max(floor, TIMES * before) and today > self._burst[row]:
            self._burst[row], self._burst_day[row] = today, day
            self._burst_before[row] = before if has_history else -1
        if next_day == day:
            return
        yesterday = self._yesterday[row]
        self._yesterday[row] = today if next_day == day + 1 else 0
        self._before[row] = max(before, yesterday, 0 if next_day == day + 1 else today)
        self._day[row] = next_day


def heavy_senders(
    policy: Policy, busy_days: BusyDays, envelopes: Callable[[str], TimedEnvelopes]
) -> list[HeavySender]:
    """Return the heavy senders: those that look like a theft, a burst and bulk mail, and the rest.

    Each group is sorted by the recipients of the busiest day, the most first.

    busy_days: has seen all messages. envelopes: returns them again; its argument labels the
        progress bar.
    """
    candidates = {
        key: _Candidate(key, peak, burst, busy_days.external_of)
        for key, peak, burst in busy_days.heaviest()
    }
    if not candidates:
        return []
    keys = sender_keys(policy)
    for time, envelope in envelopes("Looking at heavy senders"):
        candidate = candidates.get(keys[envelope.sender])
        if candidate is not None:
            candidate.add(time, envelope)
    for candidate in candidates.values():
        candidate.end_day()
    for time, envelope in envelopes("Looking for earlier mail"):
        candidate = candidates.get(keys[envelope.sender])
        if candidate is not None:
            candidate.discard_known(time, envelope)
    order = ("theft", "burst", "bulk", None)
    senders = (candidate.result() for candidate in candidates.values())
    return sorted(senders, key=lambda each: (order.index(each.looks_like), -each.day, each.key))


class _Sample:
    """Up to 500 of the recipients of one day: those with the smallest hashes."""

    def __init__(self) -> None:
        self.hashes: set[int] = set()
        self.size = 0
        self.named = 0
        self.recipients = 0

    def add(self, envelope: Envelope) -> None:
        """Add the recipients of a message, if the files say who they are."""
        domains = envelope.folded_domains
        self.recipients += len(domains)
        if domains and domains[0] == PLACEHOLDER_DOMAIN:
            return
        self.named += len(domains)
        self.hashes.update(map(_hash, envelope.folded_recipients))
        if len(self.hashes) > 2 * SAMPLE:
            self.hashes = set(nsmallest(SAMPLE, self.hashes))

    def close(self) -> None:
        """End the day: from now on, recipients with earlier mail are taken out."""
        self.hashes = set(nsmallest(SAMPLE, self.hashes))
        self.size = len(self.hashes)

    @property
    def new(self) -> float | None:
        """Which share had no earlier mail; None if it is not known of half of the recipients."""
        if not self.size or 2 * self.named < self.recipients:
            return None
        return len(self.hashes) / self.size


class _Candidate:
    """What is looked at more closely of one heavy sender."""

    def __init__(
        self,
        key: str,
        peak: int,
        burst: Burst | None,
        external_of: Callable[[tuple[str, ...]], int],
    ) -> None:
        self._key = key
        self._peak = peak
        self._burst = burst
        self._external_of = external_of
        self._sender = ""
        self._messages = 0
        self._recipients = 0
        self._external = 0
        self._busiest = {MINUTE: 0, HOUR: 0, DAY: 0}
        self._current = {MINUTE: (-1, 0), HOUR: (-1, 0), DAY: (-1, 0)}
        self._day = -1
        self._sample = _Sample()
        self._of_burst = _Sample()
        self._of_last = _Sample()
        self._last_day = -1
        self._days = array("q")
        self._sizes = array("q")
        """The days with at least half of the recipients of the busiest one."""

    def add(self, time: int, envelope: Envelope) -> None:
        """Count one message."""
        self._sender = self._sender or envelope.sender
        external = self._external_of(envelope.folded_domains)
        self._messages += 1
        self._recipients += len(envelope.folded_domains)
        self._external += external
        if time // DAY != self._day:
            self.end_day()
            self._day = time // DAY
        for length, (number, count) in self._current.items():
            count = count + external if number == time // length else external
            self._current[length] = time // length, count
            self._busiest[length] = max(self._busiest[length], count)
        self._sample.add(envelope)

    def end_day(self) -> None:
        """Take the last day into account, after its last message."""
        if self._day < 0:
            return
        size = self._current[DAY][1]
        if 2 * size >= self._peak:
            self._days.append(self._day)
            self._sizes.append(size)
        if self._burst is not None and self._day == self._burst.day:
            self._of_burst = self._sample
            self._of_burst.close()
        elif 2 * size >= self._peak:
            self._of_last, self._last_day = self._sample, self._day
            self._of_last.close()
        self._sample = _Sample()

    def discard_known(self, time: int, envelope: Envelope) -> None:
        """Take the recipients of an earlier message out of the samples."""
        day = time // DAY
        samples = []
        if self._burst is not None and day < self._burst.day and self._of_burst.hashes:
            samples.append(self._of_burst)
        if day < self._last_day and self._of_last.hashes:
            samples.append(self._of_last)
        if samples:
            hashes = set(map(_hash, envelope.folded_recipients))
            for sample in samples:
                sample.hashes -= hashes

    def result(self) -> HeavySender:
        """Return what the mail of this sender looks like."""
        gaps = [b - a for a, b in zip(self._days, self._days[1:], strict=False)]
        looks_like = self._likeness(gaps)
        is_bulk = looks_like == "bulk"
        burst = None if is_bulk else self._burst
        on = self._days[self._sizes.index(max(self._sizes))] if burst is None else burst.day
        return HeavySender(
            key=self._key,
            sender=self._sender,
            looks_like=looks_like,
            messages=self._messages,
            minute=self._busiest[MINUTE],
            hour=self._busiest[HOUR],
            day=self._busiest[DAY],
            on=moment(on * DAY).date(),
            burst=0 if burst is None else burst.size,
            before=None if burst is None else burst.before,
            external=self._external / self._recipients,
            new=(self._of_last if burst is None else self._of_burst).new,
            mailings=len(self._days) if is_bulk else 0,
            size=round(median(self._sizes)) if is_bulk else 0,
            every=round(median(gaps)) if is_bulk else 0,
        )

    def _likeness(self, gaps: list[int]) -> Likeness | None:
        if self._key == NULL_SENDER:  # the bounces of a whole server
            return None
        if self._is_bulk(gaps):
            return "bulk"
        if self._burst is None:
            return None
        new = self._of_burst.new
        if new is None:
            return "burst" if self._burst.size >= HEAVY_WITHOUT_HISTORY else None
        return "theft" if new >= NEW else None

    def _is_bulk(self, gaps: list[int]) -> bool:
        if len(self._days) < MAILINGS or not (_is_regular(self._sizes) and _is_regular(gaps)):
            return False
        new = self._of_last.new
        return new is None or new <= 0.5


def _is_regular(numbers: Sequence[int]) -> bool:
    """Return whether most of some numbers are near to their median."""
    middle = median(numbers)
    near = sum(1 for each in numbers if abs(each - middle) <= TOLERANCE * middle)
    return near >= REGULAR * len(numbers)


def _external(internal: DomainSet, domains: tuple[str, ...]) -> int:
    return sum(1 for domain in domains if not internal[domain])


def _hash(address: str) -> int:
    """Return a hash of an address that is the same in each run."""
    return crc32(address.encode("utf-8", "surrogatepass"))
