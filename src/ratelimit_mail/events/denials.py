"""DenialTracker: finds first denials, bursts of denials, and subjects that are back to normal."""

from __future__ import annotations

from array import array
from operator import itemgetter
from typing import Final, NamedTuple

import attrs

from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.events.expiring_map import ExpiringMap
from ratelimit_mail.limits import Limit, RateLimit

__all__ = ["DAY", "Denial", "DenialPeriod", "DenialTracker"]

DAY: Final = 24 * 3600 * 1000
"""The window, in milliseconds, of a limit on one message and of a rule, which have none."""


@attrs.define(eq=False)
class DenialPeriod:
    """The time in which one limit denies messages of one subject.

    It starts with the first denial, and ends when a whole window has passed without a denial.

    subject_key: the subject as the counts name it. subject: the same in words.
    start: the time of the first denial. denials: how many there were.
    first_denial_at: when a first denial was last reported. burst_at: when a burst was.
    recent: the times of the denials that may make up the next burst.
    """

    sender: str
    subject_key: str
    subject: str
    limit: Limit | None
    tier: str | None
    client: Client
    start: int
    first_denial_at: int
    denials: int = 1
    burst_at: int | None = None
    recent: array[int] = attrs.field(factory=lambda: array("q"))


class Denial(NamedTuple):
    """One denial, and what it means for its subject.

    is_first: whether it is the first denial in a window, to be reported.
    burst: if it completes a burst, how many denials that has, and how many milliseconds it took.
    """

    period: DenialPeriod
    is_first: bool
    burst: tuple[int, int] | None


class DenialTracker:
    """Track which subjects are denied by which limits. Not thread-safe.

    burst: how many denials after the first, within `within` milliseconds, are a burst.
    most: the largest number of subjects to remember.
    """

    def __init__(self, burst: int, within: int, most: int) -> None:
        self._burst = burst
        self._within = within
        self._periods: ExpiringMap[tuple[str, int], DenialPeriod] = ExpiringMap(most)
        self._latest: ExpiringMap[str, int] = ExpiringMap(most)
        """When each subject was last denied, by any limit."""
        self._limit_numbers: dict[Limit | None, int] = {}
        """A number for each limit of the policy: hashing it is faster than hashing the limit."""

    def __len__(self) -> int:
        return len(self._periods)

    def may_have_ended(self, now: int) -> bool:
        """Return whether `pop_ended` has anything to do at `now`."""
        return now >= self._periods.next_expiry or now >= self._latest.next_expiry

    def pop_ended(self, now: int) -> list[DenialPeriod]:
        """Return the periods that have ended since the last call, the shortest window first."""
        ended: list[tuple[int, DenialPeriod]] = []
        for period in self._periods.pop_expired(now):
            # Without a window there is no normal state to return to.
            if not isinstance(period.limit, RateLimit):
                continue
            # While another limit denies the subject, this limit may deny it as well.
            latest = self._latest.get(DAY, period.subject_key)
            if latest is not None and latest + period.limit.window > now:
                key = (period.subject_key, self._limit_numbers[period.limit])
                self._periods.put(period.limit.window, key, period, latest)
            else:
                ended.append((period.limit.window, period))
        self._latest.pop_expired(now)
        return [period for _, period in sorted(ended, key=itemgetter(0))]

    def record(
        self, envelope: Envelope, subject: tuple[str, str], decision: Decision, now: int
    ) -> Denial:
        """Record that `decision` denies a message of `subject`.

        subject: the subject as the counts name it, and in words.
        """
        limit = decision.limit
        window = limit.window if isinstance(limit, RateLimit) else DAY
        key = (subject[0], self._limit_numbers.setdefault(limit, len(self._limit_numbers)))
        period = self._periods.get(window, key)
        is_new = period is None
        if period is None:
            sender, client = envelope.sender, envelope.client
            period = DenialPeriod(sender, *subject, limit, decision.tier, client, now, now)
        else:
            period.sender, period.client = envelope.sender, envelope.client
            period.tier = decision.tier
            period.denials += 1
        self._periods.put(window, key, period, now)
        self._latest.put(DAY, subject[0], now, now)
        burst: tuple[int, int] | None = None
        if not is_new and (period.burst_at is None or now >= _renewed_at(limit, period.burst_at)):
            burst = self._complete_burst(period, now)
        is_first = is_new or now >= _renewed_at(limit, period.first_denial_at)
        if is_first:
            period.first_denial_at = now
        return Denial(period, is_first, burst)

    def _complete_burst(self, period: DenialPeriod, now: int) -> tuple[int, int] | None:
        """Add a denial to `period`, and return the burst that it completes, if any."""
        recent = period.recent
        recent.append(now)
        if len(recent) < self._burst:
            return None
        duration = now - recent[0]
        if duration >= self._within:
            del recent[0]
            return None
        period.burst_at = now
        del recent[:]
        return self._burst, duration


def _renewed_at(limit: Limit | None, moment: int) -> int:
    return limit.renewed_at(moment) if isinstance(limit, RateLimit) else moment + DAY
