"""What accepted messages are charged, and how it is taken out again: each charge once."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail.decision import Decision
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["Receipts", "refund_steps", "take_receipts"]

Receipts = list[tuple[list[Any], Any]]
"""Claims, and the receipts that were taken from them."""


def take_receipts(decision: Decision, limiter: object) -> Receipts:
    """What a refund must take out; whoever comes second finds it gone.

    Raises TypeError or ValueError where there is nothing to refund, or not by `limiter`.
    """
    if not isinstance(decision, Decision):
        raise TypeError(f"a Decision is needed, not {show(decision)}")
    if decision.refund_token is None:
        raise ValueError(f"nothing to refund: {decision} was not accepted, or only looked at")
    if decision.refund_token[0] is not limiter:
        raise ValueError(f"{decision} is another limiter's; it must be refunded there")
    parts = [decision] if decision.recipients is None else decision.recipients.values()
    found = []
    for refund_token in (part.refund_token for part in parts if part.refund_token is not None):
        with suppress(IndexError):
            while True:
                found.append((refund_token, refund_token.pop(1)))
    if not found:
        raise ValueError(f"{decision} has been refunded or cancelled already")
    return found


def refund_steps(backend: Any, found: Receipts) -> Steps[None]:
    """Take each of what was claimed out; what cannot be may be claimed again."""
    while found:
        refund_token, receipt = found.pop(0)
        if receipt is None:
            continue
        try:
            yield partial(backend.refund, receipt)
        except BackendError as error:
            # Where only the answer was lost, a second try could take another's charge out.
            if not isinstance(error, BackendUnavailable) or error.safe_to_repeat:
                refund_token.append(receipt)
            for other, untouched in found:
                other.append(untouched)
            raise
