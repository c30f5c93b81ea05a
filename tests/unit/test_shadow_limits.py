"""Limits that only report: what they answer, what they count, and that they harm nothing."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Verdict
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.exceptions import BackendError, BackendUnavailable
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.testing import ManualClock

ANN, BOB, EVE = "ann@uwo.ca", "bob@uwo.ca", "eve@example.com"
LETTER = Envelope(ANN, [EVE])

TWO_A_MINUTE = MessageRateLimit("2/minute", enforce=False)
TEN_A_MINUTE = MessageRateLimit("10/minute")


def limiter_of(
    *limits: Any,
    clock: ManualClock | None = None,
    backend: MemoryBackend | None = None,
    **others: Any,
) -> Limiter:
    clock = clock or ManualClock()
    policy = Policy(name="test", limits=limits, internal_domains=["uwo.ca"], **others)
    return Limiter(policy, backend or MemoryBackend(clock), sleep=clock.advance)


def shadow_of(decision: Decision) -> Decision:
    assert decision.shadow is not None
    return decision.shadow


def room(limiter: Limiter, letter: Envelope = LETTER) -> bool:
    """Whether the limits that only report have room for one more."""
    return bool(shadow_of(limiter.check(letter)))


def used(limiter: Limiter, subject: str = ANN) -> list[int]:
    return [usage.used for usage in limiter.usage(subject)]


# What they answer.


def test_a_limit_that_only_reports_says_what_it_would_have_answered() -> None:
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE)
    for _ in range(2):
        decision = limiter.try_acquire(LETTER)
        assert decision
        assert shadow_of(decision) == Decision(Action.ACCEPT)
    decision = limiter.try_acquire(LETTER)
    assert decision.action is Action.ACCEPT
    assert decision.limit is None
    assert decision.retry_after == 0.0
    assert str(decision.reply) == "250 2.0.0 OK"
    shadow = shadow_of(decision)
    assert shadow.action is Action.DEFER
    assert shadow.limit == TWO_A_MINUTE
    assert shadow.retry_after == 60
    assert str(shadow.reply) == "450 4.7.1 Message rate limit exceeded. Try again later."
    assert shadow.shadow is None


def test_without_such_limits_there_is_no_answer_of_theirs() -> None:
    assert limiter_of(TEN_A_MINUTE).try_acquire(LETTER).shadow is None


def test_a_policy_may_have_no_other_limits() -> None:
    limiter = limiter_of(TWO_A_MINUTE)
    held = [limiter.try_acquire(LETTER) for _ in range(3)]
    assert all(held)
    assert [bool(shadow_of(decision)) for decision in held] == [True, True, False]
    limiter.refund(held[0])
    assert room(limiter)
    assert limiter.acquire(LETTER)
    assert limiter.reserve(LETTER).delay == 0


def test_a_recipient_limit_may_only_report() -> None:
    limit = RecipientLimit(1, enforce=False)
    limiter = limiter_of(TEN_A_MINUTE, limit)
    assert shadow_of(limiter.try_acquire(LETTER))
    decision = limiter.try_acquire(Envelope(ANN, [EVE, BOB]))
    assert decision
    assert shadow_of(decision) == Decision(Action.REJECT, None, limit)
    assert used(limiter) == [2]


def test_what_never_fits_is_reported_so() -> None:
    limiter = limiter_of(RecipientRateLimit("1/day", enforce=False))
    decision = limiter.try_acquire(Envelope(ANN, [EVE, BOB]))
    assert decision
    assert shadow_of(decision).action is Action.REJECT
    assert shadow_of(decision).retry_after is None
    assert room(limiter)


def test_it_says_in_words_that_it_only_reports() -> None:
    assert str(TWO_A_MINUTE) == "2 messages per minute per sender, only reported"
    assert str(RecipientLimit(1, enforce=False)) == "1 recipient per message, only reported"


@pytest.mark.parametrize("wrong", [None, 0, "no"])
def test_a_choice_that_is_none_is_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match="enforce: True or False is needed"):
        MessageRateLimit("2/minute", enforce=wrong)
    with pytest.raises(TypeError, match="enforce: True or False is needed"):
        RecipientLimit(2, enforce=wrong)


def test_a_decision_is_copied_with_what_is_reported() -> None:
    decision = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE).try_acquire(LETTER)
    assert pickle.loads(pickle.dumps(decision)) == decision


def test_what_is_reported_cannot_be_refunded_by_itself() -> None:
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE)
    decision = limiter.try_acquire(LETTER)
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(shadow_of(decision))
    limiter.refund(decision)


# What they count.


def test_what_they_would_turn_away_does_not_count_for_them() -> None:
    clock = ManualClock()
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE, clock=clock)
    answers = []
    for _ in range(8):
        answers.append(bool(shadow_of(limiter.try_acquire(LETTER))))
        clock.advance(20)
    assert answers == [True, True, False] * 2 + [True, True]


def test_what_the_enforced_limits_turn_away_does_not_count_for_them() -> None:
    limiter = limiter_of(MessageRateLimit("1/minute", scope="recipient"), TWO_A_MINUTE)
    for _ in range(5):
        limiter.try_acquire(LETTER)
    decision = limiter.try_acquire(LETTER)
    assert not decision
    assert shadow_of(decision)
    assert shadow_of(limiter.try_acquire(Envelope(ANN, [BOB])))
    assert not room(limiter)


@pytest.mark.parametrize(
    ("enforced", "counts"),
    [
        (MessageRateLimit("1/minute", scope="recipient"), True),
        (RecipientRateLimit("1/minute"), True),
        (RecipientLimit(1), False),
    ],
)
def test_attempts_that_enforced_limits_refuse_count_as_if_it_were_enforced_too(
    enforced: Any, counts: bool
) -> None:
    counting = "2/minute"
    letter = Envelope(ANN, [EVE, BOB])
    answers = []
    for enforce in (True, False):
        limiter = limiter_of(enforced, MessageRateLimit(counting, denied="count", enforce=enforce))
        limiter.try_acquire(Envelope("x@uwo.ca", [EVE]))
        for _ in range(2):
            assert not limiter.try_acquire(letter)
        last = limiter.check(Envelope(ANN, ["z@example.com"]))
        answers.append(bool(last if enforce else shadow_of(last)))
    assert answers == [not counts, not counts]


def test_their_counts_are_not_those_of_enforced_limits() -> None:
    limiter = limiter_of(MessageRateLimit("2/minute"), TWO_A_MINUTE)
    assert limiter.try_acquire(LETTER)
    assert [usage.limit for usage in limiter.usage(ANN)] == [MessageRateLimit("2/minute")]
    assert used(limiter) == [1]


def test_a_reset_forgets_what_they_counted_too() -> None:
    limiter = limiter_of(TWO_A_MINUTE, MessageRateLimit("1/day", scope="global", enforce=False))
    for _ in range(3):
        limiter.try_acquire(LETTER)
    limiter.reset(ANN)
    limiter.reset(scope="global")
    assert room(limiter)


def test_a_refund_takes_out_what_they_counted_too() -> None:
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE)
    decisions = [limiter.try_acquire(LETTER) for _ in range(3)]
    assert not room(limiter)
    limiter.refund(decisions[2])  # they did not count this one
    assert not room(limiter)
    limiter.refund(decisions[0])
    assert room(limiter)
    assert used(limiter) == [1]
    with pytest.raises(ValueError, match="already"):
        limiter.refund(decisions[0])


def test_a_check_charges_neither() -> None:
    limiter = limiter_of(MessageRateLimit("1/minute"), MessageRateLimit("1/minute", enforce=False))
    for _ in range(3):
        assert room(limiter)
    decision = limiter.try_acquire(LETTER)
    assert shadow_of(decision)
    looked = limiter.check(LETTER)
    assert looked.retry_after == shadow_of(looked).retry_after == 60


def test_an_id_is_counted_once_and_has_its_first_answer() -> None:
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE)
    job = Envelope(ANN, [EVE], id="job-1")
    decisions = [limiter.try_acquire(job) for _ in range(3)]
    assert [bool(shadow_of(each)) for each in decisions] == [True] * 3
    assert room(limiter)
    reservations = [limiter.reserve(job) for _ in range(3)]
    assert [bool(shadow_of(each.decision)) for each in reservations] == [True] * 3
    assert not room(limiter)
    reservations[0].cancel()
    assert room(limiter)
    limiter.refund(decisions[0])
    assert [bool(shadow_of(limiter.try_acquire(LETTER))) for _ in range(3)] == [True, True, False]


def test_each_of_a_batch_has_its_own_answer() -> None:
    limiter = limiter_of(MessageRateLimit("3/minute"), TWO_A_MINUTE)
    decisions = limiter.try_acquire_many([LETTER] * 4)
    assert [bool(decision) for decision in decisions] == [True, True, True, False]
    assert [bool(shadow_of(each)) for each in decisions] == [True, True, False, False]


# Whose limits they are.


def test_a_tier_may_have_some() -> None:
    limiter = limiter_of(
        TEN_A_MINUTE, tiers=[Tier("wireless", when=has_tag("wireless"), limits=[TWO_A_MINUTE])]
    )
    assert limiter.try_acquire(LETTER).shadow is None
    wireless = Envelope(ANN, [EVE], Client(tags={"wireless"}))
    assert [bool(shadow_of(limiter.try_acquire(wireless))) for _ in range(3)] == [True, True, False]
    assert shadow_of(limiter.check(wireless)).tier == "wireless"


def test_overrides_and_exemptions_hold_for_them() -> None:
    named = MessageRateLimit("1/minute", name="a minute", enforce=False)
    limiter = limiter_of(
        named,
        overrides=[Override({"a minute": 2}, senders=[BOB])],
        exemptions=[Exemption(["a minute"], senders=["x.org"], reason="a test")],
    )
    for sender, answers in ((ANN, [True, False]), (BOB, [True, True])):
        letter = Envelope(sender, [EVE])
        assert [bool(shadow_of(limiter.try_acquire(letter))) for _ in range(2)] == answers
    assert limiter.try_acquire(Envelope("eve@x.org", [EVE])).shadow is None


def test_aliases_and_exempt_lists_are_to_them_what_they_are_to_others() -> None:
    directory = Directory(
        {"a.smith@uwo.ca": ANN},
        [MailingList("free@uwo.ca", exempt=True), MailingList("held@uwo.ca", posting="moderated")],
    )
    limiter = limiter_of(RecipientRateLimit("2/minute", enforce=False), directory=directory)
    assert shadow_of(limiter.try_acquire(Envelope(BOB, [ANN, "a.smith@uwo.ca", "free@uwo.ca"])))
    assert shadow_of(limiter.try_acquire(Envelope(BOB, [EVE])))
    assert shadow_of(limiter.try_acquire(Envelope(BOB, ["free@uwo.ca"])))
    assert not room(limiter, Envelope(BOB, [EVE]))
    assert limiter.try_acquire(Envelope(BOB, ["held@uwo.ca"])).shadow is None


def test_each_mailbox_has_its_own_answer_and_the_message_one_of_them_all() -> None:
    limiter = limiter_of(
        MessageRateLimit("2/hour", direction="inbound"),
        MessageRateLimit("1/hour", direction="inbound", enforce=False),
        partial=True,
    )

    def arriving(*recipients: str) -> Envelope:
        return Envelope(EVE, recipients, direction="inbound")

    assert limiter.try_acquire(arriving(BOB)).recipients
    for verb in (limiter.check, limiter.try_acquire):
        decision = verb(arriving(ANN, BOB))
        assert decision.recipients is not None
        assert shadow_of(decision.recipients[ANN])
        assert not shadow_of(decision.recipients[BOB])
        shadow = shadow_of(decision)
        assert shadow.recipients == {
            address: each.shadow for address, each in decision.recipients.items()
        }
        assert shadow
    shadow = shadow_of(limiter.check(arriving(BOB, ANN)))
    assert not shadow
    assert shadow.retry_after == 3600
    decision = limiter.try_acquire(arriving(ANN, BOB))
    assert [bool(each) for each in (decision.recipients or {}).values()] == [True, False]
    limiter.refund(decision)
    assert limiter.usage(ANN, scope="recipient")[0].used == 1


def test_a_message_to_a_list_that_holds_it_has_no_answer_of_them_all() -> None:
    limiter = limiter_of(
        MessageRateLimit("1/hour", direction="inbound", enforce=False),
        partial=True,
        directory=Directory(lists=[MailingList("held@uwo.ca", posting="moderated")]),
    )
    decision = limiter.try_acquire(Envelope(EVE, [BOB, "held@uwo.ca"], direction="inbound"))
    assert decision.shadow is None
    assert decision.recipients is not None
    assert decision.recipients["held@uwo.ca"].shadow is None
    assert shadow_of(decision.recipients[BOB])


# Bookings.


def test_a_booking_says_whether_they_have_room_by_its_time() -> None:
    clock = ManualClock()
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE, clock=clock)
    reservations = [limiter.reserve(LETTER) for _ in range(3)]
    assert [each.delay for each in reservations] == [0, 0, 0]
    assert [bool(shadow_of(each.decision)) for each in reservations] == [True, True, False]
    assert shadow_of(reservations[2].decision).retry_after == 60
    reservations[0].cancel()
    assert room(limiter)
    with pytest.raises(ValueError, match="already"):
        reservations[0].cancel()


def test_limits_stricter_than_the_enforced_ones_book_nothing_ahead() -> None:
    clock = ManualClock()
    limiter = limiter_of(
        MessageRateLimit("30/minute"), MessageRateLimit("1/day", enforce=False), clock=clock
    )
    decisions = [limiter.acquire(LETTER) for _ in range(300)]
    assert sum(bool(shadow_of(decision)) for decision in decisions) == 1
    assert all((shadow_of(decision).retry_after or 0) <= 86_400 for decision in decisions)
    clock.advance(86_400)
    assert room(limiter)


def test_limits_equal_to_the_enforced_ones_have_room_for_all_that_waits() -> None:
    clock = ManualClock()
    limiter = limiter_of(
        MessageRateLimit("2/minute"), MessageRateLimit("2/minute", enforce=False), clock=clock
    )
    assert all(shadow_of(limiter.acquire(LETTER)) for _ in range(7))
    assert all(shadow_of(limiter.reserve(LETTER).decision) for _ in range(7))


def test_a_wait_that_is_too_long_tells_what_they_would_have_answered() -> None:
    limiter = limiter_of(MessageRateLimit("1/minute"), TWO_A_MINUTE)
    assert limiter.acquire(LETTER)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(LETTER, timeout=1)
    assert shadow_of(caught.value.decision)


def test_a_wait_that_is_broken_off_gives_both_places_back() -> None:
    clock = ManualClock()
    broken: list[float] = []

    def sleep(seconds: float) -> None:
        broken.append(seconds)
        raise KeyboardInterrupt

    policy = Policy(name="test", limits=[MessageRateLimit("1/minute"), TWO_A_MINUTE])
    limiter = Limiter(policy, MemoryBackend(clock), sleep=sleep)
    assert limiter.acquire(LETTER)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire(LETTER)
    assert broken == [60] * 3
    assert room(limiter)


# What they must not harm.


def is_shadow(charges: Sequence[Charge]) -> bool:
    return any(":shadow" in ledger.name for ledger, _, _ in charges)


class Spoiled(MemoryBackend):
    """A backend whose counts of limits that only report are another program's."""

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if is_shadow(charges):
            raise BackendError("another program's value stands there")
        return super().apply(charges, intent)


