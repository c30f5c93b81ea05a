"""`sending` and what aiosmtplib raises and returns."""

from __future__ import annotations

from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, envelope_to

from ratelimit_mail import AsyncLimiter, Envelope, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.smtp_errors import NOT_SENT, proves_not_sent
from ratelimit_mail.testing import ManualClock

aiosmtplib = pytest.importorskip("aiosmtplib")

ENVELOPE = envelope_to(["bob@example.com", "eve@example.net"])

REFUSALS = [
    aiosmtplib.SMTPSenderRefused(550, "no", "ann@uwo.ca"),
    aiosmtplib.SMTPRecipientsRefused(
        [
            aiosmtplib.SMTPRecipientRefused(550, "no such user", "bob@example.com"),
            aiosmtplib.SMTPRecipientRefused(550, "no such user", "eve@example.net"),
        ]
    ),
    aiosmtplib.SMTPDataError(554, "rejected"),
    aiosmtplib.SMTPHeloError(500, "who are you"),
    aiosmtplib.SMTPAuthenticationError(535, "wrong password"),
    aiosmtplib.SMTPConnectError("refused"),
    aiosmtplib.SMTPConnectTimeoutError("slow"),
    aiosmtplib.SMTPConnectResponseError(421, "busy"),
    aiosmtplib.SMTPNotSupported("SMTPUTF8 is not supported"),
]

MAY_HAVE_BEEN_SENT = [
    aiosmtplib.SMTPServerDisconnected("gone"),
    aiosmtplib.SMTPReadTimeoutError("slow"),
    aiosmtplib.SMTPTimeoutError("slow"),
    aiosmtplib.SMTPResponseException(450, "?"),
]


def new_limiter() -> AsyncLimiter:
    clock = ManualClock()
    policy = campus_policy(RecipientRateLimit("9/minute"))
    return AsyncLimiter(policy, MemoryBackend(clock), sleep=clock.sleep)


async def used(limiter: AsyncLimiter) -> int:
    return (await limiter.usage("ann@uwo.ca"))[0].used


def by_name(error: BaseException) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", REFUSALS, ids=by_name)
async def test_an_exception_that_proves_that_nothing_was_sent_refunds(error: Exception) -> None:
    limiter = new_limiter()
    with pytest.raises(type(error)) as caught:
        async with limiter.sending(ENVELOPE):
            raise error
    assert caught.value is error
    assert await used(limiter) == 0
    assert isinstance(error, NOT_SENT)
    assert proves_not_sent(error)


@pytest.mark.parametrize("error", MAY_HAVE_BEEN_SENT, ids=by_name)
async def test_after_any_other_exception_the_message_stays_charged(error: Exception) -> None:
    limiter = new_limiter()
    with pytest.raises(type(error)):
        async with limiter.sending(ENVELOPE):
            raise error
    assert await used(limiter) == 2
    assert not isinstance(error, NOT_SENT)


async def test_of_a_list_of_some_refused_recipients_the_others_stay_charged() -> None:
    limiter = new_limiter()
    error = aiosmtplib.SMTPRecipientsRefused(
        [aiosmtplib.SMTPRecipientRefused(550, "no such user", "eve@EXAMPLE.net")]
    )
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
        async with limiter.sending(ENVELOPE):
            raise error
    assert await used(limiter) == 1


async def test_the_pair_that_sendmail_returns_is_respected_by_the_decorator() -> None:
    limiter = new_limiter()

    @limiter.limited()
    async def send(envelope: Envelope) -> Any:
        refused = {"eve@example.net": aiosmtplib.SMTPResponse(550, "no such user")}
        return refused, "queued as 4711"

    assert (await send(ENVELOPE))[1] == "queued as 4711"
    assert await used(limiter) == 1
