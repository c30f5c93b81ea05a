"""Remembering the answer to a message whose counts stand in several slots of a cluster."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from ratelimit_mail.backends.base import Verdict, fitted, numbered
from ratelimit_mail.backends.redis.codec import Receipt
from ratelimit_mail.counting.charge import Charge

__all__ = ["Spread", "read_answer", "write_answer"]


class Spread(NamedTuple):
    """The receipts of several slots.

    key, token: of the answer, where it is remembered. log: the key of a log beside it.
    """

    receipts: Sequence[Receipt]
    key: bytes = b""
    token: str = ""
    log: bytes = b""


def write_answer(verdict: Verdict, charges: Sequence[Charge]) -> tuple[str, str]:
    """A verdict as a token, 0 for a refusal, and a text."""
    receipts = [] if verdict.receipt is None else verdict.receipt.receipts
    told = {
        "at": verdict.at,
        "receipts": [
            [[key.decode() for key in receipt.keys], *receipt[1:]] for receipt in receipts
        ],
        "refusals": numbered(verdict.refusals, charges),
    }
    return str(random.getrandbits(48) | 1 if receipts else 0), json.dumps(told)


def read_answer(
    text: str | bytes, now: int, key: bytes, log: bytes, charges: Sequence[Charge]
) -> Verdict:
    """The verdict that a text tells, from now."""
    _, _, token, rest = (text.decode() if isinstance(text, bytes) else text).split(" ", 3)
    told: dict[str, Any] = json.loads(rest)
    receipts = [
        Receipt([name.encode() for name in names], *others) for names, *others in told["receipts"]
    ]
    receipt = Spread(receipts, key, token, log) if receipts else None
    return Verdict(now, max(now, told["at"]), receipt, fitted(told["refusals"], charges))
