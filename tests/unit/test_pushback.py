"""`pushback`: a provider's "slow down" becomes a block of the sender for the time that it names."""

from __future__ import annotations

import smtplib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rlm_testkit.builders import envelope_to
from rlm_testkit.either_limiter import EitherLimiter, sync_and_async

from ratelimit_mail import Action, MessageRateLimit
from ratelimit_mail.smtp_errors import LONGEST_PUSHBACK, as_text, pushback_seconds

NINE_A_MINUTE = MessageRateLimit("9/minute")
ANN = envelope_to(["bob@example.com"])
DEFAULT = 77.0

SLOW_DOWN = [
    # Exchange Online
    ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", DEFAULT),
    ("432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent", DEFAULT),
    ("421 4.3.2 The maximum number of concurrent connections has exceeded a limit", DEFAULT),
    ("451 4.7.650 The mail server [10.1.2.3] has been temporarily rate limited", DEFAULT),
    # Amazon SES
    ("454 Throttling failure: Maximum sending rate exceeded.", DEFAULT),
    ("454 4.7.0 Throttling failure: Daily message quota exceeded.", DEFAULT),
    # Gmail and Google Workspace
    ("421 4.7.0 Too many messages; try again later", DEFAULT),
    ("421 4.7.0 Try again in 5 minutes", 300.0),
    ("421-4.7.28 Gmail has detected an unusual rate of email\r\n421 4.7.28 from you", DEFAULT),
    ("450 4.7.28 Our system has detected an unusual rate of unsolicited mail", DEFAULT),
    # Yahoo
    ("421 4.7.0 [TSS04] Messages from 10.1.2.3 temporarily deferred; see the page", DEFAULT),
    # Other servers
    ("452 4.3.2 Connection rate limit exceeded", DEFAULT),
    ("452 Too many messages from you this hour, slow down", DEFAULT),
    ("450 4.7.1 Error: too much mail from 10.1.2.3, retry after 30 seconds", 30.0),
    ("451 Please try again in 5 minutes", 300.0),
    ("450 you send too fast, come back in 2 hours", 7200.0),
    ("450 you send too quickly", DEFAULT),
    ("421 throttled: retry in 90s", 90.0),
    ("421 throttled: retry in 3 min", 180.0),
    ("421 throttled: retry in 1h", 3600.0),
    ("421 throttled: retry in 0 seconds", 1.0),
]

NOT_PUSHBACK = [
    # Greylisting
    "450 4.2.0 Greylisted, try again in 300 seconds",
    "451 4.7.1 Greylisting in action, please retry in 00:05:00",
    "450 4.7.1 graylisted: try again in 5 minutes",
    "450 4.3.2 Service currently unavailable",
    # About the recipient, the storage or the login
    "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
    "452 4.2.2 The recipient's inbox is out of storage",
    "452 4.3.1 Insufficient system storage",
    "452 4.5.3 Too many recipients",
    "454 4.7.0 Temporary authentication failure",
    "454 4.7.0 TLS not available due to local problem",
    "451 4.3.0 Temporary lookup failure",
    "450 4.1.8 Sender address rejected: Domain not found",
    "421 4.4.2 Timeout",
    # Permanent, or not a refusal
    "550 5.4.5 Daily user sending limit exceeded, rate limit",
    "554 5.7.1 throttled, retry after 30 seconds",
    "250 2.0.0 OK, slow down",
    "354 go ahead",
    # Not a reply
    "",
    "slow down",
    "4321 rate limit",
    "99 throttled",
]


