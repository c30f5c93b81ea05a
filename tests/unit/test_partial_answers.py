"""Partial answers: mail that arrives is decided on recipient by recipient."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from rlm_testkit.servers import free_port

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, RedisBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

ANN, SMITH, BOB, CY = "ann@uwo.ca", "a.smith@uwo.ca", "bob@uwo.ca", "cy@uwo.ca"
HELD, NAMED = "held@uwo.ca", "named@uwo.ca"
EVE, OUT = "eve@example.com", "out@example.org"

HOURLY = MessageRateLimit("2/hour", direction="inbound")
DIRECTORY = Directory.from_dict(
    {ANN: [SMITH]},
    lists=[MailingList(HELD, posting="moderated"), MailingList(NAMED, posting="named")],
)


def policy_of(*limits: Any, partial: bool = True) -> Policy:
    return Policy(
        name="test",
        limits=limits,
        internal_domains=["uwo.ca"],
        directory=DIRECTORY,
        partial=partial,
    )


def limiter_of(*limits: Any, clock: ManualClock | None = None) -> Limiter:
    clock = clock or ManualClock()
    return Limiter(policy_of(*limits), MemoryBackend(clock), sleep=clock.advance)


def arriving(*recipients: str, known_by: str | None = None) -> Envelope:
    return Envelope(EVE, recipients, id=known_by, direction="inbound")


def used(limiter: Limiter, *subjects: str) -> list[int]:
    return [limiter.usage(subject, scope="recipient")[0].used for subject in subjects]


def fill(limiter: Limiter, *mailboxes: str) -> None:
    for mailbox in mailboxes:
        for _ in range(2):
            assert limiter.try_acquire(arriving(mailbox))


def answers(decision: Decision) -> dict[str, Action]:
    assert decision.recipients is not None
    return {recipient: each.action for recipient, each in decision.recipients.items()}


# The answers.


def test_a_full_mailbox_defers_that_recipient_alone() -> None:
    limiter = limiter_of(HOURLY)
    fill(limiter, BOB)
    decision = limiter.try_acquire(arriving(ANN, BOB, CY))
    assert decision
    assert decision.reply.code == 250
    assert decision.limit is None
    assert answers(decision) == {ANN: Action.ACCEPT, BOB: Action.DEFER, CY: Action.ACCEPT}
    assert decision.recipients is not None
    assert decision.recipients[BOB].limit == HOURLY
    assert decision.recipients[BOB].retry_after == 3600
    assert decision.recipients[BOB].reply.code == 450
    assert decision.recipients[BOB].recipients is None
    assert used(limiter, ANN, BOB, CY) == [1, 2, 1]


def test_every_recipient_has_an_answer_as_it_was_written_and_in_that_order() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving("bob@UWO.ca", OUT, SMITH, ANN))
    assert decision.recipients is not None
    assert list(decision.recipients) == [BOB, OUT, SMITH, ANN]


def test_two_aliases_of_one_owner_have_one_answer_and_one_charge() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving(SMITH, BOB, ANN))
    assert decision.recipients is not None
    assert decision.recipients[SMITH] is decision.recipients[ANN]
    assert used(limiter, ANN, BOB) == [1, 1]
    fill(limiter, CY)
    assert limiter.try_acquire(arriving(ANN))
    assert answers(limiter.try_acquire(arriving(SMITH, ANN, CY, OUT))) == {
        SMITH: Action.DEFER,
        ANN: Action.DEFER,
        CY: Action.DEFER,
        OUT: Action.ACCEPT,
    }


def test_a_message_that_nobody_gets_fares_as_the_one_who_fares_best() -> None:
    clock = ManualClock()
    limiter = limiter_of(HOURLY, clock=clock)
    fill(limiter, ANN)
    clock.advance(60)
    fill(limiter, BOB)
    decision = limiter.try_acquire(arriving(BOB, ANN, NAMED))
    assert not decision
    assert answers(decision) == {BOB: Action.DEFER, ANN: Action.DEFER, NAMED: Action.REJECT}
    assert decision.action is Action.DEFER
    assert decision.retry_after == 3540
    assert decision.limit == HOURLY
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(decision)


def test_a_message_that_only_a_list_would_get_is_held() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving(NAMED, HELD))
    assert decision.action is Action.HOLD
    assert decision.rule is not None
    assert answers(decision) == {NAMED: Action.REJECT, HELD: Action.HOLD}
    assert answers(limiter.try_acquire(arriving(NAMED))) == {NAMED: Action.REJECT}


def test_a_list_that_holds_or_refuses_stops_nobody_else() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving(HELD, NAMED, BOB))
    assert decision
    assert answers(decision) == {HELD: Action.HOLD, NAMED: Action.REJECT, BOB: Action.ACCEPT}


def test_recipients_that_no_limit_counts_are_accepted() -> None:
    decision = limiter_of(HOURLY).try_acquire(arriving(OUT))
    assert answers(decision) == {OUT: Action.ACCEPT}


def test_on_a_shared_scope_each_recipient_costs_as_a_message_of_its_own() -> None:
    limiter = limiter_of(MessageRateLimit("2/hour", direction="inbound", scope="global"))
    decision = limiter.try_acquire(arriving(ANN, BOB, CY))
    assert answers(decision) == {ANN: Action.ACCEPT, BOB: Action.ACCEPT, CY: Action.DEFER}
    assert limiter.usage(scope="global")[0].used == 2


def test_what_is_too_large_as_a_whole_may_go_in_parts() -> None:
    limiter = limiter_of(RecipientRateLimit("2/hour", direction="inbound", scope="sender"))
    decision = limiter.try_acquire(arriving(ANN, BOB, CY))
    assert list(answers(decision).values()) == [Action.ACCEPT, Action.ACCEPT, Action.DEFER]


def test_check_gives_the_same_answers_and_charges_nothing() -> None:
    limiter = limiter_of(HOURLY)
    fill(limiter, BOB)
    message = arriving(ANN, BOB, HELD)
    looked = limiter.check(message)
    assert answers(looked) == {ANN: Action.ACCEPT, BOB: Action.DEFER, HELD: Action.HOLD}
    assert used(limiter, ANN) == [0]
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(looked)
    assert looked.recipients is not None
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(looked.recipients[ANN])
    assert limiter.try_acquire(message) == looked


def test_a_check_of_recipients_that_share_a_count_looks_at_each_alone() -> None:
    limiter = limiter_of(MessageRateLimit("1/hour", direction="inbound", scope="global"))
    assert list(answers(limiter.check(arriving(ANN, BOB))).values()) == [Action.ACCEPT] * 2
    assert list(answers(limiter.try_acquire(arriving(ANN, BOB))).values()) == [
        Action.ACCEPT,
        Action.DEFER,
    ]


def test_refused_attempts_count_for_the_mailbox_that_is_full() -> None:
    clock = ManualClock()
    limiter = limiter_of(
        MessageRateLimit("1/minute", direction="inbound", denied="count"), clock=clock
    )
    assert limiter.try_acquire(arriving(BOB))
    clock.advance(30)
    assert limiter.try_acquire(arriving(ANN, BOB))
    clock.advance(30)
    decision = limiter.try_acquire(arriving(CY, BOB))
    assert answers(decision) == {CY: Action.ACCEPT, BOB: Action.DEFER}


def test_a_decision_of_parts_can_be_copied_and_has_nothing_to_refund_then() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving(ANN, BOB))
    copied = pickle.loads(pickle.dumps(decision))
    assert copied == decision
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(copied)


# What has no partial answer.


def test_what_is_sent_goes_to_all_or_to_nobody() -> None:
    limiter = limiter_of(HOURLY, MessageRateLimit("9/day"))
    fill(limiter, BOB)
    decision = limiter.try_acquire(Envelope(CY, [ANN, BOB]))
    assert not decision
    assert decision.recipients is None
    assert used(limiter, ANN) == [0]
    assert limiter.try_acquire(Envelope(CY, [ANN, OUT])).recipients is None


def test_a_policy_that_asks_for_none_gives_none() -> None:
    limiter = Limiter(policy_of(HOURLY, partial=False), MemoryBackend(ManualClock()))
    assert limiter.try_acquire(arriving(ANN, BOB)).recipients is None


def test_acquire_and_reserve_wait_for_the_whole_message() -> None:
    clock = ManualClock()
    limiter = limiter_of(MessageRateLimit("1/minute", direction="inbound"), clock=clock)
    assert limiter.try_acquire(arriving(BOB))
    start = clock()
    decision = limiter.acquire(arriving(ANN, BOB))
    assert clock() - start == 60_000
    assert decision.recipients is None
    assert used(limiter, ANN, BOB) == [1, 1]
    reservation = limiter.reserve(arriving(BOB, CY))
    assert reservation.delay == 60
    assert reservation.decision.recipients is None
    reservation.cancel()
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(arriving(BOB, CY), timeout=1)
    assert caught.value.decision.recipients is None
    assert used(limiter, CY) == [0]
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(arriving(HELD, CY))
    assert caught.value.decision.action is Action.HOLD


def test_a_decorated_function_sends_nothing_that_some_mailbox_has_no_room_for() -> None:
    limiter = limiter_of(HOURLY)
    fill(limiter, BOB)
    sent: list[Envelope] = []

    @limiter.limited(on_denied="skip")
    def deliver(envelope: Envelope) -> None:
        sent.append(envelope)

    deliver(arriving(ANN, BOB))
    assert sent == []


# Refunds.


def test_a_refund_takes_every_accepted_part_out_once() -> None:
    limiter = limiter_of(HOURLY)
    fill(limiter, BOB)
    assert limiter.try_acquire(arriving(ANN))
    decision = limiter.try_acquire(arriving(ANN, SMITH, BOB, CY, OUT))
    assert used(limiter, ANN, BOB, CY) == [2, 2, 1]
    limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [1, 2, 0]
    with pytest.raises(ValueError, match="has been refunded or cancelled already"):
        limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [1, 2, 0]


def test_one_recipient_can_be_refunded_and_then_the_rest() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving(ANN, SMITH, BOB))
    assert decision.recipients is not None
    limiter.refund(decision.recipients[SMITH])
    assert used(limiter, ANN, BOB) == [0, 1]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision.recipients[ANN])
    limiter.refund(decision)
    assert used(limiter, ANN, BOB) == [0, 0]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision.recipients[BOB])


def test_after_each_part_nothing_is_left_of_the_whole() -> None:
    limiter = limiter_of(HOURLY)
    decision = limiter.try_acquire(arriving(ANN, BOB))
    assert decision.recipients is not None
    for part in decision.recipients.values():
        limiter.refund(part)
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision)
    assert used(limiter, ANN, BOB) == [0, 0]


def test_a_part_that_was_not_accepted_has_nothing_to_refund() -> None:
    limiter = limiter_of(HOURLY)
    fill(limiter, BOB)
    decision = limiter.try_acquire(arriving(ANN, BOB, HELD))
    assert decision.recipients is not None
    for recipient in (BOB, HELD):
        with pytest.raises(ValueError, match="nothing to refund"):
            limiter.refund(decision.recipients[recipient])


def test_parts_are_refunded_where_they_were_accepted() -> None:
    one, other = limiter_of(HOURLY), limiter_of(HOURLY)
    decision = one.try_acquire(arriving(ANN))
    assert decision.recipients is not None
    for each in (decision, decision.recipients[ANN]):
        with pytest.raises(ValueError, match="is of another limiter"):
            other.refund(each)


class Interrupted(MemoryBackend):
    """A backend that is away for its second refund.

    safe_to_repeat: whether nothing was done then, for certain.
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
def test_a_refund_that_breaks_off_is_repeated_for_the_rest_alone(safe_to_repeat: bool) -> None:
    backend = Interrupted(safe_to_repeat=safe_to_repeat)
    limiter = Limiter(policy_of(HOURLY), backend)
    decision = limiter.try_acquire(arriving(ANN, BOB, CY))
    assert limiter.try_acquire(arriving(ANN))
    with pytest.raises(BackendUnavailable):
        limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [1, 1, 1]
    limiter.refund(decision)
    # What may have been done already is not done again.
    assert used(limiter, ANN, BOB, CY) == [1, 0 if safe_to_repeat else 1, 0]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decision)


