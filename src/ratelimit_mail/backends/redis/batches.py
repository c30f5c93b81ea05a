"""Many messages: those that fit together at the price of one, the others by one script in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

import attrs

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import TAKE, Message, Verdict, verdict
from ratelimit_mail.backends.redis.codec import QUIET, BatchShare, Codec
from ratelimit_mail.backends.redis.scripts import APPLY
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.exceptions import BackendError

__all__ = ["Batches", "Name", "full_of", "share_nothing", "summed"]

MOST_AT_ONCE: Final = 100
"""How many messages one script decides on: others wait for about a millisecond meanwhile."""

MOST_CHARGES_AT_ONCE: Final = 500
"""The same for charges, each of which has one key or two, rarely up to four."""

MOST_SUMS: Final = 3
"""How often to ask for messages as one, each time without what had no room."""


@attrs.frozen
class Batches:
    """Messages, and the verdicts on those that are decided, by their numbers.

    link: the way to the server, of either colour.
    """

    calls: Codec
    link: Any
    messages: Sequence[Message]
    verdicts: dict[int, Verdict]
    _times: list[int] = attrs.field(init=False)

    @_times.default
    def _times_of_all(self) -> list[int]:
        return self.calls.times(len(self.messages))

    def decide(self, numbers: Sequence[int]) -> Steps[None]:
        """Decide on the messages of these numbers, whose counts one script reaches."""
        for batch in self._parts(numbers):
            left = yield from self._together(batch)
            if left:
                yield from self._in_order(left)

    def _parts(self, numbers: Sequence[int]) -> Iterable[list[int]]:
        batch: list[int] = []
        size = 0
        for number in numbers:
            if len(batch) == MOST_AT_ONCE or size >= MOST_CHARGES_AT_ONCE:
                yield batch
                batch, size = [], 0
            batch.append(number)
            size += len(self.messages[number][0])
        yield batch

    def _together(self, numbers: list[int]) -> Steps[list[int]]:
        """Charge those that fit together; gives the numbers of the others."""
        if len({self._times[number] for number in numbers}) > 1:
            return numbers
        apart: list[int] = []
        for _ in range(MOST_SUMS):
            if len(numbers) < 2:
                break
            messages = [self.messages[number] for number in numbers]
            charges, full = summed(messages)
            if not full:
                verdicts = yield from self._as_one(messages, charges, self._times[numbers[0]])
                if isinstance(verdicts, list):
                    self.verdicts.update(zip(numbers, verdicts, strict=True))
                    return sorted(apart)
                full = verdicts
            fits = share_nothing(messages, full)
            apart += [number for number, fit in zip(numbers, fits, strict=True) if not fit]
            numbers = [number for number, fit in zip(numbers, fits, strict=True) if fit]
        return sorted(apart + numbers)

    def _as_one(
        self, messages: Sequence[Message], charges: list[Charge], now: int
    ) -> Steps[list[Verdict] | set[Name]]:
        """The verdict on each where all fit together; else what has no room."""
        total = self.calls.pack(charges, TAKE, flags=QUIET, now=now)
        reply = yield partial(self.link.run, APPLY, total.keys, [total.message])
        at, _, whole, *_ = self.calls.verdict(total, reply)
        if whole is None:
            return full_of(charges, reply)
        return [verdict(at, at, BatchShare(each, whole)) for each, _ in messages]

    def _in_order(self, numbers: Sequence[int]) -> Steps[None]:
        packed = [
            self.calls.pack(*self.messages[number], now=self._times[number]) for number in numbers
        ]
        keys = [key for each in packed for key in each.keys]
        replies = yield partial(self.link.run, APPLY, keys, [each.message for each in packed])
        first_key = 1
        failed: BackendError | None = None
        for number, each, reply in zip(
            numbers, packed, replies if len(numbers) > 1 else [replies], strict=True
        ):
            try:
                self.verdicts[number] = self.calls.verdict(each, reply, first_key)
            except BackendError as error:
                failed = failed or error
            first_key += len(each.keys)
        if failed is not None:
            raise failed


Name = tuple[str, str]
"""A ledger's and a subject: what they count is charged together, or by each message itself."""


def summed(messages: Sequence[Message]) -> tuple[list[Charge], set[Name]]:
    """The charges of all messages as those of one, and what could not be asked for so."""
    sums: dict[Name, Charge] = {}
    full: set[Name] = set()
    added = False
    for charges, intent in messages:
        if intent is not TAKE:
            full.update(_names(charges))
        for charge in charges:
            ledger, subject, (a, b, c, d) = charge
            name = (ledger.name, subject)
            before = sums.get(name)
            if before is None:
                sums[name] = charge
            elif before[0] is not ledger:  # another tier has other limits
                full.add(name)
            else:
                w, x, y, z = before[2]
                sums[name] = (ledger, subject, (a + w, b + x, c + y, d + z))
                added = True
    if added:
        for name, (ledger, _, costs) in sums.items():
            for unit, smallest in ledger.bounds:
                if costs[unit] > smallest:
                    full.add(name)
    return list(sums.values()), full


def full_of(charges: Sequence[Charge], reply: Sequence[Any]) -> set[Name]:
    """What had no room, by the reply that refuses all as one."""
    names = [
        (ledger.name, subject)
        for ledger, subject, costs in charges
        for count in ledger.counts
        if costs[count.unit]
    ]
    _, _, _, _, refused, *numbers = reply
    return {names[number] for number in numbers[: 4 * refused : 4]}


def share_nothing(messages: Sequence[Message], full: Collection[Name]) -> list[bool]:
    """Which messages share nothing with `full`, not by way of other messages either."""
    named = [set(_names(charges)) for charges, _ in messages]
    reached = set(full)
    size = 0
    while len(reached) > size:
        size = len(reached)
        for names in named:
            if not names.isdisjoint(reached):
                reached |= names
    return [names.isdisjoint(reached) for names in named]


def _names(charges: Sequence[Charge]) -> list[Name]:
    return [(ledger.name, subject) for ledger, subject, _ in charges]
