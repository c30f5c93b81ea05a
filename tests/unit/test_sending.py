"""`sending`: a message counts at the end of its sending, or not at all if it was not sent."""

from __future__ import annotations

import asyncio
import smtplib

import pytest
from rlm_testkit.builders import campus_policy, envelope_to, inbound_envelope
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async
from rlm_testkit.outages import LimiterInOutage, log_lines

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientRateLimit,
)
from ratelimit_mail.backends.base import Reading
from ratelimit_mail.smtp_errors import NOT_SENT

ENVELOPE = envelope_to(["bob@example.com"])
TWO_A_MINUTE = MessageRateLimit("2/minute")

REFUSALS = [
    smtplib.SMTPSenderRefused(550, b"no", "ann@uwo.ca"),
    smtplib.SMTPRecipientsRefused({"bob@example.com": (550, b"no such user")}),
    smtplib.SMTPDataError(554, b"rejected"),
    smtplib.SMTPHeloError(500, b"who are you"),
    smtplib.SMTPAuthenticationError(535, b"wrong password"),
    smtplib.SMTPConnectError(421, b"busy"),
    smtplib.SMTPNotSupportedError("SMTPUTF8 is not supported"),
]

MAY_HAVE_BEEN_SENT = [
    smtplib.SMTPServerDisconnected("gone"),
    smtplib.SMTPResponseException(450, b"?"),
    TimeoutError(),
    ConnectionResetError(),
    ValueError("a bug of the program"),
    KeyboardInterrupt(),
]


def raised_in_sending(
    limiter: EitherLimiter, error: BaseException, seconds: float = 0
) -> BaseException | None:
    """Raise `error` in a sending that takes so many seconds; return what the caller gets."""
    try:
        with limiter.sending(ENVELOPE):
            limiter.clock.advance(seconds)
            raise error
    except BaseException as raised:
        return raised


def by_name(error: BaseException) -> str:
    return type(error).__name__


# When the message counts.