def verbs_of(limiter: Limiter) -> list[Callable[[Envelope], Decision]]:
    return [
        limiter.try_acquire,
        limiter.acquire,
        lambda letter: limiter.reserve(letter).decision,
        lambda letter: limiter.try_acquire_many([letter])[0],
    ]


def test_an_error_of_their_counts_is_logged_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE, backend=Spoiled(clock), clock=clock)
    for number, verb in enumerate(verbs_of(limiter), start=1):
        with caplog.at_level(logging.WARNING):
            decision = verb(LETTER)
        assert decision
        assert decision.shadow is None
        assert used(limiter) == [1]
        assert len(caplog.records) == number
        assert "another program's value" in caplog.text
        limiter.refund(decision)
        assert used(limiter) == [0]


def test_a_check_is_not_harmed_by_an_error_of_their_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    limiter = limiter_of(TEN_A_MINUTE, TWO_A_MINUTE, backend=Spoiled(clock), clock=clock)
    with caplog.at_level(logging.WARNING):
        assert limiter.check(LETTER).shadow is None


def test_in_a_cluster_counts_stay_where_they_are() -> None:
    limits = [MessageRateLimit("9/day"), MessageRateLimit("9/day", scope="sender_domain")]
    reported = MessageRateLimit("9/day", scope="client", enforce=False)
    assert Policy(name="test", limits=limits).shard == "sender_domain"
    assert Policy(name="test", limits=[*limits, reported]).shard == "sender_domain"


