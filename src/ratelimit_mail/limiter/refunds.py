"""Refunds: take out what accepted messages were charged, each charge once.

A decision carries a refund token: a list of its owner, its envelope (as `_Settled` once it was
settled) and the receipts of its charges. A refund pops the receipts, so that of two that race only
one finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = [
    "ENVELOPE",
    "RECEIPTS",
    "Receipts",
    "envelope_of",
    "is_settled",
    "mark_settled",
    "receipts_of",
    "refund_steps",
    "settled",
    "take_receipts",
    "tokens_of",
]

ENVELOPE: Final = 1
"""The index of the envelope in a refund token."""

RECEIPTS: Final = 2
"""The index of the first receipt in a refund token; one of shadow limits may follow it."""

Receipts = list[tuple[list[Any], Any]]
"""Refund tokens, and the receipts that were taken from them."""


class _Settled(NamedTuple):
    envelope: Envelope


_new = tuple.__new__  # makes a named tuple in half the time


def is_settled(token: list[Any]) -> bool:
    """Return whether the message of a refund token was settled."""
    return isinstance(token[ENVELOPE], _Settled)


def settled(envelope: Envelope) -> object:
    """Return what stands in a refund token in the place of an envelope that was settled."""
    return _new(_Settled, (envelope,))


def mark_settled(token: list[Any]) -> None:
    """Record that the message of a refund token was settled."""
    if not is_settled(token):
        token[ENVELOPE] = settled(token[ENVELOPE])


def envelope_of(token: list[Any]) -> Envelope:
    """Return the envelope of a refund token."""
    envelope: Envelope = token[ENVELOPE].envelope if is_settled(token) else token[ENVELOPE]
    return envelope


def tokens_of(decision: Decision, owner: object) -> list[tuple[list[Any], list[str] | None]]:
    """Return the refund token of an accepted decision, or one for each accepted mailbox.

    Each with the recipients that it is for, aliases included; None if it is for all.

    Raises TypeError or ValueError if it was not accepted, or if `owner` did not decide.
    """
    if not isinstance(decision, Decision):
        raise TypeError(f"a Decision is needed, not {show(decision)}")
    if decision.refund_token is None:
        raise ValueError(
            f"nothing to refund or settle: {decision} was not accepted, or only checked"
        )
    if decision.refund_token[0] is not owner:
        raise ValueError(f"{decision} is of another limiter; refund or settle it there")
    if decision.recipients is None:
        return [(decision.refund_token, None)]
    tokens: dict[int, tuple[list[Any], list[str]]] = {}
    for recipient, each in decision.recipients.items():
        if each.refund_token is not None:
            token = each.refund_token
            tokens.setdefault(id(token), (token, []))[1].append(recipient)
    return [*tokens.values()]


def receipts_of(tokens: Iterable[list[Any]]) -> Receipts:
    """Take the receipts out of refund tokens; whoever comes second finds none."""
    receipts = []
    for token in tokens:
        with suppress(IndexError):
            while True:
                receipts.append((token, token.pop(RECEIPTS)))
    return receipts


def take_receipts(decision: Decision, owner: object) -> Receipts:
    """Return what a refund must take out, and take it from the decision's refund token.

    Raises TypeError or ValueError if there is nothing to refund, or if `owner` did not decide.
    """
    receipts = receipts_of(token for token, _ in tokens_of(decision, owner))
    if not receipts:
        raise ValueError(f"{decision} has been refunded or cancelled already")
    return receipts


def refund_steps(backend: Any, receipts: Receipts) -> Steps[None]:
    """Take each receipt's charges out; a receipt that fails goes back to its token."""
    for position, (token, receipt) in enumerate(receipts, 1):
        if receipt is None:
            continue
        try:
            yield partial(backend.refund, receipt)
        except BackendError as error:
            # If only the answer was lost, a second try could take out another message's charge.
            if not isinstance(error, BackendUnavailable) or error.safe_to_repeat:
                token.append(receipt)
            for other_token, untouched in receipts[position:]:
                other_token.append(untouched)
            raise