# Without a backend.


@pytest.mark.parametrize(
    ("instead", "action", "code"), [("deny", Action.DEFER, 451), ("allow", Action.ACCEPT, 250)]
)
def test_while_the_backend_is_away_each_recipient_is_told_so(
    instead: Any, action: Action, code: int
) -> None:
    backend = RedisBackend.from_url(f"redis://127.0.0.1:{free_port()}/0")
    limiter = Limiter(policy_of(HOURLY), backend, on_backend_error=instead)
    decision = limiter.try_acquire(arriving(ANN, BOB))
    assert decision.degraded
    assert decision.action is action
    assert decision.reply.code == code
    assert answers(decision) == {ANN: action, BOB: action}
    assert all(each.degraded for each in (decision.recipients or {}).values())
    backend.close()


# Ids.


def test_asked_again_with_the_same_id_each_recipient_has_its_first_answer() -> None:
    limiter = limiter_of(HOURLY)
    fill(limiter, BOB)
    message = arriving(ANN, SMITH, BOB, CY, known_by="queue-1")
    first = limiter.try_acquire(message)
    for _ in range(3):
        assert limiter.try_acquire(message) == first
    assert used(limiter, ANN, BOB, CY) == [1, 2, 1]


def test_a_retry_for_the_deferred_alone_charges_the_others_nothing() -> None:
    clock = ManualClock()
    limiter = limiter_of(MessageRateLimit("1/minute", direction="inbound"), clock=clock)
    assert limiter.try_acquire(arriving(BOB))
    clock.advance(30)
    first = limiter.try_acquire(arriving(ANN, BOB, known_by="queue-1"))
    assert answers(first) == {ANN: Action.ACCEPT, BOB: Action.DEFER}
    clock.advance(30)
    again = limiter.try_acquire(arriving(ANN, BOB, known_by="queue-1"))
    assert answers(again) == {ANN: Action.ACCEPT, BOB: Action.ACCEPT}
    assert used(limiter, ANN, BOB) == [1, 1]