class InParts:
    """A backend in parts, one for each sender; that of Bob is away."""

    def __init__(self) -> None:
        self._memory = MemoryBackend(ManualClock())

    def shard_of(self, charges: Sequence[Charge]) -> str:
        return charges[0][1]

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if self.shard_of(charges) == BOB:
            raise BackendUnavailable("no answer")
        return self._memory.apply(charges, intent)

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        return [self.apply(*message) for message in messages]

    def refund(self, receipt: Any) -> None:
        self._memory.refund(receipt)

    def now(self) -> int:
        return self._memory.now()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        return self._memory.usage(ledger, subject)

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        self._memory.reset(ledgers, subject)


@pytest.mark.parametrize(
    "reported",
    [
        [],
        [TWO_A_MINUTE],
    ],
)
def test_a_part_of_the_backend_that_is_away_harms_nobody_in_another(reported: list[Any]) -> None:
    policy = Policy(name="test", limits=[TEN_A_MINUTE, *reported])
    limiter = Limiter(policy, InParts(), on_backend_error="deny")
    assert limiter.try_acquire(Envelope(BOB, [EVE])).degraded
    assert not limiter.try_acquire(LETTER).degraded


class Slow(InlineAdapter):
    """A backend that answers for limits that only report when it is told to."""

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__(backend)
        self.asked, self.told = asyncio.Event(), asyncio.Event()

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        if is_shadow(charges):
            self.asked.set()
            await self.told.wait()
        return await super().apply(charges, intent)


