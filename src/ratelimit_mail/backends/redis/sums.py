"""A batch of messages summed up: if all of them fit together, each does. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ratelimit_mail.backends.base import TAKE, Message, Verdict, verdict
from ratelimit_mail.backends.redis.calls import Packed, Receipt
from ratelimit_mail.charge import Charge, Costs, Ledger

__all__ = ["shared_out", "summed"]


def summed(messages: Sequence[Message]) -> list[Charge] | None:
    """The charges of all messages as those of one; None where it could not be asked for so."""
    sums: dict[tuple[str, str], tuple[Ledger, Costs]] = {}
    for charges, intent in messages:
        if intent is not TAKE:
            return None
        for ledger, subject, (a, b, c, d) in charges:
            name = (ledger.name, subject)
            before = sums.get(name)
            if before is None:
                sums[name] = (ledger, (a, b, c, d))
                continue
            if before[0] is not ledger:  # another tier has other limits
                return None
            w, x, y, z = before[1]
            sums[name] = (ledger, (a + w, b + x, c + y, d + z))
    for ledger, costs in sums.values():
        for unit, smallest in ledger.bounds:
            if costs[unit] > smallest:
                return None
    return [(ledger, subject, costs) for (_, subject), (ledger, costs) in sums.items()]


def shared_out(total: Packed, reply: Any, each: Sequence[Packed]) -> list[Verdict] | None:
    """The verdict of each message, from the reply to all as one; None where that was refused."""
    if type(reply) is int:
        return [verdict(reply, reply, Receipt(one.keys, one.costs, reply)) for one in each]
    now, _, recorded, _, _, *numbers = reply
    if not recorded:
        return None
    half = len(numbers) // 2
    found = dict(zip(total.keys, zip(numbers[:half], numbers[half:], strict=True), strict=True))
    verdicts = []
    for one in each:
        moments, generations = zip(*(found[key] for key in one.keys), strict=True)
        receipt = Receipt(one.keys, one.costs, list(moments), 0, list(generations))
        verdicts.append(verdict(now, now, receipt))
    return verdicts
