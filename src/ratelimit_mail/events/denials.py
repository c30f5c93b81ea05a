"""DenialTracker: notices who is refused for the first time, who keeps trying, and who is well again."""

from __future__ import annotations

from array import array
from operator import itemgetter
from typing import Final, NamedTuple

import attrs

from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.events.expiring import ExpiringMap
from ratelimit_mail.limits import Limit, RateLimit

__all__ = ["DAY", "DenialTracker", "Denied", "Refused"]

DAY: Final = 24 * 3600 * 1000
"""The window of what has none: a limit on one message, or a rule. In milliseconds."""


@attrs.define(eq=False)
class Denied:
    """A subject that a limit refuses, from the first refusal until a whole window without one.

    counted: the subject as counts know it. began: when the first refusal was. refusals: how many
    there were. told_at: when a first denial was told last. burst_at: the same of a burst.
    latest: when refusals since were.
    """

    sender: str
    counted: str
    subject: str
    limit: Limit | None
    tier: str | None
    client: Client
    began: int
    told_at: int
    refusals: int = 1
    burst_at: int | None = None
    latest: array[int] = attrs.field(factory=lambda: array("q"))


class Refused(NamedTuple):
    """What one refusal was.

    is_first: of `whose` in a window. burst: how many it completes, and in how many milliseconds
    they came.
    """

    whose: Denied
    is_first: bool
    burst: tuple[int, int] | None


class DenialTracker:
    """Who is refused. Not safe for threads.

    burst: how many more refusals within `within` milliseconds are a burst.
    """

    def __init__(self, burst: int, within: int, most: int) -> None:
        self._burst = burst
        self._within = within
        self._denied: ExpiringMap[tuple[str, int], Denied] = ExpiringMap(most)
        self._refused: ExpiringMap[str, int] = ExpiringMap(most)
        """When each subject was refused last, by whatever limit."""
        self._numbers: dict[Limit | None, int] = {}
        """Of the limits, because a number is a quicker key than a limit. A policy has few."""

    def __len__(self) -> int:
        return len(self._denied)

    def over(self, now: int) -> list[Denied]:
        """Those whom a limit has refused nothing for a whole window, since the last call."""
        well: list[tuple[int, Denied]] = []
        for each in self._denied.leave(now):
            # What has no window has no normal state to go back to, either.
            if not isinstance(each.limit, RateLimit):
                continue
            # While another limit speaks, this one refuses all the same.
            refused = self._refused.get(DAY, each.counted)
            if refused is not None and refused + each.limit.window > now:
                key = (each.counted, self._numbers[each.limit])
                self._denied.put(each.limit.window, key, each, refused)
            else:
                well.append((each.limit.window, each))
        self._refused.leave(now)
        return [each for _, each in sorted(well, key=itemgetter(0))]

    def refuse(
        self, envelope: Envelope, subject: tuple[str, str], decision: Decision, now: int
    ) -> Refused:
        """Note that `decision` refuses `subject`, which is given as counts know it and in words."""
        limit = decision.limit
        stay = limit.window if isinstance(limit, RateLimit) else DAY
        key = (subject[0], self._numbers.setdefault(limit, len(self._numbers)))
        whose = self._denied.get(stay, key)
        is_new = whose is None
        if whose is None:
            sender, client = envelope.sender, envelope.client
            whose = Denied(sender, *subject, limit, decision.tier, client, now, now)
        else:
            whose.sender, whose.client, whose.tier = envelope.sender, envelope.client, decision.tier
            whose.refusals += 1
        self._denied.put(stay, key, whose, now)
        self._refused.put(DAY, subject[0], now, now)
        burst: tuple[int, int] | None = None
        if not is_new and (whose.burst_at is None or now - whose.burst_at >= stay):
            burst = self._burst_of(whose, now)
        is_first = is_new or now - whose.told_at >= stay
        if is_first:
            whose.told_at = now
        return Refused(whose, is_first, burst)

    def _burst_of(self, whose: Denied, now: int) -> tuple[int, int] | None:
        """The burst that this refusal completes, if it does."""
        latest = whose.latest
        latest.append(now)
        if len(latest) < self._burst:
            return None
        took = now - latest[0]
        if took >= self._within:
            del latest[0]
            return None
        whose.burst_at = now
        del latest[:]
        return self._burst, took
