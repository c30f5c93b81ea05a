"""Shadow limits (`enforce=False`): what they report, for which messages, and to whose limits."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to, inbound_envelope
from rlm_testkit.shadow_limits import (
    ANN,
    BOB,
    ENVELOPE,
    EVE,
    SHADOW_TWO_A_MINUTE,
    TEN_A_MINUTE,
    shadow_has_room,
    shadow_limiter,
    shadow_of,
    used,
)

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Client,
    Decision,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.testing import ManualClock

# What they report.


def test_a_shadow_limit_reports_what_it_would_have_answered() -> None:
    limiter = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE)
    for _ in range(2):
        decision = limiter.try_acquire(ENVELOPE)
        assert decision
        assert shadow_of(decision) == Decision(Action.ACCEPT)
    decision = limiter.try_acquire(ENVELOPE)
    assert decision.action is Action.ACCEPT
    assert decision.limit is None
    assert decision.retry_after == 0.0
    assert str(decision.reply) == "250 2.0.0 OK"
    shadow = shadow_of(decision)
    assert shadow.action is Action.DEFER
    assert shadow.limit == SHADOW_TWO_A_MINUTE
    assert shadow.retry_after == 60
    assert str(shadow.reply) == "450 4.7.1 Message rate limit exceeded. Try again later."
    assert shadow.shadow is None


def test_without_shadow_limits_a_decision_has_no_shadow() -> None:
    assert shadow_limiter(TEN_A_MINUTE).try_acquire(ENVELOPE).shadow is None


def test_a_policy_may_have_shadow_limits_only() -> None:
    limiter = shadow_limiter(SHADOW_TWO_A_MINUTE)
    decisions = [limiter.try_acquire(ENVELOPE) for _ in range(3)]
    assert all(decisions)
    assert [bool(shadow_of(decision)) for decision in decisions] == [True, True, False]
    limiter.refund(decisions[0])
    assert shadow_has_room(limiter)
    assert limiter.acquire(ENVELOPE)
    assert limiter.reserve(ENVELOPE).delay == 0


def test_a_recipient_limit_may_be_a_shadow_limit() -> None:
    limit = RecipientLimit(1, enforce=False)
    limiter = shadow_limiter(TEN_A_MINUTE, limit)
    assert shadow_of(limiter.try_acquire(ENVELOPE))
    decision = limiter.try_acquire(envelope_to([EVE, BOB]))
    assert decision
    assert shadow_of(decision) == Decision(Action.REJECT, None, limit)
    assert used(limiter) == [2]


def test_a_message_that_never_fits_a_shadow_limit_is_reported_as_rejected() -> None:
    limiter = shadow_limiter(RecipientRateLimit("1/day", enforce=False))
    decision = limiter.try_acquire(envelope_to([EVE, BOB]))
    assert decision
    assert shadow_of(decision).action is Action.REJECT
    assert shadow_of(decision).retry_after is None
    assert shadow_has_room(limiter)


def test_the_text_of_a_shadow_limit_says_that_it_only_reports() -> None:
    assert str(SHADOW_TWO_A_MINUTE) == "2 messages per minute per sender, only reported"
    assert str(RecipientLimit(1, enforce=False)) == "1 recipient per message, only reported"


@pytest.mark.parametrize("enforce", [None, 0, "no"])
def test_an_enforce_that_is_not_a_boolean_raises(enforce: Any) -> None:
    with pytest.raises(TypeError, match="enforce: True or False is needed"):
        MessageRateLimit("2/minute", enforce=enforce)
    with pytest.raises(TypeError, match="enforce: True or False is needed"):
        RecipientLimit(2, enforce=enforce)


def test_a_pickled_decision_has_the_same_shadow() -> None:
    decision = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE).try_acquire(ENVELOPE)
    assert pickle.loads(pickle.dumps(decision)) == decision


def test_a_shadow_cannot_be_refunded_by_itself() -> None:
    limiter = shadow_limiter(TEN_A_MINUTE, SHADOW_TWO_A_MINUTE)
    decision = limiter.try_acquire(ENVELOPE)
    with pytest.raises(ValueError, match="nothing to refund"):
        limiter.refund(shadow_of(decision))
    limiter.refund(decision)


# Which messages and limits.


def test_a_tier_may_have_shadow_limits() -> None:
    tier = Tier("wireless", when=has_tag("wireless"), limits=[SHADOW_TWO_A_MINUTE])
    limiter = shadow_limiter(TEN_A_MINUTE, tiers=[tier])
    assert limiter.try_acquire(ENVELOPE).shadow is None
    wireless = envelope_to([EVE], client=Client(tags={"wireless"}))
    # The message before came from another tier, and counts in this one.
    answers = [bool(shadow_of(limiter.try_acquire(wireless))) for _ in range(3)]
    assert answers == [True, False, False]
    assert shadow_of(limiter.check(wireless)).tier == "wireless"


def test_overrides_and_exemptions_apply_to_shadow_limits() -> None:
    limiter = shadow_limiter(
        MessageRateLimit("1/minute", name="a minute", enforce=False),
        overrides=[Override({"a minute": 2}, senders=[BOB])],
        exemptions=[Exemption(["a minute"], senders=["x.org"], reason="a test")],
    )
    for sender, expected in ((ANN, [True, False]), (BOB, [True, True])):
        envelope = envelope_to([EVE], sender)
        assert [bool(shadow_of(limiter.try_acquire(envelope))) for _ in range(2)] == expected
    assert limiter.try_acquire(envelope_to([EVE], "eve@x.org")).shadow is None


def test_aliases_and_exempt_lists_apply_to_shadow_limits() -> None:
    directory = Directory(
        {"a.smith@uwo.ca": ANN},
        [MailingList("free@uwo.ca", exempt=True), MailingList("held@uwo.ca", posting="moderated")],
    )
    limiter = shadow_limiter(RecipientRateLimit("2/minute", enforce=False), directory=directory)
    assert shadow_of(limiter.try_acquire(envelope_to([ANN, "a.smith@uwo.ca", "free@uwo.ca"], BOB)))
    assert shadow_of(limiter.try_acquire(envelope_to([EVE], BOB)))
    assert shadow_of(limiter.try_acquire(envelope_to(["free@uwo.ca"], BOB)))
    assert not shadow_has_room(limiter, envelope_to([EVE], BOB))
    assert limiter.try_acquire(envelope_to(["held@uwo.ca"], BOB)).shadow is None


def test_a_partial_answer_has_a_shadow_for_each_recipient_and_one_for_the_message() -> None:
    limiter = shadow_limiter(
        MessageRateLimit("2/hour", direction="inbound"),
        MessageRateLimit("1/hour", direction="inbound", enforce=False),
        partial=True,
    )
    assert limiter.try_acquire(inbound_envelope(BOB)).recipients
    for method in (limiter.check, limiter.try_acquire):
        decision = method(inbound_envelope(ANN, BOB))
        assert decision.recipients is not None
        assert shadow_of(decision.recipients[ANN])
        assert not shadow_of(decision.recipients[BOB])
        shadow = shadow_of(decision)
        assert shadow.recipients == {
            address: each.shadow for address, each in decision.recipients.items()
        }
        assert shadow
    shadow = shadow_of(limiter.check(inbound_envelope(BOB, ANN)))
    assert not shadow
    assert shadow.retry_after == 3600
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert [bool(each) for each in (decision.recipients or {}).values()] == [True, False]
    limiter.refund(decision)
    assert limiter.usage(ANN, scope="recipient")[0].used == 1


def test_a_partial_answer_has_no_shadow_if_a_list_holds_the_message() -> None:
    limiter = shadow_limiter(
        MessageRateLimit("1/hour", direction="inbound", enforce=False),
        partial=True,
        directory=Directory(lists=[MailingList("held@uwo.ca", posting="moderated")]),
    )
    decision = limiter.try_acquire(inbound_envelope(BOB, "held@uwo.ca"))
    assert decision.shadow is None
    assert decision.recipients is not None
    assert decision.recipients["held@uwo.ca"].shadow is None
    assert shadow_of(decision.recipients[BOB])


async def test_an_async_limiter_reports_shadow_limits_too() -> None:
    clock = ManualClock()
    policy = Policy(name="test", limits=[TEN_A_MINUTE, SHADOW_TWO_A_MINUTE])
    limiter = AsyncLimiter(policy, MemoryBackend(clock), sleep=clock.sleep)
    decisions = [
        await limiter.try_acquire(ENVELOPE),
        await limiter.acquire(ENVELOPE),
        (await limiter.reserve(ENVELOPE)).decision,
        *await limiter.try_acquire_many([ENVELOPE]),
    ]
    assert all(decisions)
    assert [bool(shadow_of(each)) for each in decisions] == [True, True, False, False]
    assert not shadow_of(await limiter.check(ENVELOPE))
    await limiter.refund(decisions[1])
    assert shadow_of(await limiter.check(ENVELOPE))
    assert (await limiter.usage(ANN))[0].used == 3