async def test_a_wait_cancelled_while_they_are_asked_gives_its_place_back() -> None:
    slow = Slow(MemoryBackend(ManualClock()))
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute"), TWO_A_MINUTE])
    limiter = AsyncLimiter(policy, slow)
    waiting = asyncio.create_task(limiter.acquire(LETTER))
    await asyncio.wait_for(slow.asked.wait(), timeout=30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await limiter.usage(ANN))[0].used == 0


# The other colour.


async def test_an_async_limiter_reports_too() -> None:
    clock = ManualClock()
    policy = Policy(name="test", limits=[TEN_A_MINUTE, TWO_A_MINUTE])
    limiter = AsyncLimiter(policy, MemoryBackend(clock), sleep=clock.sleep)
    decisions = [
        await limiter.try_acquire(LETTER),
        await limiter.acquire(LETTER),
        (await limiter.reserve(LETTER)).decision,
        *await limiter.try_acquire_many([LETTER]),
    ]
    assert all(decisions)
    assert [bool(shadow_of(each)) for each in decisions] == [True, True, False, False]
    assert not shadow_of(await limiter.check(LETTER))
    await limiter.refund(decisions[1])
    assert shadow_of(await limiter.check(LETTER))
    assert (await limiter.usage(ANN))[0].used == 3