@pytest.mark.parametrize(("reply", "seconds"), SLOW_DOWN, ids=[reply for reply, _ in SLOW_DOWN])
def test_a_slow_down_is_recognised_as_text_bytes_pair_and_exception(
    reply: str, seconds: float
) -> None:
    code, text = int(reply[:3]), reply[4:]
    assert pushback_seconds(reply, DEFAULT) == seconds
    assert pushback_seconds(reply.encode(), DEFAULT) == seconds
    assert pushback_seconds((code, text), DEFAULT) == seconds
    assert pushback_seconds((code, text.encode()), DEFAULT) == seconds
    for kind in (smtplib.SMTPDataError, smtplib.SMTPResponseException, smtplib.SMTPConnectError):
        assert pushback_seconds(kind(code, text.encode()), DEFAULT) == seconds
    sender_refused = smtplib.SMTPSenderRefused(code, text.encode(), "ann@uwo.ca")
    assert pushback_seconds(sender_refused, DEFAULT) == seconds
    refused = {"bob@example.com": (code, text.encode())}
    assert pushback_seconds(smtplib.SMTPRecipientsRefused(refused), DEFAULT) == seconds
    assert pushback_seconds(refused, DEFAULT) == seconds


@pytest.mark.parametrize(("reply", "seconds"), SLOW_DOWN, ids=[reply for reply, _ in SLOW_DOWN])
def test_a_slow_down_is_recognised_in_what_aiosmtplib_raises(reply: str, seconds: float) -> None:
    aiosmtplib = pytest.importorskip("aiosmtplib")
    code, text = int(reply[:3]), reply[4:]
    assert pushback_seconds(aiosmtplib.SMTPDataError(code, text), DEFAULT) == seconds
    assert pushback_seconds(aiosmtplib.SMTPResponse(code, text), DEFAULT) == seconds
    recipient = aiosmtplib.SMTPRecipientRefused(code, text, "bob@example.com")
    assert pushback_seconds(recipient, DEFAULT) == seconds
    assert pushback_seconds(aiosmtplib.SMTPRecipientsRefused([recipient]), DEFAULT) == seconds


@pytest.mark.parametrize("reply", NOT_PUSHBACK, ids=str)
def test_other_replies_are_not_a_slow_down(reply: str) -> None:
    assert pushback_seconds(reply, DEFAULT) is None
    assert pushback_seconds(reply.encode(), DEFAULT) is None