def test_two_holders_of_one_answer_refund_it_once() -> None:
    limiter = limiter_of(HOURLY)
    message = arriving(ANN, BOB, known_by="queue-1")
    first, again = limiter.try_acquire(message), limiter.try_acquire(message)
    assert limiter.try_acquire(arriving(ANN))
    limiter.refund(first)
    limiter.refund(again)
    assert used(limiter, ANN, BOB) == [1, 0]


# Batches.


def test_a_batch_mixes_what_arrives_and_what_is_sent() -> None:
    limiter = limiter_of(HOURLY, MessageRateLimit("1/day"))
    batch = [
        arriving(ANN, BOB),
        Envelope(CY, [BOB, OUT]),
        arriving(BOB, CY),
        Envelope(CY, [OUT]),
        arriving(SMITH, ANN),
    ]
    one_by_one = limiter_of(HOURLY, MessageRateLimit("1/day"))
    decisions = limiter.try_acquire_many(batch)
    assert decisions == [one_by_one.try_acquire(each) for each in batch]
    assert [bool(decision) for decision in decisions] == [True, True, True, False, True]
    assert [decision.recipients is None for decision in decisions] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert answers(decisions[2]) == {BOB: Action.DEFER, CY: Action.ACCEPT}
    assert used(limiter, ANN, BOB, CY) == [2, 2, 1]
    for decision in decisions:
        if decision:
            limiter.refund(decision)
    assert used(limiter, ANN, BOB, CY) == [0, 0, 0]


def test_nonsense_in_a_batch_charges_none_of_it() -> None:
    limiter = limiter_of(HOURLY)
    batch: list[Any] = [arriving(ANN), "bob@uwo.ca"]
    with pytest.raises(TypeError, match="an Envelope is needed"):
        limiter.try_acquire_many(batch)
    assert used(limiter, ANN) == [0]


# The other colour.


async def test_an_async_limiter_answers_each_recipient_too() -> None:
    limiter = AsyncLimiter(policy_of(HOURLY), MemoryBackend(ManualClock()))
    for _ in range(2):
        assert await limiter.try_acquire(arriving(BOB))
    looked = await limiter.check(arriving(ANN, BOB))
    decision = await limiter.try_acquire(arriving(ANN, BOB))
    assert looked == decision
    assert answers(decision) == {ANN: Action.ACCEPT, BOB: Action.DEFER}
    batch = await limiter.try_acquire_many([arriving(BOB), arriving(CY)])
    assert [bool(each) for each in batch] == [False, True]
    await limiter.refund(decision)
    assert (await limiter.usage(ANN, scope="recipient"))[0].used == 0
    with pytest.raises(ValueError, match="already"):
        await limiter.refund(decision)
