"""Refunds: take out what accepted messages were charged, each charge once.

A decision carries a refund token, a list of its owner and the receipts of its charges. A refund
pops the receipts, so that of two that race only one finds them.
"""

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
"""Refund tokens, and the receipts that were taken from them."""


def take_receipts(decision: Decision, owner: object) -> Receipts:
    """Return what a refund must take out, and take it from the decision's refund token.

    Raises TypeError or ValueError if there is nothing to refund, or if `owner` did not decide.
    """
    if not isinstance(decision, Decision):
        raise TypeError(f"a Decision is needed, not {show(decision)}")
    if decision.refund_token is None:
        raise ValueError(f"nothing to refund: {decision} was not accepted, or only checked")
    if decision.refund_token[0] is not owner:
        raise ValueError(f"{decision} is of another limiter; refund it there")
    decisions = [decision] if decision.recipients is None else decision.recipients.values()
    receipts = []
    for token in (each.refund_token for each in decisions if each.refund_token is not None):
        with suppress(IndexError):
            while True:
                receipts.append((token, token.pop(1)))
    if not receipts:
        raise ValueError(f"{decision} has been refunded or cancelled already")
    return receipts


def refund_steps(backend: Any, receipts: Receipts) -> Steps[None]:
    """Take each receipt's charges out; a receipt that fails goes back to its token."""
    while receipts:
        token, receipt = receipts.pop(0)
        if receipt is None:
            continue
        try:
            yield partial(backend.refund, receipt)
        except BackendError as error:
            # If only the answer was lost, a second try could take out another message's charge.
            if not isinstance(error, BackendUnavailable) or error.safe_to_repeat:
                token.append(receipt)
            for other_token, untouched in receipts:
                other_token.append(untouched)
            raise
