"""Partial answers: a policy with `partial=True` decides on each recipient of inbound mail."""

from __future__ import annotations

import pickle
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
    NAMED_SENDERS,
    OUTSIDE,
    actions,
    fill_mailboxes,
    partial_limiter,
    partial_policy,
    used,
)
from rlm_testkit.servers import free_port

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

# What is answered.


def test_a_full_mailbox_defers_that_recipient_alone() -> None:
    limiter = partial_limiter(HOURLY)
    fill_mailboxes(limiter, BOB)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, CY))
    assert decision
    assert decision.reply.code == 250
    assert decision.limit is None
    assert actions(decision) == {ANN: Action.ACCEPT, BOB: Action.DEFER, CY: Action.ACCEPT}
    assert decision.recipients is not None
    assert decision.recipients[BOB].limit == HOURLY
    assert decision.recipients[BOB].retry_after == 3600
    assert decision.recipients[BOB].reply.code == 450
    assert decision.recipients[BOB].recipients is None
    assert used(limiter, ANN, BOB, CY) == [1, 2, 1]


def test_recipients_are_listed_as_the_envelope_spells_and_orders_them() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope("bob@UWO.ca", OUTSIDE, ANN_ALIAS, ANN))
    assert decision.recipients is not None
    assert list(decision.recipients) == [BOB, OUTSIDE, ANN_ALIAS, ANN]


def test_two_aliases_of_one_owner_get_one_answer_and_one_charge() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(ANN_ALIAS, BOB, ANN))
    assert decision.recipients is not None
    assert decision.recipients[ANN_ALIAS] is decision.recipients[ANN]
    assert used(limiter, ANN, BOB) == [1, 1]
    fill_mailboxes(limiter, CY)
    assert limiter.try_acquire(inbound_envelope(ANN))
    assert actions(limiter.try_acquire(inbound_envelope(ANN_ALIAS, ANN, CY, OUTSIDE))) == {
        ANN_ALIAS: Action.DEFER,
        ANN: Action.DEFER,
        CY: Action.DEFER,
        OUTSIDE: Action.ACCEPT,
    }


def test_a_message_without_an_accepted_recipient_gets_the_most_favourable_answer() -> None:
    clock = ManualClock()
    limiter = partial_limiter(HOURLY, clock=clock)
    fill_mailboxes(limiter, ANN)
    clock.advance(60)
    fill_mailboxes(limiter, BOB)
    decision = limiter.try_acquire(inbound_envelope(BOB, ANN, NAMED_SENDERS))
    assert not decision
    assert actions(decision) == {
        BOB: Action.DEFER,
        ANN: Action.DEFER,
        NAMED_SENDERS: Action.REJECT,
    }
    assert decision.action is Action.DEFER
    assert decision.retry_after == 3540
    assert decision.limit == HOURLY
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(decision)


def test_a_message_that_only_a_moderated_list_may_get_is_held() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(NAMED_SENDERS, MODERATED))
    assert decision.action is Action.HOLD
    assert decision.rule is not None
    assert actions(decision) == {NAMED_SENDERS: Action.REJECT, MODERATED: Action.HOLD}
    rejected = limiter.try_acquire(inbound_envelope(NAMED_SENDERS))
    assert actions(rejected) == {NAMED_SENDERS: Action.REJECT}


def test_a_list_that_holds_or_rejects_does_not_affect_other_recipients() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(MODERATED, NAMED_SENDERS, BOB))
    assert decision
    assert actions(decision) == {
        MODERATED: Action.HOLD,
        NAMED_SENDERS: Action.REJECT,
        BOB: Action.ACCEPT,
    }


def test_recipients_that_no_limit_counts_are_accepted() -> None:
    decision = partial_limiter(HOURLY).try_acquire(inbound_envelope(OUTSIDE))
    assert actions(decision) == {OUTSIDE: Action.ACCEPT}


def test_on_a_shared_scope_each_recipient_costs_as_a_message_of_its_own() -> None:
    limiter = partial_limiter(MessageRateLimit("2/hour", direction="inbound", scope="global"))
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, CY))
    assert actions(decision) == {ANN: Action.ACCEPT, BOB: Action.ACCEPT, CY: Action.DEFER}
    assert limiter.usage(scope="global")[0].used == 2


