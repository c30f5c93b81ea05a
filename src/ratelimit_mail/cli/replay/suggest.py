"""Suggest for each limit the smallest number that affects at most a given share of the senders."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import attrs

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.policy_variants import own_limits, with_number, with_only_limit
from ratelimit_mail.cli.replay.run import TimedEnvelopes, run
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["Suggestion", "quota_of", "suggest"]


@attrs.frozen(kw_only=True)
class Suggestion:
    """The smallest number at which one limit, by itself, affects few enough senders.

    limit, tier: the limit, and the name of its tier; None if it applies to all clients.
    number: None if no message is subject to the limit, or if overrides of it affect too many
        senders at any number.
    affected, affected_below: how many senders are affected at that number, and at one less;
        `affected_below` is None if there is no lower number.
    """

    limit: Limit
    tier: str | None
    number: int | None
    affected: int
    affected_below: int | None

    @property
    def text(self) -> str | None:
        """The limit with that number, in words."""
        return None if self.number is None else str(with_number(self.limit, self.number))


def suggest(
    policy: Policy,
    demand: Demand,
    quota: int,
    envelopes: Callable[[str], TimedEnvelopes],
) -> list[Suggestion]:
    """Suggest a number for each limit at which at most `quota` senders are affected.

    envelopes: returns the messages again for each replay; its argument labels the progress bar.
    """
    suggestions = []
    for index, (tier, limit) in enumerate(own_limits(policy)):
        peaks = sorted(demand.by_sender[index].values(), reverse=True)

        def affected(number: int, index: int = index, limit: Limit = limit) -> int:
            label = f"Trying {with_number(limit, number)}"
            return _affected(with_only_limit(policy, index, number), envelopes(label))

        suggestions.append(_suggestion(limit, tier, peaks, quota, affected))
    return suggestions


def quota_of(touch: float, senders: int) -> int:
    """Return how many senders are at most `touch` percent of all of them."""
    return int(Fraction(str(touch)) * senders / 100)  # exact for the decimal number


def _suggestion(
    limit: Limit,
    tier: str | None,
    peaks: list[int],
    quota: int,
    affected: Callable[[int], int],
) -> Suggestion:
    if not any(peaks):
        return Suggestion(limit=limit, tier=tier, number=None, affected=0, affected_below=None)
    # If each sender has a count of its own, exactly the senders whose peak is above the number
    # are affected. For any other scope this is only a good number to start from.
    start = max(1, peaks[quota]) if len(peaks) > quota else 1
    number, counts = _smallest(start, max(peaks), quota, affected)
    count = counts[number]
    if count > quota:
        return Suggestion(limit=limit, tier=tier, number=None, affected=count, affected_below=None)
    below = counts.get(number - 1)
    return Suggestion(limit=limit, tier=tier, number=number, affected=count, affected_below=below)


def _smallest(
    start: int, highest: int, quota: int, affected: Callable[[int], int]
) -> tuple[int, dict[int, int]]:
    """Find a number that affects at most `quota` senders, while one less affects more.

    At `highest`, only overrides can affect a sender; if they affect too many, return `highest`.
    Also return how many senders each number that was tried affects.
    """
    counts: dict[int, int] = {}

    def fits(number: int) -> bool:
        counts[number] = affected(number)
        return counts[number] <= quota

    if fits(start):
        low, high = 0, start
        if start > 1 and not fits(start - 1):
            low = start - 1
    else:
        low, high = start, highest
        if start == highest or not fits(highest):
            return highest, counts
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high, counts


def _affected(policy: Policy, envelopes: TimedEnvelopes) -> int:
    """Return how many senders have a message refused by a limit."""
    senders: set[str] = set()
    keys = sender_keys(policy)

    def note(_: int, envelope: Envelope, decision: Decision) -> None:
        if decision.limit is not None:
            senders.add(keys[envelope.sender])

    clock = ManualClock(0)
    run(Limiter(policy, MemoryBackend(clock=clock)), clock, envelopes, note)
    return len(senders)
