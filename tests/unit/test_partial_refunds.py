"""Refunds of partial answers: the whole message, one recipient at a time, or what remains."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import inbound_envelope
from rlm_testkit.partial_answers import (
    ANN,
    ANN_ALIAS,
    BOB,
    CY,
    HOURLY,
    MODERATED,
    OUTSIDE,
    fill_mailboxes,
    partial_limiter,
    partial_policy,
    used,
)

from ratelimit_mail import Limiter
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock


def test_a_refund_takes_out_the_charge_of_each_accepted_recipient_once() -> None:
    limiter = partial_limiter(HOURLY)
    fill_mailboxes(limiter, BOB)
    assert limiter.try_acquire(inbound_envelope(ANN))
    decision = limiter.try_acquire(inbound_envelope(ANN, ANN_ALIAS, BOB, CY, OUTSIDE))
    assert used(limiter, ANN, BOB, CY) == [2, 2, 1]
    limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [1, 2, 0]
    with pytest.raises(ValueError, match="has been refunded or cancelled already"):
        limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [1, 2, 0]


def test_one_recipient_can_be_refunded_and_then_the_rest() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(ANN, ANN_ALIAS, BOB))
    assert decision.recipients is not None
    limiter.refund(decision.recipients[ANN_ALIAS])
    assert used(limiter, ANN, BOB) == [0, 1]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision.recipients[ANN])
    limiter.refund(decision)
    assert used(limiter, ANN, BOB) == [0, 0]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision.recipients[BOB])


def test_after_a_refund_of_each_recipient_the_message_cannot_be_refunded() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert decision.recipients is not None
    for of_recipient in decision.recipients.values():
        limiter.refund(of_recipient)
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision)
    assert used(limiter, ANN, BOB) == [0, 0]


def test_a_recipient_that_was_not_accepted_has_nothing_to_refund() -> None:
    limiter = partial_limiter(HOURLY)
    fill_mailboxes(limiter, BOB)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, MODERATED))
    assert decision.recipients is not None
    for recipient in (BOB, MODERATED):
        with pytest.raises(ValueError, match="nothing to refund"):
            limiter.refund(decision.recipients[recipient])


def test_a_partial_decision_is_refunded_by_the_limiter_that_made_it() -> None:
    limiter, other = partial_limiter(HOURLY), partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(ANN))
    assert decision.recipients is not None
    for each in (decision, decision.recipients[ANN]):
        with pytest.raises(ValueError, match="is of another limiter"):
            other.refund(each)


def test_two_holders_of_one_answer_refund_it_once() -> None:
    limiter = partial_limiter(HOURLY)
    envelope = inbound_envelope(ANN, BOB, id="queue-1")
    first, repeated = limiter.try_acquire(envelope), limiter.try_acquire(envelope)
    assert limiter.try_acquire(inbound_envelope(ANN))
    limiter.refund(first)
    limiter.refund(repeated)
    assert used(limiter, ANN, BOB) == [1, 0]


class AwayAtSecondRefund(MemoryBackend):
    """A backend that is away for its second refund.

    safe_to_repeat: what its error says: whether nothing was taken out, for certain.
    """

    def __init__(self, *, safe_to_repeat: bool) -> None:
        super().__init__(ManualClock())
        self.refunds = 0
        self._safe_to_repeat = safe_to_repeat

    def refund(self, receipt: Any) -> None:
        self.refunds += 1
        if self.refunds == 2:
            error = BackendUnavailable("no answer")
            error.safe_to_repeat = self._safe_to_repeat
            raise error
        super().refund(receipt)


@pytest.mark.parametrize("safe_to_repeat", [True, False])
def test_a_refund_that_broke_off_is_repeated_only_for_the_remaining_recipients(
    safe_to_repeat: bool,
) -> None:
    backend = AwayAtSecondRefund(safe_to_repeat=safe_to_repeat)
    limiter = Limiter(partial_policy(HOURLY), backend)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, CY))
    assert limiter.try_acquire(inbound_envelope(ANN))
    with pytest.raises(BackendUnavailable):
        limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [1, 1, 1]
    limiter.refund(decision)
    # A refund that may have been made already is not made again.
    assert used(limiter, ANN, BOB, CY) == [1, 0 if safe_to_repeat else 1, 0]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision)