def test_a_message_that_never_fits_as_a_whole_may_be_accepted_for_some_recipients() -> None:
    limiter = partial_limiter(RecipientRateLimit("2/hour", direction="inbound", scope="sender"))
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB, CY))
    assert list(actions(decision).values()) == [Action.ACCEPT, Action.ACCEPT, Action.DEFER]


def test_check_gives_the_same_answers_and_charges_nothing() -> None:
    limiter = partial_limiter(HOURLY)
    fill_mailboxes(limiter, BOB)
    envelope = inbound_envelope(ANN, BOB, MODERATED)
    checked = limiter.check(envelope)
    assert actions(checked) == {ANN: Action.ACCEPT, BOB: Action.DEFER, MODERATED: Action.HOLD}
    assert used(limiter, ANN) == [0]
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(checked)
    assert checked.recipients is not None
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(checked.recipients[ANN])
    assert limiter.try_acquire(envelope) == checked


def test_check_looks_at_each_recipient_alone_also_if_they_share_a_count() -> None:
    limiter = partial_limiter(MessageRateLimit("1/hour", direction="inbound", scope="global"))
    envelope = inbound_envelope(ANN, BOB)
    assert list(actions(limiter.check(envelope)).values()) == [Action.ACCEPT] * 2
    assert list(actions(limiter.try_acquire(envelope)).values()) == [Action.ACCEPT, Action.DEFER]


def test_refused_attempts_count_for_the_full_mailbox() -> None:
    clock = ManualClock()
    limiter = partial_limiter(
        MessageRateLimit("1/minute", direction="inbound", denied="count"), clock=clock
    )
    assert limiter.try_acquire(inbound_envelope(BOB))
    clock.advance(30)
    assert limiter.try_acquire(inbound_envelope(ANN, BOB))
    clock.advance(30)
    decision = limiter.try_acquire(inbound_envelope(CY, BOB))
    assert actions(decision) == {CY: Action.ACCEPT, BOB: Action.DEFER}


def test_a_copied_partial_decision_is_equal_and_has_nothing_to_refund() -> None:
    limiter = partial_limiter(HOURLY)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB))
    copied = pickle.loads(pickle.dumps(decision))
    assert copied == decision
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(copied)


# What is decided as a whole.


def test_outbound_mail_is_accepted_for_all_recipients_or_for_none() -> None:
    limiter = partial_limiter(HOURLY, MessageRateLimit("9/day"))
    fill_mailboxes(limiter, BOB)
    decision = limiter.try_acquire(Envelope(CY, [ANN, BOB]))
    assert not decision
    assert decision.recipients is None
    assert used(limiter, ANN) == [0]
    assert limiter.try_acquire(Envelope(CY, [ANN, OUTSIDE])).recipients is None


def test_a_policy_without_partial_decides_on_the_whole_message() -> None:
    limiter = Limiter(partial_policy(HOURLY, partial=False), MemoryBackend(ManualClock()))
    assert limiter.try_acquire(inbound_envelope(ANN, BOB)).recipients is None


def test_acquire_and_reserve_wait_for_the_whole_message() -> None:
    clock = ManualClock()
    limiter = partial_limiter(MessageRateLimit("1/minute", direction="inbound"), clock=clock)
    assert limiter.try_acquire(inbound_envelope(BOB))
    start = clock()
    decision = limiter.acquire(inbound_envelope(ANN, BOB))
    assert clock() - start == 60_000
    assert decision.recipients is None
    assert used(limiter, ANN, BOB) == [1, 1]
    reservation = limiter.reserve(inbound_envelope(BOB, CY))
    assert reservation.delay == 60
    assert reservation.decision.recipients is None
    reservation.cancel()
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(inbound_envelope(BOB, CY), timeout=1)
    assert caught.value.decision.recipients is None
    assert used(limiter, CY) == [0]
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(inbound_envelope(MODERATED, CY))
    assert caught.value.decision.action is Action.HOLD


def test_a_decorated_function_is_not_called_if_one_mailbox_is_full() -> None:
    limiter = partial_limiter(HOURLY)
    fill_mailboxes(limiter, BOB)
    delivered: list[Envelope] = []

    @limiter.limited(on_denied="skip")
    def deliver(envelope: Envelope) -> None:
        delivered.append(envelope)

    deliver(inbound_envelope(ANN, BOB))
    assert delivered == []


