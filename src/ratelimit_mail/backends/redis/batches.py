"""Decide on many messages at once.

Messages that fit together are charged as one: one call, with each subject once. The other messages
are decided in order, many with one call of a script. In a cluster, such a call needs messages of
one slot; those that fit together may be of all slots of a node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import TAKE, Message, Verdict, verdict
from ratelimit_mail.backends.redis.codec import DENIALS_UNCOUNTED, BatchShare, PackedMessage
from ratelimit_mail.backends.redis.scripts import APPLY
from ratelimit_mail.backends.redis.single_slot import SingleSlotCalls
from ratelimit_mail.counting.charge import Charge, add_costs
from ratelimit_mail.exceptions import BackendError

__all__ = ["Batch", "CountedSubject", "find_independent", "refused_subjects", "sum_charges"]

MAX_MESSAGES_PER_CALL: Final = 100
"""How many messages one script decides on: other clients wait for about a millisecond meanwhile."""

MAX_CHARGES_PER_CALL: Final = 500
"""The same for charges, each of which has one key or two, rarely up to four."""

MAX_ATTEMPTS_AS_ONE: Final = 3
"""How often to try to charge messages as one, each time without those that had no room."""


class Batch:
    """Messages and, by their numbers, the verdicts on those that are decided.

    calls: runs scripts. verdicts: is filled.
    """

    def __init__(
        self, calls: SingleSlotCalls, messages: Sequence[Message], verdicts: dict[int, Verdict]
    ) -> None:
        self._calls = calls
        self._codec = calls.codec
        self._messages = messages
        self._verdicts = verdicts
        self._times = self._codec.times(len(messages))

    def decide_steps(self, numbers: Sequence[int]) -> Steps[None]:
        """Decide on the messages of these numbers, whose counts are in one slot."""
        for chunk in self._chunks(numbers):
            undecided = yield from self._charge_together_steps(chunk, self._run_steps)
            if undecided:
                yield from self._decide_in_order_steps(undecided)

    def charge_at_node_steps(self, node: Any, numbers: Sequence[int]) -> Steps[list[int]]:
        """Charge messages that fit together, whose counts are in several slots of one node.

        Returns the numbers of the others. These are all if the node cannot be asked in this way:
        some proxies accept no keys of several slots, and a slot may have moved to another node.
        """
        run_steps = partial(self._calls.apply_at_node_steps, node)
        undecided: list[int] = []
        for chunk in self._chunks(numbers):
            undecided += yield from self._charge_together_steps(chunk, run_steps)
        return undecided

    def _run_steps(self, packed: PackedMessage) -> Steps[Any]:
        return self._calls.run_steps(APPLY, packed.keys, [packed.message])

    def _chunks(self, numbers: Sequence[int]) -> Iterable[list[int]]:
        """Split the messages into chunks for one call each."""
        chunk: list[int] = []
        charges = 0
        for number in numbers:
            if len(chunk) == MAX_MESSAGES_PER_CALL or charges >= MAX_CHARGES_PER_CALL:
                yield chunk
                chunk, charges = [], 0
            chunk.append(number)
            charges += len(self._messages[number][0])
        yield chunk

    def _charge_together_steps(
        self, numbers: list[int], run_steps: Callable[[PackedMessage], Steps[Any]]
    ) -> Steps[list[int]]:
        """Charge the messages that fit together as one; return the numbers of the others.

        run_steps: applies a message, and returns the reply; None if it cannot be applied so.
        """
        if len({self._times[number] for number in numbers}) > 1:
            return numbers
        undecided: list[int] = []
        for _ in range(MAX_ATTEMPTS_AS_ONE):
            if len(numbers) < 2:
                break
            messages = [self._messages[number] for number in numbers]
            charges, excluded = sum_charges(messages)
            if not excluded:
                now = self._times[numbers[0]]
                total = self._codec.pack(charges, TAKE, flags=DENIALS_UNCOUNTED, now=now)
                reply = yield from run_steps(total)
                if reply is None:
                    break
                outcome = self._read_reply(messages, total, reply)
                if isinstance(outcome, list):
                    self._verdicts.update(zip(numbers, outcome, strict=True))
                    return sorted(undecided)
                excluded = outcome
            independent = find_independent(messages, excluded)
            pairs = list(zip(numbers, independent, strict=True))
            undecided += [number for number, is_independent in pairs if not is_independent]
            numbers = [number for number, is_independent in pairs if is_independent]
        return sorted(undecided + numbers)

    def _read_reply(
        self, messages: Sequence[Message], total: PackedMessage, reply: Any
    ) -> list[Verdict] | set[CountedSubject]:
        """Return the verdict on each message if all fit together, else what has no room.

        total: all of them as one message.
        """
        at, _, whole, *_ = self._codec.verdict(total, reply)
        if whole is None:
            return refused_subjects(total.charges, reply)
        return [verdict(at, at, BatchShare(own_charges, whole)) for own_charges, _ in messages]

    def _decide_in_order_steps(self, numbers: Sequence[int]) -> Steps[None]:
        """Decide on messages one after another, with one call."""
        packed = [
            self._codec.pack(*self._messages[number], now=self._times[number]) for number in numbers
        ]
        keys = [key for each in packed for key in each.keys]
        replies = yield from self._calls.run_steps(APPLY, keys, [each.message for each in packed])
        first_key = 1
        first_error: BackendError | None = None
        for number, each, reply in zip(
            numbers, packed, replies if len(numbers) > 1 else [replies], strict=True
        ):
            try:
                self._verdicts[number] = self._codec.verdict(each, reply, first_key)
            except BackendError as error:
                first_error = first_error or error
            first_key += len(each.keys)
        if first_error is not None:
            raise first_error


CountedSubject = tuple[str, str]
"""The name of a ledger, and a subject. All its counts are charged as one, or none."""


def sum_charges(messages: Sequence[Message]) -> tuple[list[Charge], set[CountedSubject]]:
    """Return the sum of all charges, and the subjects that cannot be charged as one.

    These are subjects of a message that is not simply charged, with limits that differ between
    messages, or whose sum is above a limit: it would be taken for one message that is spread.
    """
    sums: dict[CountedSubject, Charge] = {}
    excluded: set[CountedSubject] = set()
    for charges, intent in messages:
        if intent is not TAKE:
            excluded.update(_counted_subjects(charges))
        for charge in charges:
            ledger, subject, costs = charge
            name = (ledger.name, subject)
            before = sums.get(name)
            if before is None:
                sums[name] = charge
            elif before[0] is not ledger:  # another tier has other limits
                excluded.add(name)
            else:
                sums[name] = (ledger, subject, add_costs(before[2], costs))
    for name, (ledger, _, costs) in sums.items():
        for unit, smallest in ledger.bounds:
            if costs[unit] > smallest:
                excluded.add(name)
    return list(sums.values()), excluded


def refused_subjects(charges: Sequence[Charge], reply: Sequence[Any]) -> set[CountedSubject]:
    """Return the subjects without room, from a reply that refuses `charges`."""
    subjects = [
        (ledger.name, subject)
        for ledger, subject, costs in charges
        for count in ledger.counts
        if costs[count.unit]
    ]
    _, _, _, _, refused, *numbers = reply
    return {subjects[number] for number in numbers[: 4 * refused : 4]}


def find_independent(
    messages: Sequence[Message], excluded: Collection[CountedSubject]
) -> list[bool]:
    """Return for each message whether it shares no subject with `excluded`.

    A message that shares a subject with a dependent message is dependent too.
    """
    subjects_by_message = [set(_counted_subjects(charges)) for charges, _ in messages]
    dependent = set(excluded)
    size = 0
    while len(dependent) > size:
        size = len(dependent)
        for subjects in subjects_by_message:
            if not subjects.isdisjoint(dependent):
                dependent |= subjects
    return [subjects.isdisjoint(dependent) for subjects in subjects_by_message]


def _counted_subjects(charges: Sequence[Charge]) -> list[CountedSubject]:
    return [(ledger.name, subject) for ledger, subject, _ in charges]