@sync_and_async
def test_a_message_counts_at_its_admission_while_it_is_being_sent(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    with limiter.sending(ENVELOPE) as decision:
        assert decision.allowed
        assert limiter.used() == [1]
        limiter.clock.advance(20)
        assert limiter.resets_in() == [40]


@sync_and_async
def test_a_message_counts_at_the_end_of_its_sending_afterwards(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    with limiter.sending(ENVELOPE):
        limiter.clock.advance(20)
    assert limiter.used() == [1]
    assert limiter.resets_in() == [60]


@sync_and_async
def test_the_next_message_waits_for_a_window_from_the_end_of_the_sending(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    with limiter.sending(ENVELOPE):
        limiter.clock.advance(20)
    with limiter.sending(ENVELOPE):
        assert limiter.slept == [60]


@sync_and_async
def test_a_sending_waits_as_acquire_does_and_is_settled_after_the_wait(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    assert limiter.try_acquire(ENVELOPE)
    with limiter.sending(ENVELOPE, timeout=60):
        limiter.clock.advance(5)
    assert limiter.slept == [60]
    assert limiter.resets_in() == [60]


@sync_and_async
def test_a_sending_that_waits_longer_than_its_timeout_raises_and_charges_nothing(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    assert limiter.try_acquire(ENVELOPE)
    with (
        pytest.raises(RateLimitExceeded) as caught,
        limiter.sending(ENVELOPE, timeout=59.999),
    ):
        pytest.fail("it was sent")
    assert caught.value.decision.retry_after == 60
    assert limiter.used() == [1]
    assert limiter.slept == []


@sync_and_async
def test_a_negative_timeout_and_a_wrong_refund_on_are_errors_before_the_block(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    with pytest.raises(ValueError, match="timeout: -1"):
        limiter.sending(ENVELOPE, -1)
    with pytest.raises(TypeError, match="refund_on: 'no'"):
        limiter.sending(ENVELOPE, refund_on="no")


@sync_and_async
def test_a_message_with_nothing_to_count_is_sent_and_settled_without_a_charge(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/day", count="external"))
    for _ in range(3):
        with limiter.sending(envelope_to(["kim@uwo.ca"])) as decision:
            assert decision.allowed
    assert limiter.used() == [0]


@sync_and_async
def test_every_limit_and_scope_of_a_message_is_settled(mode: str) -> None:
    limiter = EitherLimiter(
        mode,
        MessageRateLimit("9/minute"),
        RecipientRateLimit("9/hour"),
        MessageRateLimit("9/day", scope="recipient_domain"),
    )
    with limiter.sending(envelope_to(["bob@example.com", "eve@example.net"])):
        limiter.clock.advance(20)
    assert limiter.resets_in() == [60, 3600]
    assert limiter.resets_in("example.net", "recipient_domain") == [86400]


@sync_and_async
def test_shadow_limits_are_settled_and_refunded_too(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE, MessageRateLimit("5/hour", enforce=False))

    def shadow_usage() -> Reading:
        ledger = limiter.policy.ledgers_of(("sender",))[-1]
        return limiter.backend.usage(ledger, "ann@uwo.ca")[0][0]

    with limiter.sending(ENVELOPE):
        limiter.clock.advance(20)
    assert (shadow_usage().used, shadow_usage().empty_in) == (1, 3_600_000)
    with pytest.raises(smtplib.SMTPDataError), limiter.sending(ENVELOPE):
        raise smtplib.SMTPDataError(554, b"no")
    assert shadow_usage().used == 1


@sync_and_async
def test_a_message_under_an_inbound_policy_is_settled_for_each_mailbox(mode: str) -> None:
    limit = MessageRateLimit("5/minute", direction="inbound")
    limiter = EitherLimiter(mode, policy=campus_policy(limit, partial=True))
    with limiter.sending(inbound_envelope("kim@uwo.ca", "lee@uwo.ca")):
        limiter.clock.advance(20)
    assert limiter.resets_in("kim@uwo.ca", "recipient") == [60]
    assert limiter.resets_in("lee@uwo.ca", "recipient") == [60]


# What proves that nothing was sent.


@sync_and_async
@pytest.mark.parametrize("error", REFUSALS, ids=by_name)
def test_an_exception_that_proves_that_nothing_was_sent_refunds_and_is_raised(
    mode: str, error: Exception
) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    assert raised_in_sending(limiter, error) is error
    assert limiter.used() == [0]


@sync_and_async
@pytest.mark.parametrize("error", MAY_HAVE_BEEN_SENT, ids=by_name)
def test_after_any_other_exception_the_message_stays_charged_at_the_end(
    mode: str, error: BaseException
) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    assert raised_in_sending(limiter, error, seconds=20) is error
    assert limiter.resets_in() == [60]


@sync_and_async
def test_refund_on_replaces_the_exceptions_that_prove_that_nothing_was_sent(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    with pytest.raises(LookupError), limiter.sending(ENVELOPE, refund_on=(LookupError, OSError)):
        raise KeyError
    assert limiter.used() == [0]
    with pytest.raises(smtplib.SMTPDataError), limiter.sending(ENVELOPE, refund_on=LookupError):
        raise smtplib.SMTPDataError(554, b"no")
    assert limiter.used() == [1]


def test_not_sent_is_the_tuple_of_exceptions_that_prove_that_nothing_was_sent() -> None:
    assert isinstance(NOT_SENT, tuple)
    for error in REFUSALS:
        assert isinstance(error, NOT_SENT)
    for doubtful in MAY_HAVE_BEEN_SENT:
        assert not isinstance(doubtful, NOT_SENT)


# By hand.


@sync_and_async
def test_a_message_that_is_settled_by_hand_is_not_settled_again_at_the_end(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    with limiter.sending(ENVELOPE) as decision:
        limiter.clock.advance(10)
        limiter.settle(decision)
        limiter.clock.advance(10)
    assert limiter.resets_in() == [50]


@sync_and_async
def test_a_message_that_is_refunded_by_hand_stays_refunded(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    with limiter.sending(ENVELOPE) as decision:
        limiter.refund(decision)
    assert limiter.used() == [0]
    with limiter.sending(ENVELOPE) as decision:
        limiter.clock.advance(20)
        limiter.refund(decision)
    assert limiter.used() == [0]


@sync_and_async
def test_settle_moves_what_try_acquire_charged_to_the_present(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    decision = limiter.try_acquire(ENVELOPE)
    limiter.clock.advance(20)
    limiter.settle(decision)
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])
    limiter.clock.advance(20)
    limiter.settle(decision)
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])
    limiter.refund(decision)
    assert limiter.used() == [0]


@sync_and_async
def test_settle_never_fails_for_a_limit(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    first = limiter.try_acquire(ENVELOPE)
    limiter.clock.advance(60)
    second = limiter.try_acquire(ENVELOPE)
    limiter.settle(first)
    limiter.settle(second)
    assert limiter.used() == [2]
    assert limiter.try_acquire(ENVELOPE).retry_after == 60


@sync_and_async
def test_settle_after_all_has_left_every_window_charges_it_again(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    decision = limiter.try_acquire(ENVELOPE)
    limiter.clock.advance(3600)
    assert limiter.try_acquire(envelope_to(sender="kim@uwo.ca"))  # evicts what is idle
    limiter.settle(decision)
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_settle_takes_only_accepted_decisions_of_its_own_limiter(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    other = EitherLimiter(mode, TWO_A_MINUTE)
    with pytest.raises(ValueError, match="another limiter"):
        limiter.settle(other.try_acquire(ENVELOPE))
    with pytest.raises(ValueError, match="nothing to refund or settle"):
        limiter.settle(limiter.check(ENVELOPE))
    with pytest.raises(TypeError, match="a Decision is needed, not 5"):
        limiter.settle(5)


@sync_and_async
def test_settle_after_a_refund_charges_nothing(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    decision = limiter.try_acquire(ENVELOPE)
    limiter.refund(decision)
    limiter.settle(decision)
    assert limiter.used() == [0]


# One object for several messages.


@sync_and_async
def test_a_sending_may_be_used_again_for_another_message_of_the_same_kind(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    sending = limiter.sending(ENVELOPE)
    for _ in range(2):
        with sending:
            limiter.clock.advance(1)
    assert limiter.used() == [2]
    assert limiter.resets_in() == [60]


@sync_and_async
def test_a_sending_in_use_cannot_be_entered_again(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    sending = limiter.sending(ENVELOPE)
    with sending:
        with pytest.raises(RuntimeError, match="is being sent"), sending:
            pytest.fail("it was entered twice")
        limiter.clock.advance(20)
    assert (limiter.used(), limiter.resets_in()) == ([1], [60])


@sync_and_async
def test_a_sending_that_could_not_begin_may_be_tried_again(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    assert limiter.try_acquire(ENVELOPE)
    sending = limiter.sending(ENVELOPE, timeout=0)
    for _ in range(2):
        with pytest.raises(RateLimitExceeded), sending:
            pytest.fail("it was sent")
    limiter.clock.advance(60)
    with sending:
        assert limiter.used() == [1]


# An outage at the end.


@sync_and_async
@pytest.mark.parametrize("on_backend_error", ["raise", "allow", "deny"])
def test_an_outage_at_the_end_of_a_sending_is_logged_and_not_raised(
    mode: str, on_backend_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = LimiterInOutage(mode, on_backend_error)
    send = limiter.limiter.limited()

    def function(envelope: Envelope) -> str:
        limiter.take_backend_away()
        return "sent"

    async def async_function(envelope: Envelope) -> str:
        return function(envelope)

    if mode == "sync":
        assert send(function)(ENVELOPE) == "sent"
    else:
        assert asyncio.run(send(async_function)(ENVELOPE)) == "sent"
    assert any("stays counted at its admission" in text for _, text in log_lines(caplog))
    limiter.bring_backend_back()
    limiter.seconds += 1
    assert limiter.usage("ann@uwo.ca")[0].used == 1


@sync_and_async
def test_a_settle_by_hand_that_an_outage_stopped_can_be_repeated(mode: str) -> None:
    limiter = LimiterInOutage(mode, policy=campus_policy(RecipientRateLimit("9/day")))
    decision = limiter.try_acquire(envelope_to(["bob@example.com", "eve@example.net"]))
    limiter.take_backend_away()
    with pytest.raises(Exception, match="the server is away"):
        limiter.settle(decision, refused=["eve@example.net"])
    limiter.bring_backend_back()
    limiter.seconds += 1
    limiter.settle(decision, refused=["eve@example.net"])
    assert limiter.usage("ann@uwo.ca")[0].used == 1


# The decorator.


@sync_and_async
def test_a_decorated_function_is_settled_at_the_end_of_its_call(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    limiter.send(lambda envelope: limiter.clock.advance(20), ENVELOPE)
    assert limiter.resets_in() == [60]


@sync_and_async
def test_without_settle_a_decorated_function_counts_at_its_admission(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)
    limiter.send(lambda envelope: limiter.clock.advance(20), ENVELOPE, settle=False)
    assert limiter.resets_in() == [40]


@sync_and_async
def test_without_settle_only_a_proof_that_nothing_was_sent_changes_the_charge(mode: str) -> None:
    limiter = EitherLimiter(mode, TWO_A_MINUTE)

    def refuse(envelope: Envelope) -> None:
        raise smtplib.SMTPDataError(554, b"no")

    def break_off(envelope: Envelope) -> None:
        limiter.clock.advance(20)
        raise smtplib.SMTPServerDisconnected

    with pytest.raises(smtplib.SMTPDataError):
        limiter.send(refuse, ENVELOPE, settle=False)
    assert limiter.used() == [0]
    with pytest.raises(smtplib.SMTPServerDisconnected):
        limiter.send(break_off, ENVELOPE, settle=False)
    assert limiter.resets_in() == [40]


@sync_and_async
def test_a_message_that_is_skipped_is_not_settled(mode: str) -> None:
    limiter = EitherLimiter(mode, MessageRateLimit("1/minute"))
    assert limiter.try_acquire(ENVELOPE)
    limiter.clock.advance(20)
    assert not limiter.send(lambda envelope: "sent", ENVELOPE, on_denied="skip")
    assert limiter.resets_in() == [40]


def test_settle_of_the_decorator_is_true_or_false() -> None:
    limiter = Limiter(Policy(name="test", limits=[TWO_A_MINUTE]))
    with pytest.raises(TypeError, match="settle"):
        limiter.limited(settle="yes")  # type: ignore[call-overload]