# During an outage.


@pytest.mark.parametrize(
    ("on_backend_error", "action", "code"),
    [("deny", Action.DEFER, 451), ("allow", Action.ACCEPT, 250)],
)
def test_during_an_outage_the_answer_of_each_recipient_is_degraded(
    on_backend_error: Any, action: Action, code: int
) -> None:
    backend = RedisBackend.from_url(f"redis://127.0.0.1:{free_port()}/0")
    limiter = Limiter(partial_policy(HOURLY), backend, on_backend_error=on_backend_error)
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert decision.degraded
    assert decision.action is action
    assert decision.reply.code == code
    assert actions(decision) == {ANN: action, BOB: action}
    assert all(each.degraded for each in (decision.recipients or {}).values())
    backend.close()


# Repeated requests.


def test_a_repeated_request_gets_the_first_answer_of_each_recipient() -> None:
    limiter = partial_limiter(HOURLY)
    fill_mailboxes(limiter, BOB)
    envelope = inbound_envelope(ANN, ANN_ALIAS, BOB, CY, id="queue-1")
    first = limiter.try_acquire(envelope)
    for _ in range(3):
        assert limiter.try_acquire(envelope) == first
    assert used(limiter, ANN, BOB, CY) == [1, 2, 1]


def test_a_retry_after_the_wait_charges_only_the_deferred_recipients() -> None:
    clock = ManualClock()
    limiter = partial_limiter(MessageRateLimit("1/minute", direction="inbound"), clock=clock)
    assert limiter.try_acquire(inbound_envelope(BOB))
    clock.advance(30)
    first = limiter.try_acquire(inbound_envelope(ANN, BOB, id="queue-1"))
    assert actions(first) == {ANN: Action.ACCEPT, BOB: Action.DEFER}
    clock.advance(30)
    retried = limiter.try_acquire(inbound_envelope(ANN, BOB, id="queue-1"))
    assert actions(retried) == {ANN: Action.ACCEPT, BOB: Action.ACCEPT}
    assert used(limiter, ANN, BOB) == [1, 1]


# Batches, and the async limiter.


def test_a_batch_may_mix_inbound_and_outbound_mail() -> None:
    limiter, single = (partial_limiter(HOURLY, MessageRateLimit("1/day")) for _ in range(2))
    batch = [
        inbound_envelope(ANN, BOB),
        Envelope(CY, [BOB, OUTSIDE]),
        inbound_envelope(BOB, CY),
        Envelope(CY, [OUTSIDE]),
        inbound_envelope(ANN_ALIAS, ANN),
    ]
    decisions = limiter.try_acquire_many(batch)
    assert decisions == [single.try_acquire(envelope) for envelope in batch]
    assert [bool(decision) for decision in decisions] == [True, True, True, False, True]
    assert [decision.recipients is None for decision in decisions] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert actions(decisions[2]) == {BOB: Action.DEFER, CY: Action.ACCEPT}
    assert used(limiter, ANN, BOB, CY) == [2, 2, 1]
    for decision in decisions:
        if decision:
            limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [0, 0, 0]


def test_a_batch_with_something_else_than_envelopes_charges_nothing() -> None:
    limiter = partial_limiter(HOURLY)
    batch: list[Any] = [inbound_envelope(ANN), "bob@uwo.ca"]
    with pytest.raises(TypeError, match="an Envelope is needed"):
        limiter.try_acquire_many(batch)
    assert used(limiter, ANN) == [0]


async def test_an_async_limiter_decides_on_each_recipient_too() -> None:
    limiter = AsyncLimiter(partial_policy(HOURLY), MemoryBackend(ManualClock()))
    for _ in range(2):
        assert await limiter.try_acquire(inbound_envelope(BOB))
    checked = await limiter.check(inbound_envelope(ANN, BOB))
    decision = await limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert checked == decision
    assert actions(decision) == {ANN: Action.ACCEPT, BOB: Action.DEFER}
    batch = await limiter.try_acquire_many([inbound_envelope(BOB), inbound_envelope(CY)])
    assert [bool(each) for each in batch] == [False, True]
    await limiter.refund(decision)
    assert (await limiter.usage(ANN, scope="recipient"))[0].used == 0
    with pytest.raises(ValueError, match="already"):
        await limiter.refund(decision)
