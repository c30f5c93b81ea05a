"""Receiving limits: what counts for which mailbox, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import inbound_envelope, used_counts

from ratelimit_mail import (
    Action,
    AsyncLimiter,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.overrides import Exemption
from ratelimit_mail.testing import ManualClock

ANN, BOB, SUB = "ann@uwo.ca", "bob@uwo.ca", "cy@cs.uwo.ca"
EVE, FAY = "eve@example.com", "fay@example.org"
INSIDE = ["uwo.ca", ".uwo.ca"]


def received(rate: str, **options: Any) -> MessageRateLimit:
    return MessageRateLimit(rate, direction="inbound", **options)


def receiving_limiter(
    *limits: Any, domains: Any = INSIDE, clock: ManualClock | None = None
) -> Limiter:
    clock = clock or ManualClock()
    policy = Policy(name="test", limits=limits, internal_domains=domains)
    return Limiter(policy, MemoryBackend(clock), sleep=clock.advance)


# The limit


def test_an_inbound_limit_is_counted_per_recipient_by_default() -> None:
    assert received("9/hour").scope == ("recipient",)
    assert MessageRateLimit("9/hour").scope == ("sender",)
    assert RecipientRateLimit("9/hour", direction="inbound").scope == ("recipient",)
    assert received("9/hour", scope="global").scope == ("global",)
    assert str(received("3600/hour")) == "3600 received messages per hour per recipient"


def test_the_33_percent_of_one_sender_are_1188_of_3600() -> None:
    pair = received("3600/hour", scope=("sender", "recipient"), share=0.33)
    assert pair.limit == 1188
    limiter = receiving_limiter(received("3600/hour"), pair)
    for _ in range(1188):
        assert limiter.try_acquire(inbound_envelope(ANN))
    decision = limiter.try_acquire(inbound_envelope(ANN))
    assert decision.limit == pair
    assert limiter.try_acquire(inbound_envelope(BOB))
    assert limiter.try_acquire(inbound_envelope(ANN, sender=FAY))
    assert used_counts(limiter, ANN, scope="recipient") == [1189]
    assert used_counts(limiter, [EVE, ANN], ("sender", "recipient")) == [1188]
    assert limiter.usage([EVE, ANN], scope=("sender", "recipient"))[0].remaining == 0


@pytest.mark.parametrize(
    ("amount", "share", "limit"),
    [(3600, 0.33, 1188), (100, 0.29, 29), (10, 0.1, 1), (3, 1, 3), (3, 1.0, 3), (10, 0.19, 1)],
)
def test_a_share_is_rounded_down_exactly(amount: int, share: float, limit: int) -> None:
    assert received(f"{amount}/hour", share=share).limit == limit


@pytest.mark.parametrize("wrong", [0, -0.1, 1.01, 0.0001, float("nan"), float("inf")])
def test_a_share_outside_0_to_1_is_an_error(wrong: float) -> None:
    with pytest.raises(ValueError, match="share: "):
        received("3600/hour", share=wrong)


@pytest.mark.parametrize("wrong", ["0.33", True, [0.33]])
def test_a_share_that_is_not_a_number_is_an_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"share: a number such as 0\.33 is needed"):
        received("3600/hour", share=wrong)


def test_an_inbound_limit_cannot_count_external_recipients() -> None:
    with pytest.raises(ValueError, match="count: 'external' is for outbound limits"):
        received("9/hour", count="external")


@pytest.mark.parametrize("wrong", ["in", "Inbound", None, 1])
def test_an_invalid_direction_is_an_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match="direction: "):
        MessageRateLimit("9/hour", direction=wrong)
    with pytest.raises(ValueError, match="direction: "):
        Envelope(EVE, [ANN], direction=wrong)


# What counts


def test_a_mailbox_receives_3600_messages_an_hour() -> None:
    clock = ManualClock()
    limiter = receiving_limiter(received("3600/hour"), clock=clock)
    for number in range(3600):
        assert limiter.try_acquire(inbound_envelope(ANN, sender=f"s{number}@example.com"))
    decision = limiter.try_acquire(inbound_envelope(ANN))
    assert decision.action is Action.DEFER
    assert decision.retry_after == 3600
    assert str(decision.reply) == "450 4.7.1 Message rate limit exceeded. Try again later."
    assert limiter.try_acquire(inbound_envelope(BOB))
    clock.advance(3600)
    assert limiter.try_acquire(inbound_envelope(ANN))


def test_only_mailboxes_of_the_internal_domains_count() -> None:
    limiter = receiving_limiter(received("1/hour"), received("9/hour", scope="global"))
    for _ in range(3):
        assert limiter.try_acquire(inbound_envelope(FAY))
    assert used_counts(limiter, FAY, scope="recipient") == [0]
    assert used_counts(limiter, None, "global") == [0]
    assert limiter.try_acquire(inbound_envelope(FAY, SUB))
    assert used_counts(limiter, SUB, scope="recipient") == [1]
    assert not limiter.try_acquire(inbound_envelope(SUB))


def test_every_recipient_is_a_mailbox_without_internal_domains() -> None:
    limiter = receiving_limiter(received("1/hour"), domains=())
    assert limiter.try_acquire(inbound_envelope(FAY))
    assert not limiter.try_acquire(inbound_envelope(FAY))


def test_outbound_limits_do_not_apply_to_inbound_mail() -> None:
    limiter = receiving_limiter(
        RecipientLimit(1),
        RecipientLimit(1, count="external"),
        MessageRateLimit("1/day"),
        RecipientRateLimit("1/day", scope="global"),
        MessageRateLimit("1/day", scope="recipient"),
        MessageRateLimit("1/day", count="external"),
    )
    for _ in range(3):
        assert limiter.try_acquire(inbound_envelope(ANN, BOB, FAY))
    assert used_counts(limiter, EVE, "sender") == [0, 0]
    assert used_counts(limiter, ANN, scope="recipient") == [0]


def test_outbound_mail_to_an_internal_mailbox_is_received_there() -> None:
    limiter = receiving_limiter(MessageRateLimit("9/day"), received("2/hour"))
    assert limiter.try_acquire(Envelope(ANN, [BOB, EVE]))
    assert limiter.try_acquire(inbound_envelope(BOB))
    assert used_counts(limiter, ANN, "sender") == [1]
    assert used_counts(limiter, BOB, scope="recipient") == [2]
    assert used_counts(limiter, EVE, scope="recipient") == [0]
    assert not limiter.try_acquire(inbound_envelope(BOB))


def test_a_full_mailbox_defers_an_outbound_message_as_a_whole() -> None:
    limiter = receiving_limiter(MessageRateLimit("9/day"), received("1/hour"))
    assert limiter.try_acquire(inbound_envelope(BOB))
    decision = limiter.try_acquire(Envelope(ANN, [BOB, SUB, EVE]))
    assert decision.limit == received("1/hour")
    assert decision.recipients is None
    assert used_counts(limiter, ANN, "sender") == [0]
    assert used_counts(limiter, SUB, scope="recipient") == [0]


def test_a_refused_outbound_message_is_not_received() -> None:
    limiter = receiving_limiter(MessageRateLimit("1/day"), received("9/hour"))
    assert limiter.try_acquire(Envelope(ANN, [EVE]))
    assert not limiter.try_acquire(Envelope(ANN, [BOB]))
    assert used_counts(limiter, BOB, scope="recipient") == [0]


def test_inbound_and_outbound_limits_per_recipient_count_separately() -> None:
    limiter = receiving_limiter(MessageRateLimit("2/hour", scope="recipient"), received("3/hour"))
    assert limiter.try_acquire(Envelope(ANN, [BOB]))
    assert limiter.try_acquire(inbound_envelope(BOB))
    sent, came = limiter.usage(BOB, scope="recipient")
    assert (sent.limit, sent.used) == (MessageRateLimit("2/hour", scope="recipient"), 1)
    assert (came.limit, came.used) == (received("3/hour"), 2)
    limiter.reset(BOB, scope="recipient")
    assert used_counts(limiter, BOB, scope="recipient") == [0, 0]


def test_without_partial_answers_one_full_mailbox_defers_an_inbound_message() -> None:
    limiter = receiving_limiter(received("1/hour"))
    assert limiter.try_acquire(inbound_envelope(ANN))
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert decision.action is Action.DEFER
    assert decision.recipients is None
    assert used_counts(limiter, BOB, scope="recipient") == [0]


def test_the_null_sender_is_a_sender_like_any_other() -> None:
    limiter = receiving_limiter(received("1/hour", scope=("sender", "recipient")))
    assert limiter.try_acquire(inbound_envelope(ANN, sender="<>"))
    assert not limiter.try_acquire(inbound_envelope(ANN, sender=""))
    assert limiter.try_acquire(inbound_envelope(ANN))


@pytest.mark.parametrize(
    ("scope", "subject", "messages", "recipients"),
    [
        ("recipient", ANN, 1, 1),
        ("recipient_domain", "uwo.ca", 1, 2),
        ("recipient_domain", "cs.uwo.ca", 1, 1),
        ("sender", EVE, 1, 3),
        ("sender_domain", "example.com", 1, 3),
        ("client", "", 1, 3),
        ("user", "", 1, 3),
        ("global", None, 1, 3),
        (("sender_domain", "recipient_domain"), ("example.com", "uwo.ca"), 1, 2),
    ],
)
def test_a_message_to_three_mailboxes_is_charged_to_each(
    scope: Any, subject: Any, messages: int, recipients: int
) -> None:
    limiter = receiving_limiter(
        received("9/hour", scope=scope),
        RecipientRateLimit("9/hour", scope=scope, direction="inbound"),
    )
    assert limiter.try_acquire(inbound_envelope(ANN, BOB, SUB, FAY))
    assert used_counts(limiter, subject, scope) == [messages, recipients]


def test_a_message_that_never_fits_is_rejected_for_ever() -> None:
    limiter = receiving_limiter(RecipientRateLimit("1/hour", scope="global", direction="inbound"))
    decision = limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert decision.action is Action.REJECT
    assert decision.retry_after is None


def test_counted_refused_attempts_keep_a_mailbox_closed() -> None:
    clock = ManualClock()
    limiter = receiving_limiter(received("2/minute", denied="count"), clock=clock)
    for _ in range(12):
        decision = limiter.try_acquire(inbound_envelope(ANN))
        clock.advance(20)
    assert not decision
    clock.advance(60)
    assert limiter.try_acquire(inbound_envelope(ANN))


def test_acquire_and_reserve_wait_for_a_mailbox() -> None:
    clock = ManualClock()
    limiter = receiving_limiter(received("1/minute"), clock=clock)
    start = clock()
    for number in range(3):
        assert limiter.acquire(inbound_envelope(ANN, sender=f"s{number}@example.com"))
    assert clock() - start == 120_000
    assert limiter.reserve(inbound_envelope(ANN, BOB)).delay == 60
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(inbound_envelope(ANN), timeout=59)


def test_a_check_charges_nothing() -> None:
    limiter = receiving_limiter(received("1/hour", denied="count"))
    assert limiter.check(inbound_envelope(ANN))
    assert limiter.try_acquire(inbound_envelope(ANN))
    for _ in range(9):
        assert limiter.check(inbound_envelope(ANN)).retry_after == 3600
    assert used_counts(limiter, ANN, scope="recipient") == [1]


def test_a_refund_removes_the_message_from_each_mailbox() -> None:
    limiter = receiving_limiter(MessageRateLimit("9/day"), received("1/hour"))
    decision = limiter.try_acquire(Envelope(ANN, [BOB, SUB]))
    limiter.refund(decision)
    assert (
        used_counts(limiter, BOB, scope="recipient")
        == used_counts(limiter, SUB, scope="recipient")
        == used_counts(limiter, ANN, "sender")
        == [0]
    )


def test_a_sender_may_be_exempt_from_a_receiving_limit() -> None:
    policy = Policy(
        name="test",
        limits=[received("1/hour", name="messages received an hour")],
        internal_domains=INSIDE,
        exemptions=[
            Exemption(["messages received an hour"], senders=["example.org"], reason="a list")
        ],
    )
    limiter = Limiter(policy, MemoryBackend(ManualClock()))
    for _ in range(3):
        assert limiter.try_acquire(inbound_envelope(ANN, sender=FAY))
    assert limiter.try_acquire(inbound_envelope(ANN))
    assert not limiter.try_acquire(inbound_envelope(ANN))


async def test_an_async_limiter_counts_mailboxes_too() -> None:
    policy = Policy(name="test", limits=[received("1/hour")], internal_domains=INSIDE)
    limiter = AsyncLimiter(policy, MemoryBackend(ManualClock()))
    assert await limiter.try_acquire(inbound_envelope(ANN, BOB))
    assert not await limiter.try_acquire(inbound_envelope(BOB))
    assert (await limiter.usage(BOB, scope="recipient"))[0].used == 1
    await limiter.reset(BOB, scope="recipient")
    assert await limiter.try_acquire(inbound_envelope(BOB))
