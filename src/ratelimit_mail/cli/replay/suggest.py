"""At which number each limit of a policy would touch no more than a given share of the senders."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import attrs

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.policy_numbers import alone, own_limits, with_number
from ratelimit_mail.cli.replay.run import Tries, run
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["Suggestion", "quota_of", "suggest"]


@attrs.frozen(kw_only=True)
class Suggestion:
    """The smallest number at which one limit, alone, would touch few enough senders.

    limit, tier: whose number it is; tier None is everybody.
    number: None where no message met the limit, or where too many senders are touched by
        overrides of it, whatever the number.
    touched, below: how many senders it touches at that number, and at one less; `below` is None
        where there is no lower number.
    """

    limit: Limit
    tier: str | None
    number: int | None
    touched: int
    below: int | None

    @property
    def text(self) -> str | None:
        """The limit with that number, in words."""
        return None if self.number is None else str(with_number(self.limit, self.number))


def suggest(
    policy: Policy,
    demand: Demand,
    quota: int,
    tries: Callable[[str], Tries],
) -> list[Suggestion]:
    """For each limit, where at most `quota` senders would be touched, found by replays.

    tries: gives the messages once more; it is told what for.
    """
    found = []
    for place, (tier, limit) in enumerate(own_limits(policy)):
        peaks = sorted(demand.by_sender[place].values(), reverse=True)

        def touched(number: int, place: int = place, limit: Limit = limit) -> int:
            words = f"Trying {with_number(limit, number)}"
            return _touched(alone(policy, place, number), tries(words))

        found.append(_suggestion(limit, tier, peaks, quota, touched))
    return found


def quota_of(touch: float, senders: int) -> int:
    """How many senders are at most `touch` percent of all of them."""
    return int(Fraction(str(touch)) * senders / 100)  # of the number as it is written


def _suggestion(
    limit: Limit,
    tier: str | None,
    peaks: list[int],
    quota: int,
    touched: Callable[[int], int],
) -> Suggestion:
    if not any(peaks):
        return Suggestion(limit=limit, tier=tier, number=None, touched=0, below=None)
    # Whose own peak is above the number is touched, and nobody else, where the count is the
    # sender's alone. For any other count this is but a good place to start from.
    start = max(1, peaks[quota]) if len(peaks) > quota else 1
    number, counts = _smallest(start, max(peaks), quota, touched)
    found = counts[number]
    if found > quota:
        return Suggestion(limit=limit, tier=tier, number=None, touched=found, below=None)
    below = counts.get(number - 1)
    return Suggestion(limit=limit, tier=tier, number=number, touched=found, below=below)


def _smallest(
    start: int, enough: int, quota: int, touched: Callable[[int], int]
) -> tuple[int, dict[int, int]]:
    """The number with at most `quota` senders touched, and more than that one below it.

    At `enough` nobody is touched but by an override; where those are too many, it is that.
    """
    counts: dict[int, int] = {}

    def fits(number: int) -> bool:
        counts[number] = touched(number)
        return counts[number] <= quota

    if fits(start):
        low, high = 0, start
        if start > 1 and not fits(start - 1):
            low = start - 1
    else:
        low, high = start, enough
        if start == enough or not fits(enough):
            return enough, counts
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high, counts


def _touched(policy: Policy, tries: Tries) -> int:
    """How many senders had a message refused by a limit."""
    senders: set[str] = set()

    def watch(_: int, envelope: Envelope, decision: Decision) -> None:
        if decision.limit is not None:
            senders.add(envelope.sender)

    clock = ManualClock(0)
    run(Limiter(policy, MemoryBackend(clock=clock)), clock, tries, watch)
    return len(senders)
