"""The decorator `limited`: which argument is the message, when it sends, what it refunds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import (
    AsyncLimiter,
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.testing import ManualClock

ENVELOPE = envelope_to(["bob@example.com"])
POLICY = Policy(name="test", limits=[MessageRateLimit("2/minute")])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> Limiter:
    return Limiter(POLICY, MemoryBackend(clock), sleep=clock.advance)


@pytest.fixture
def async_limiter(clock: ManualClock) -> AsyncLimiter:
    return AsyncLimiter(POLICY, MemoryBackend(clock), sleep=clock.sleep)


def new_message() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann <ann@uwo.ca>"
    message["To"] = "Bob <bob@example.com>"
    return message


def used(limiter: Limiter) -> int:
    return limiter.usage("ann@uwo.ca")[0].used


def test_by_default_it_waits_until_the_message_may_go(limiter: Limiter, clock: ManualClock) -> None:
    @limiter.limited()
    def send(message: EmailMessage) -> int:
        return clock()

    start = clock()
    assert [send(new_message()) - start for _ in range(3)] == [0, 0, 60_000]


def test_a_wait_longer_than_the_timeout_raises_and_does_not_send(limiter: Limiter) -> None:
    sent = []

    @limiter.limited(on_denied="wait", timeout=59)
    def send(message: EmailMessage) -> None:
        sent.append(message)

    send(new_message())
    send(new_message())
    with pytest.raises(RateLimitExceeded) as caught:
        send(new_message())
    assert caught.value.decision.retry_after == 60
    assert len(sent) == 2


def test_raise_raises_instead_of_sending(limiter: Limiter) -> None:
    sent = []

    @limiter.limited(on_denied="raise")
    def send(envelope: Envelope) -> None:
        sent.append(envelope)

    send(ENVELOPE)
    send(ENVELOPE)
    with pytest.raises(RateLimitExceeded, match=r"450 4\.7\.1"):
        send(ENVELOPE)
    assert len(sent) == 2


def test_skip_returns_the_decision_instead_of_sending(limiter: Limiter) -> None:
    @limiter.limited(on_denied="skip")
    def send(envelope: Envelope) -> str:
        return "sent"

    results = [send(ENVELOPE) for _ in range(3)]
    assert results[:2] == ["sent", "sent"]
    assert isinstance(results[2], Decision)
    assert results[2].retry_after == 60


def test_the_message_is_found_among_positional_and_keyword_arguments(limiter: Limiter) -> None:
    @limiter.limited(on_denied="raise")
    def send(host: str, *, message: EmailMessage, port: int = 25) -> tuple[str, int]:
        return host, port

    assert send("relay", message=new_message(), port=587) == ("relay", 587)
    assert used(limiter) == 1


def test_envelope_makes_the_envelope_from_any_other_arguments(limiter: Limiter) -> None:
    @limiter.limited(on_denied="raise", envelope=lambda to, subject: Envelope("ann@uwo.ca", [to]))
    def notify(to: str, subject: str) -> str:
        return f"{to}: {subject}"

    assert notify("bob@example.com", "hello") == "bob@example.com: hello"
    assert used(limiter) == 1


def test_envelope_may_return_a_message(limiter: Limiter) -> None:
    @limiter.limited(envelope=lambda job: job["message"])
    def send(job: dict[str, EmailMessage]) -> None: ...

    send({"message": new_message()})
    assert used(limiter) == 1


@pytest.mark.parametrize("arguments", [(), ("bob@example.com",), (ENVELOPE, ENVELOPE)])
def test_arguments_without_exactly_one_message_raise_and_nothing_is_charged_or_sent(
    limiter: Limiter, arguments: tuple[Any, ...]
) -> None:
    sent = []

    @limiter.limited()
    def send(*args: Any) -> None:
        sent.append(args)

    with pytest.raises(TypeError, match=r"send: one EmailMessage or Envelope is needed"):
        send(*arguments)
    assert (sent, used(limiter)) == ([], 0)


def test_an_exception_that_proves_nothing_was_sent_is_refunded(limiter: Limiter) -> None:
    @limiter.limited(on_denied="raise", refund_on=(SMTPRecipientsRefused,))
    def send(envelope: Envelope) -> None:
        raise SMTPRecipientsRefused({})

    for _ in range(5):
        with pytest.raises(SMTPRecipientsRefused):
            send(ENVELOPE)
    assert used(limiter) == 0


def test_any_other_exception_leaves_the_message_charged(limiter: Limiter) -> None:
    @limiter.limited(on_denied="raise", refund_on=SMTPRecipientsRefused)
    def send(envelope: Envelope) -> None:
        raise SMTPServerDisconnected

    with pytest.raises(SMTPServerDisconnected):
        send(ENVELOPE)
    assert used(limiter) == 1


def test_a_denied_message_is_not_refunded(limiter: Limiter) -> None:
    @limiter.limited(on_denied="raise", refund_on=Exception)
    def send(envelope: Envelope) -> None: ...

    send(ENVELOPE)
    send(ENVELOPE)
    with pytest.raises(RateLimitExceeded):
        send(ENVELOPE)
    assert used(limiter) == 2


def test_the_name_signature_and_docstring_are_preserved(limiter: Limiter) -> None:
    @limiter.limited()
    def send(message: EmailMessage, host: str = "relay") -> int:
        """Send one message."""
        return 1

    assert (send.__name__, send.__doc__) == ("send", "Send one message.")
    assert list(inspect.signature(send).parameters) == ["message", "host"]


def test_methods_class_methods_and_static_methods_can_be_decorated(limiter: Limiter) -> None:
    class Mailer:
        host = "relay"

        @limiter.limited(on_denied="skip")
        def method(self, message: EmailMessage) -> str:
            return self.host

        @classmethod
        @limiter.limited(on_denied="skip")
        def class_method(cls, message: EmailMessage) -> str:
            return cls.host

        @limiter.limited(on_denied="skip")
        @classmethod
        def decorated_class_method(cls, message: EmailMessage) -> str:
            return cls.host

        @limiter.limited(on_denied="skip")
        @staticmethod
        def static_method(message: EmailMessage) -> str:
            return "relay"

    assert Mailer().method(new_message()) == "relay"
    assert Mailer.class_method(new_message()) == "relay"
    limiter.reset("ann@uwo.ca")
    assert Mailer.decorated_class_method(new_message()) == "relay"
    assert Mailer.static_method(new_message()) == "relay"
    assert isinstance(Mailer().method(new_message()), Decision)


def test_callable_objects_and_partials_can_be_decorated(limiter: Limiter) -> None:
    class Send:
        def __call__(self, host: str, message: EmailMessage) -> str:
            return host

    assert limiter.limited()(Send())("relay", new_message()) == "relay"
    assert limiter.limited()(functools.partial(Send(), "other"))(new_message()) == "other"
    assert used(limiter) == 2


def test_decorating_an_async_function_with_a_sync_limiter_or_the_reverse_raises(
    limiter: Limiter, async_limiter: AsyncLimiter
) -> None:
    async def coroutine(message: EmailMessage) -> None: ...

    class Coroutine:
        async def __call__(self, message: EmailMessage) -> None: ...

    def plain(message: EmailMessage) -> None: ...

    for function in (coroutine, Coroutine(), functools.partial(coroutine), staticmethod(coroutine)):
        with pytest.raises(TypeError, match="decorate it with an AsyncLimiter"):
            limiter.limited()(function)
    with pytest.raises(TypeError, match="decorate it with a Limiter"):
        async_limiter.limited()(plain)  # type: ignore[arg-type]


def test_decorating_what_is_not_a_function_raises(
    limiter: Limiter, async_limiter: AsyncLimiter
) -> None:
    for each in (limiter, async_limiter):
        decorate: Any = each.limited()
        with pytest.raises(TypeError, match="5 is not a function"):
            decorate(5)


def test_decorating_a_generator_raises(limiter: Limiter, async_limiter: AsyncLimiter) -> None:
    def generator(message: EmailMessage) -> Iterator[None]:
        yield

    async def async_generator(message: EmailMessage) -> AsyncIterator[None]:
        yield

    for decorate in (limiter.limited(), async_limiter.limited()):
        for function in (generator, async_generator):
            with pytest.raises(TypeError, match="is a generator"):
                decorate(function)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"on_denied": "explode"}, ValueError, "on_denied"),
        ({"on_denied": "raise", "timeout": 5}, ValueError, "only on_denied='wait' waits"),
        ({"envelope": "message"}, TypeError, "envelope: a callable is needed"),
        ({"refund_on": "SMTPException"}, TypeError, "is not an exception class"),
        ({"refund_on": (OSError, 5)}, TypeError, "5 is not an exception class"),
    ],
)
def test_invalid_options_raise_an_error_that_names_them(
    limiter: Limiter, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        limiter.limited(**options)


async def test_async_functions_wait_raise_skip_and_refund(
    async_limiter: AsyncLimiter, clock: ManualClock
) -> None:
    @async_limiter.limited()
    async def waits(message: EmailMessage) -> int:
        return clock()

    @async_limiter.limited(on_denied="raise")
    async def raises(message: EmailMessage) -> None: ...

    @async_limiter.limited(on_denied="skip")
    async def skips(message: EmailMessage) -> int:
        return 1

    @async_limiter.limited(on_denied="raise", refund_on=SMTPRecipientsRefused)
    async def fails(message: EmailMessage) -> None:
        raise SMTPRecipientsRefused({})

    start = clock()
    for _ in range(5):
        with pytest.raises(SMTPRecipientsRefused):
            await fails(new_message())
    assert [await waits(new_message()) - start for _ in range(3)] == [0, 0, 60_000]
    assert await skips(new_message()) == 1
    assert isinstance(await skips(new_message()), Decision)
    with pytest.raises(RateLimitExceeded):
        await raises(new_message())
    assert inspect.iscoroutinefunction(waits)


async def test_async_methods_and_class_methods_can_be_decorated(
    async_limiter: AsyncLimiter,
) -> None:
    class Mailer:
        @async_limiter.limited()
        async def method(self, message: EmailMessage) -> str:
            return type(self).__name__

        @async_limiter.limited()
        @classmethod
        async def class_method(cls, message: EmailMessage) -> str:
            return cls.__name__

    assert await Mailer().method(new_message()) == "Mailer"
    assert await Mailer.class_method(new_message()) == "Mailer"
