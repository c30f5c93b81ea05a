"""Suggest for each limit a number that affects at most a given share of the senders.

The smallest such number is found, and rounded up to one that a person would set. If some senders
look like a theft or like bulk mail, a second number is found without their mail: a limit must not
make room for a theft. What each number would have done is counted with all mail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import count, islice
from typing import Final

import attrs

from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.cli.replay.decider import decider
from ratelimit_mail.cli.replay.demand import Demand
from ratelimit_mail.cli.replay.policy_variants import own_limits, with_number, with_only_limit
from ratelimit_mail.cli.replay.run import TimedEnvelopes
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.policy import Policy

__all__ = ["Effect", "Numbers", "Smallest", "Suggestion", "quota_of", "round_up", "suggest"]

SENSIBLE_RECIPIENTS: Final = 100
"""Every mail server must accept so many recipients of one message (RFC 5321, 4.5.3.1.8)."""

STEPS: Final = (10, 15, 20, 25, 30, 40, 50, 60, 80)
"""The first two digits of round numbers; 1.5 and 2.5 are left out below 10."""

MOST_ROUNDED: Final = 5
"""How many round numbers are tried, where a higher number may affect more senders."""


@attrs.frozen(kw_only=True)
class Effect:
    """What a limit with some number, by itself, would have done to all mail.

    senders, messages: how many would have been affected, and refused.
    senders_apart, messages_apart: how many of these are of the senders that are set apart.
    """

    number: int
    text: str
    senders: int
    messages: int
    senders_apart: int
    messages_apart: int


@attrs.frozen
class Smallest:
    """The smallest number at which few enough senders of some mail are affected.

    number: None if no message is subject to the limit, or if overrides of it affect too many
        senders at any number.
    affected, affected_below: how many senders of this mail are affected at that number, and at one
        less; `affected_below` is None if there is no lower number.
    rounded: the next round number.
    """

    number: int | None
    affected: int = 0
    affected_below: int | None = None
    rounded: int | None = None


@attrs.frozen
class Numbers(Smallest):
    """The smallest number, and what it and the round one would have done to all mail."""

    exact_effect: Effect | None = None
    rounded_effect: Effect | None = None


@attrs.frozen(kw_only=True)
class Suggestion:
    """The numbers of one limit by itself.

    limit, tier: the limit, and the name of its tier; None if it applies to all clients.
    numbers: those for all mail.
    without: those for the mail without the senders that are set apart; None if there are none.
    remark: why a number is higher than the mail needs, or what a low one would do.
    """

    limit: Limit
    tier: str | None
    numbers: Numbers
    without: Numbers | None = None
    remark: str | None = None

    @property
    def best(self) -> Numbers:
        """The numbers without the senders that are set apart, if there are such senders."""
        return self.numbers if self.without is None else self.without

    @property
    def number(self) -> int | None:
        """The smallest number for all mail."""
        return self.numbers.number

    @property
    def affected(self) -> int:
        """How many senders it affects."""
        return self.numbers.affected

    @property
    def affected_below(self) -> int | None:
        """How many senders one less affects."""
        return self.numbers.affected_below

    @property
    def text(self) -> str | None:
        """The limit with the smallest number for all mail, in words."""
        return None if self.number is None else str(with_number(self.limit, self.number))


def suggest(
    policy: Policy,
    demand: Demand,
    quota: int,
    envelopes: Callable[[str], TimedEnvelopes],
    *,
    apart: Collection[str] = (),
    quota_without: int = 0,
) -> list[Suggestion]:
    """Suggest numbers for each limit at which at most `quota` senders are affected.

    envelopes: returns the messages again for each replay; its argument labels the progress bar.
    apart: the keys of senders without which numbers are found, too; `quota_without` is for these.
    """
    suggestions = []
    for index, (tier, limit) in enumerate(own_limits(policy)):
        trial = _Trial(policy, demand, index, limit, envelopes, frozenset(apart))
        smallest = [trial.smallest(quota)]
        if apart:
            smallest.append(trial.smallest(quota_without, trial.apart))
        numbers, *without = trial.with_effects(smallest)
        suggestion = Suggestion(
            limit=limit, tier=tier, numbers=numbers, without=without[0] if without else None
        )
        suggestions.append(attrs.evolve(suggestion, remark=_remark(suggestion)))
    return suggestions


def quota_of(touch: float, senders: int) -> int:
    """Return how many senders are at most `touch` percent of all of them."""
    return int(Fraction(str(touch)) * senders / 100)  # exact for the decimal number


def round_up(number: int) -> int:
    """Return the smallest round number that is not below `number`: 42 becomes 50, 104 becomes 150.

    Round are 1, 1.5, 2, 2.5, 3, 4, 5, 6 and 8 times a power of ten, if they are whole.
    """
    return next(_round_numbers(number))


def _round_numbers(least: int) -> Iterator[int]:
    for power in count():
        for step in STEPS:
            value, rest = divmod(step * 10**power, 10)
            if not rest and value >= least:
                yield value


class _Trial:
    """The replays of one limit with different numbers.

    Where each sender has a count of its own, a number affects exactly the senders whose peak is
    above it, and only their mail is replayed. For any other limit, all mail is.
    """

    def __init__(
        self,
        policy: Policy,
        demand: Demand,
        index: int,
        limit: Limit,
        envelopes: Callable[[str], TimedEnvelopes],
        apart: frozenset[str],
    ) -> None:
        self.apart = apart
        self._policy = policy
        self._index = index
        self._limit = limit
        self._envelopes = envelopes
        self._keys = sender_keys(policy)
        self._by_sender = demand.by_sender[index]
        overrides = with_only_limit(policy, index, 1).overrides
        self._counts_senders = demand.counts_senders[index] and not overrides
        self._refused: dict[tuple[int, frozenset[str]], Counter[str]] = {}

    def smallest(self, quota: int, without: frozenset[str] = frozenset()) -> Smallest:
        """Find the smallest number that affects at most `quota` senders of some mail."""
        peaks = [peak for key, peak in self._by_sender.items() if key not in without]
        peaks.sort(reverse=True)
        if not any(peaks):
            return Smallest(None)

        def affected(number: int) -> int:
            if self._counts_senders:
                return sum(1 for peak in peaks if peak > number)
            return len(self._replayed([number], without)[0])

        # If each sender has a count of its own, exactly the senders whose peak is above the number
        # are affected. For any other scope this is only a good number to start from.
        start = max(1, peaks[quota]) if len(peaks) > quota else 1
        number, counts = _smallest(start, max(peaks), quota, affected)
        if counts[number] > quota:
            return Smallest(None, counts[number])
        rounded = round_up(number)
        if isinstance(self._limit, RecipientLimit):
            rounded = max(rounded, SENSIBLE_RECIPIENTS)
        elif not self._counts_senders:
            tried = islice(_round_numbers(number), MOST_ROUNDED)
            rounded = next((each for each in tried if affected(each) <= quota), number)
        return Smallest(number, counts[number], counts.get(number - 1), rounded)

    def with_effects(self, smallest: Sequence[Smallest]) -> list[Numbers]:
        """Return the numbers with what each of them would have done to all mail."""
        numbers = sorted(
            {n for each in smallest for n in (each.number, each.rounded) if n is not None}
        )
        refused = dict(zip(numbers, self._replayed(numbers), strict=True))
        effects = {number: self._effect(number, refused[number]) for number in numbers}
        return [
            Numbers(
                each.number,
                each.affected,
                each.affected_below,
                each.rounded,
                None if each.number is None else effects[each.number],
                None if each.rounded is None else effects[each.rounded],
            )
            for each in smallest
        ]

    def _effect(self, number: int, refused: Counter[str]) -> Effect:
        of_apart = [refused[key] for key in self.apart if key in refused]
        return Effect(
            number=number,
            text=str(with_number(self._limit, number)),
            senders=len(refused),
            messages=refused.total(),
            senders_apart=len(of_apart),
            messages_apart=sum(of_apart),
        )

    def _replayed(
        self, numbers: Sequence[int], without: frozenset[str] = frozenset()
    ) -> list[Counter[str]]:
        """Return for each number how many messages of each sender the limit would have refused.

        without: senders whose mail is not replayed.
        """
        missing = [each for each in numbers if (each, without) not in self._refused]
        if missing:
            policies = [with_only_limit(self._policy, self._index, each) for each in missing]
            only = None
            if self._counts_senders:
                only = {key for key, peak in self._by_sender.items() if peak > min(missing)}
            texts = ", ".join(f"{each:,}" for each in missing)
            label = f"Trying {texts} for {with_number(self._limit, missing[0])}"
            envelopes = self._envelopes(label) if only is None or only else ()
            counters = _refused(policies, envelopes, self._keys, only, without)
            for each, counter in zip(missing, counters, strict=True):
                self._refused[each, without] = counter
        return [self._refused[each, without] for each in numbers]


def _refused(
    policies: Sequence[Policy],
    envelopes: TimedEnvelopes,
    keys: Mapping[str, str],
    only: Collection[str] | None,
    without: Collection[str],
) -> list[Counter[str]]:
    """Return for each policy how many messages of each sender a limit refuses."""
    deciders = [decider(policy) for policy in policies]
    counters = [Counter[str]() for _ in policies]
    pairs = list(zip(deciders, counters, strict=True))
    for time, envelope in envelopes:
        key = keys[envelope.sender]
        if key in without or (only is not None and key not in only):
            continue
        for decide, counter in pairs:
            if decide(time, envelope).limit is not None:
                counter[key] += 1
    return counters


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


def _remark(suggestion: Suggestion) -> str | None:
    """Return what has to be said of a low number of recipients."""
    limit, numbers = suggestion.limit, suggestion.best
    if numbers.number is None or numbers.rounded is None:
        return None
    minimum = f"mail servers must accept {SENSIBLE_RECIPIENTS} (RFC 5321, 4.5.3.1.8)"
    if isinstance(limit, RecipientLimit):
        if numbers.number >= SENSIBLE_RECIPIENTS:
            return None
        return f"this mail needs only {numbers.number:,} recipients a message, but {minimum}"
    if not isinstance(limit, RateLimit) or limit.unit != "recipients":
        return None
    if numbers.rounded >= SENSIBLE_RECIPIENTS or limit.on_oversize == "spread":
        return None
    return f"a message to more than {numbers.rounded:,} recipients could never go, and {minimum}"
