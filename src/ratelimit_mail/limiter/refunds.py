"""What accepted messages are charged, and how it is taken out again: each charge once."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from ratelimit_mail._util.steps import Script
from ratelimit_mail._util.text import show
from ratelimit_mail.decision import Decision
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["Claimed", "claimed", "refunding"]

Claimed = list[tuple[list[Any], Any]]
"""Claims, and the receipts that were taken from them."""


def claimed(decision: Decision, limiter: object) -> Claimed:
    """What a refund must take out; whoever comes second finds it gone.

    Raises TypeError or ValueError where there is nothing to refund, or not by `limiter`.
    """
    if not isinstance(decision, Decision):
        raise TypeError(f"a Decision is needed, not {show(decision)}")
    if decision.claim is None:
        raise ValueError(f"nothing to refund: {decision} was not accepted, or only looked at")
    if decision.claim[0] is not limiter:
        raise ValueError(f"{decision} is another limiter's; it must be refunded there")
    parts = [decision] if decision.recipients is None else decision.recipients.values()
    found = []
    for claim in (part.claim for part in parts if part.claim is not None):
        with suppress(IndexError):
            while True:
                found.append((claim, claim.pop(1)))
    if not found:
        raise ValueError(f"{decision} has been refunded or cancelled already")
    return found


def refunding(backend: Any, found: Claimed) -> Script[None]:
    """Take each of what was claimed out; what cannot be may be claimed again."""
    while found:
        claim, receipt = found.pop(0)
        if receipt is None:
            continue
        try:
            yield partial(backend.take_out, receipt)
        except BackendError as error:
            # Where only the answer was lost, a second try could take another's charge out.
            if not isinstance(error, BackendUnavailable) or error.safe_to_repeat:
                claim.append(receipt)
            for other, untouched in found:
                other.append(untouched)
            raise