@pytest.mark.parametrize(
    "reply",
    [
        None,
        5,
        ValueError("421 4.7.0"),
        smtplib.SMTPServerDisconnected("421 4.7.0"),
        smtplib.SMTPRecipientsRefused({}),
        (None, "throttled"),
        ("421", "throttled"),
        (421, "throttled", 5),
        {},
        {"bob@example.com": "421 throttled"},
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_what_is_not_a_reply_of_a_server_is_not_a_slow_down(reply: object) -> None:
    assert pushback_seconds(reply, DEFAULT) is None


def test_of_several_recipients_any_may_be_told_to_slow_down_and_the_longest_time_counts() -> None:
    refused = {
        "a@example.com": (550, b"5.1.1 no such user"),
        "b@example.com": (421, b"4.7.0 try again in 5 minutes"),
        "c@example.com": (452, b"slow down, retry in 30 seconds"),
    }
    assert pushback_seconds(smtplib.SMTPRecipientsRefused(refused), DEFAULT) == 300


def test_a_time_that_a_reply_names_is_at_most_a_day() -> None:
    for text in ("999999 hours", "100000 minutes", "999999 s", "25h"):
        assert pushback_seconds(f"421 4.7.0 try again in {text}", DEFAULT) == LONGEST_PUSHBACK
    assert pushback_seconds("421 4.7.0 try again in 99999999999 hours", DEFAULT) == DEFAULT


@given(st.text() | st.binary())
def test_no_text_raises(text: str | bytes) -> None:
    for reply in (text, (421, text), smtplib.SMTPDataError(421, text)):
        seconds = pushback_seconds(reply, DEFAULT)
        assert seconds is None or 1 <= seconds <= LONGEST_PUSHBACK
        assert as_text(reply).isprintable()
        assert len(as_text(reply)) <= 200


@pytest.mark.parametrize(
    "unit", ["9 ", "9" * 6, "1 s", "4.7.0 ", "retry ", "\n", "-", "é", "9 second"], ids=repr
)
def test_a_hostile_reply_takes_no_longer_than_its_length(unit: str) -> None:
    start = time.process_time()
    for reply in (f"421 {unit * 200_000}", f"421 {unit * 200_000}".encode(), unit * 500_000):
        pushback_seconds(reply, DEFAULT)
        as_text(reply)
    assert time.process_time() - start < 5


# The method.


@sync_and_async
@pytest.mark.parametrize("sender", [ANN, "ann@uwo.ca"], ids=["envelope", "address"])
def test_pushback_blocks_the_sender_for_the_time_that_the_reply_names(
    mode: str, sender: Any
) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    block = limiter.pushback(sender, smtplib.SMTPDataError(421, b"4.7.0 retry in 30 seconds"))
    assert (block.scope, block.subject) == (("sender",), "ann@uwo.ca")
    assert (block.until - block.since).total_seconds() == 30
    assert block.reason == "provider: 421 4.7.0 retry in 30 seconds"
    decision = limiter.try_acquire(ANN)
    assert (decision.action, decision.retry_after, decision.block) == (Action.DEFER, 30, block)
    limiter.clock.advance(30)
    assert limiter.try_acquire(ANN)


@sync_and_async
def test_a_reply_without_a_time_blocks_for_a_minute_or_the_given_time(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    limiter.pushback(ANN, (432, "4.3.2 too fast"), seconds=5)
    assert limiter.try_acquire(ANN).retry_after == 5
    limiter.pushback(ANN, (432, "4.3.2 too fast"))
    assert limiter.try_acquire(ANN).retry_after == 60


@sync_and_async
@pytest.mark.parametrize("seconds", [None, 90])
def test_a_block_that_lasts_longer_stays_and_is_returned(mode: str, seconds: float | None) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    block = limiter.block("ann@uwo.ca", seconds, reason="account stolen")
    limiter.clock.advance(30)
    assert limiter.pushback(ANN, (432, "4.3.2 too fast")) == block
    assert limiter.blocks() == (block,)
    assert limiter.try_acquire(ANN).retry_after == (None if seconds is None else 60)
    limiter.clock.advance(1)
    block = limiter.pushback(ANN, (432, "4.3.2 too fast"))
    assert (block.reason == "account stolen") == (seconds is None)


@sync_and_async
def test_any_other_reply_blocks_nothing(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    assert limiter.pushback(ANN, "450 4.2.0 Greylisted, retry in 5 minutes") is None
    assert limiter.pushback(ANN, smtplib.SMTPServerDisconnected("gone")) is None
    assert limiter.blocks() == ()
    assert limiter.try_acquire(ANN)


@sync_and_async
@pytest.mark.parametrize("reply", ["432 4.3.2 too fast", "250 OK"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_wrong_time_is_an_error_whatever_the_reply(mode: str, reply: str, seconds: float) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    with pytest.raises(ValueError, match=f"seconds: {seconds} is not"):
        limiter.pushback(ANN, reply, seconds)


@sync_and_async
def test_a_wrong_sender_is_an_error_that_names_it(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    with pytest.raises(TypeError, match="5"):
        limiter.pushback(5, "432 4.3.2 too fast")


@sync_and_async
def test_the_exception_of_a_sending_can_be_given_to_pushback(mode: str) -> None:
    limiter = EitherLimiter(mode, NINE_A_MINUTE)
    error = smtplib.SMTPSenderRefused(432, b"4.3.2 Concurrent connections limit", "ann@uwo.ca")
    with pytest.raises(smtplib.SMTPException) as caught, limiter.sending(ANN):
        raise error
    assert limiter.pushback(ANN, caught.value) is not None
    assert limiter.used() == [0]
    assert limiter.try_acquire(ANN).retry_after == 60
