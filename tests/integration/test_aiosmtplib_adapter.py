"""aiosmtplib's LimitedSMTP and send against a real SMTP server, as in the tests for smtplib."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy
from rlm_testkit.load import fullest_window
from rlm_testkit.simulated_time import SimulatedTime

from ratelimit_mail import (
    AsyncLimiter,
    MessageRateLimit,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

pytest.importorskip("aiosmtpd")
pytest.importorskip("aiosmtplib")

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol
from rlm_testkit.smtp_servers import CLOSE, HANG, Sink, SMTPServerThread
from rlm_testkit.submission import ANN, BOB, EVE, NOT_SENT, email, new_sink, server_of_sink

from ratelimit_mail.adapters.aiosmtplib import LimitedSMTP, SMTPRateLimitExceeded, send

sink = pytest.fixture(new_sink)
server = pytest.fixture(server_of_sink)


def limiter_of(*limits: Any, clock: ManualClock | None = None) -> AsyncLimiter:
    clock = ManualClock() if clock is None else clock
    return AsyncLimiter(campus_policy(*limits), MemoryBackend(clock), sleep=clock.sleep)


async def used(limiter: AsyncLimiter, sender: str = ANN) -> list[int]:
    return [usage.used for usage in await limiter.usage(sender)]


def connection(server: SMTPServerThread, limiter: AsyncLimiter, **options: Any) -> LimitedSMTP:
    return LimitedSMTP(limiter=limiter, **connection_options(server), **options)


def connection_options(server: SMTPServerThread) -> dict[str, Any]:
    return {"hostname": "127.0.0.1", "port": server.port, "local_hostname": "client"}


async def connect_and_send(smtp: LimitedSMTP) -> None:
    async with smtp:
        await smtp.sendmail(ANN, [BOB, EVE], "Hello")


# The envelope.


async def test_send_message_is_charged_and_arrives(server: SMTPServerThread, sink: Sink) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    async with connection(server, limiter) as smtp:
        refused, _ = await smtp.send_message(email(to=f"{BOB}, {EVE}", Bcc="zoe@example.org"))
    assert refused == {}
    assert await used(limiter) == [1, 3]
    assert len(sink.arrivals[0].recipients) == 3


async def test_the_envelope_counts_and_not_the_headers(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    message = email(sender="list@uwo.ca", to="all@example.org")
    async with connection(server, limiter) as smtp:
        await smtp.send_message(message, sender=f"Ann <{ANN}>", recipients=[f"Bob <{BOB}>", EVE])
        await smtp.sendmail(ANN, BOB, message.as_string())
    assert await used(limiter) == [3]
    assert await used(limiter, "list@uwo.ca") == [0]
    assert [each.recipients for each in sink.arrivals] == [(BOB, EVE), (BOB,)]


# On excess.


async def test_a_message_over_the_limit_raises_what_users_of_aiosmtplib_catch(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("1/minute"))
    async with connection(server, limiter, on_excess="raise") as smtp:
        await smtp.send_message(email())
        with pytest.raises(aiosmtplib.SMTPSenderRefused) as caught:
            await smtp.send_message(email())
        error = caught.value
        assert isinstance(error, SMTPRateLimitExceeded)
        assert isinstance(error, RateLimitExceeded)
        assert isinstance(error, aiosmtplib.SMTPException)
        assert (error.code, error.sender) == (450, ANN)
        assert error.message == "4.7.1 Message rate limit exceeded. Try again later."
        assert error.decision.retry_after == 60
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.args, copy.decision) == (error.args, error.decision)
        await smtp.send_message(email("kim@uwo.ca"))  # the connection can still be used
    assert len(sink.arrivals) == 2


async def test_a_message_over_the_limit_waits_and_never_longer_than_its_timeout(
    server: SMTPServerThread, sink: Sink
) -> None:
    clock = ManualClock()
    limiter = limiter_of(MessageRateLimit("1/minute"), clock=clock)
    start = clock()
    async with connection(server, limiter, acquire_timeout=60) as smtp:
        for _ in range(3):
            await smtp.send_message(email())
        assert clock() - start == 120_000
        clock.advance(-1)
        with pytest.raises(SMTPRateLimitExceeded):
            await smtp.send_message(email())
    assert len(sink.arrivals) == 3


# What was sent.


@pytest.mark.parametrize("by", ["LimitedSMTP", "send"])
@pytest.mark.parametrize("name", NOT_SENT)
async def test_a_message_that_nobody_got_is_refunded(
    name: str, by: str, server: SMTPServerThread, sink: Sink
) -> None:
    when, reply = NOT_SENT[name]
    sink.replies[when] = reply
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    timeout = 0.2 if reply == HANG else 20
    sending: Any
    if by == "send":
        options = connection_options(server)
        sending = send(email(to=f"{BOB}, {EVE}"), limiter=limiter, timeout=timeout, **options)
    else:
        sending = connect_and_send(connection(server, limiter, timeout=timeout))
    with pytest.raises(aiosmtplib.SMTPException) as caught:
        await sending
    assert not isinstance(caught.value, RateLimitExceeded)
    assert sink.arrivals == []
    assert await used(limiter) == [0, 0]


@pytest.mark.parametrize("reply", [HANG, CLOSE])
async def test_a_message_whose_text_is_not_answered_stays_charged(
    reply: str, server: SMTPServerThread, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.replies["TEXT", ANN] = reply
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    if reply == HANG:
        wait_briefly_for_the_reply_to_a_text(monkeypatch)
    smtp = connection(server, limiter)
    await smtp.connect()
    for error in (aiosmtplib.SMTPException, aiosmtplib.SMTPServerDisconnected):
        with pytest.raises(error):
            await smtp.sendmail(ANN, [BOB, EVE], "Hello")
        assert await used(limiter) == [2]  # the second time, there is no connection
        smtp.close()


def wait_briefly_for_the_reply_to_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    write, read_response = SMTPProtocol.write, SMTPProtocol.read_response
    texts = set[object]()

    def noting_write(protocol: SMTPProtocol, data: bytes) -> None:
        if data.endswith(b"\r\n.\r\n"):
            texts.add(protocol)
        write(protocol, data)

    async def impatient_read(protocol: SMTPProtocol, timeout: float | None = None) -> Any:
        return await read_response(protocol, 0.01 if protocol in texts else timeout)

    monkeypatch.setattr(SMTPProtocol, "write", noting_write)
    monkeypatch.setattr(SMTPProtocol, "read_response", impatient_read)


@pytest.mark.parametrize(("command", "charged"), [("DATA", 0), ("TEXT", 2)])
async def test_a_cancelled_sending_is_charged_if_its_text_was_sent(
    command: str,
    charged: int,
    server: SMTPServerThread,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    reply = sink.reply

    async def note_and_reply(server: Any, received: str, address: str) -> Any:
        if received == command:
            loop.call_soon_threadsafe(reached.set)
        return await reply(server, received, address)

    monkeypatch.setattr(sink, "reply", note_and_reply)
    sink.replies[command, ANN] = HANG
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    async with connection(server, limiter) as smtp:
        sending = asyncio.create_task(smtp.sendmail(ANN, [BOB, EVE], "Hello"))
        await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        smtp.close()
    assert await used(limiter) == [charged]


async def test_a_message_that_cannot_be_encoded_is_refunded_whatever_was_sent_before(
    server: SMTPServerThread,
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    async with connection(server, limiter) as smtp:
        await smtp.sendmail(ANN, BOB, "Hello")
        with pytest.raises(UnicodeEncodeError):
            await smtp.sendmail(ANN, BOB, "Grüße")
    assert await used(limiter) == [1]


async def test_refused_recipients_are_not_charged(server: SMTPServerThread, sink: Sink) -> None:
    sink.replies["RCPT", EVE] = "550 5.1.1 no such user"
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    async with connection(server, limiter) as smtp:
        refused, _ = await smtp.sendmail(ANN, [BOB, f"Eve <{EVE}>"], "Hello")
        assert refused == {f"Eve <{EVE}>": (550, "5.1.1 no such user")}
        assert await used(limiter) == [1, 1]
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
            await smtp.sendmail(ANN, [EVE], "Hello")
    assert await used(limiter) == [1, 1]


async def test_a_server_that_says_too_fast_blocks_the_sender(
    server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded, retry in 90 s"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    async with connection(server, limiter) as smtp:
        with pytest.raises(aiosmtplib.SMTPDataError):
            await smtp.send_message(email())
        with pytest.raises(SMTPRateLimitExceeded) as caught:
            await smtp.send_message(email())
        await smtp.send_message(email("kim@uwo.ca"))
    assert caught.value.decision.block is not None
    assert 0 < (caught.value.decision.retry_after or 0) <= 90


async def test_a_partial_refusal_that_says_too_fast_blocks_the_sender(
    server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["RCPT", EVE] = "450 4.7.1 Too many messages"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    async with connection(server, limiter) as smtp:
        await smtp.sendmail(ANN, [BOB, EVE], "Hello")
    assert len(await limiter.blocks()) == 1


async def test_an_outage_never_hides_the_reply_of_the_server(
    server: SMTPServerThread,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded"
    limiter = limiter_of(MessageRateLimit("9/minute"))

    async def unavailable(*_: object) -> None:
        raise BackendUnavailable("no connection")

    monkeypatch.setattr(limiter, "pushback", unavailable)
    with pytest.raises(aiosmtplib.SMTPDataError):
        await connect_and_send(connection(server, limiter))
    assert "no connection" in caplog.text


# Many at once.


@pytest.mark.parametrize("connections", [1, 5, 100])
async def test_a_gather_of_a_hundred_stays_within_the_limit_at_the_server(
    connections: int,
) -> None:
    time = SimulatedTime(connections)
    slow = iter(range(10**6))

    async def delay(_: object) -> None:
        await time.async_sleep((next(slow) * 7 % 10) / 2)  # 0 to 4.5 seconds

    sink = Sink({("RCPT", EVE): "550 5.1.1 no such user"}, clock=time, delay=delay)
    policy = campus_policy(MessageRateLimit("10/15 seconds"), RecipientRateLimit("1000/day"))
    limiter = AsyncLimiter(policy, MemoryBackend(time), sleep=time.async_sleep)

    async def send_all(server: SMTPServerThread) -> None:
        async with connection(server, limiter, timeout=None) as smtp:
            messages = [smtp.sendmail(ANN, [BOB, EVE], "Hello") for _ in range(100 // connections)]
            await asyncio.gather(*messages)
            time.finish()

    with SMTPServerThread(sink) as server:
        await asyncio.gather(*(send_all(server) for _ in range(connections)))
    assert len(sink.arrivals) == sink.reached(ANN) == 100
    assert fullest_window(15_000, [each.moment for each in sink.arrivals]) <= 10
    assert (await limiter.usage(ANN))[1].used == 100


async def test_a_connection_above_max_connections_waits_until_another_closes(
    server: SMTPServerThread,
) -> None:
    limiter = limiter_of(MessageRateLimit("1000/minute"))
    numbers_open, connections = [], set[object]()

    class Counted(LimitedSMTP):
        async def connect(self, **kwargs: Any) -> Any:
            answer = await super().connect(**kwargs)
            connections.add(self)
            numbers_open.append(len(connections))
            return answer

        def close(self) -> None:
            connections.discard(self)
            super().close()

    async def send_one() -> None:
        options = connection_options(server)
        async with Counted(limiter=limiter, max_connections=3, **options) as smtp:
            await smtp.send_message(email())

    await asyncio.gather(*(send_one() for _ in range(24)))
    assert await used(limiter) == [24]
    assert max(numbers_open) <= 3


async def test_no_connection_within_the_timeout_is_aiosmtplibs_connect_error(
    server: SMTPServerThread,
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    options: Any = {"max_connections": 1, "on_excess": "raise"}
    async with connection(server, limiter, **options):
        with pytest.raises(aiosmtplib.SMTPConnectResponseError) as caught:
            await connection(server, limiter, **options).connect()
        assert caught.value.code == 421
        waiting = asyncio.create_task(connection(server, limiter, max_connections=1).connect())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    failing = LimitedSMTP(limiter=limiter, hostname="127.0.0.1", port=1, **options)
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await failing.connect()
    async with connection(server, limiter, **options) as smtp:
        assert smtp.is_connected


# send.


async def test_send_takes_messages_strings_and_all_arguments_of_the_library(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    options = connection_options(server)
    await send(email(to=f"{BOB}, {EVE}"), limiter=limiter, **options)
    await send(email(to="x@example.org"), limiter=limiter, recipients=BOB, **options)
    await send("Hello", limiter=limiter, sender=ANN, recipients=[BOB], timeout=9, **options)
    assert [each.recipients for each in sink.arrivals] == [(BOB, EVE), (BOB,), (BOB,)]
    assert await used(limiter) == [4]
    with pytest.raises(ValueError, match="a sender and recipients are needed"):
        await send("Hello", limiter=limiter, sender=ANN, **options)


async def test_send_is_refused_before_it_connects() -> None:
    limiter = limiter_of(RecipientLimit(1))
    with pytest.raises(SMTPRateLimitExceeded):
        await send(email(to=f"{BOB}, {EVE}"), limiter=limiter, hostname="127.0.0.1", port=1)
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(email(), limiter=limiter, hostname="127.0.0.1", port=1)
    assert await used(limiter) == [0]


async def test_wrong_arguments_are_errors() -> None:
    limiter = limiter_of(RecipientLimit(1))
    with pytest.raises(TypeError, match="limiter: an AsyncLimiter"):
        LimitedSMTP(limiter=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_excess: 'drop'"):
        LimitedSMTP(limiter=limiter, on_excess="drop")  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        smtp = LimitedSMTP(limiter=limiter)
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await smtp.sendmail(ANN, [BOB], "Hello")
        assert isinstance(smtp, aiosmtplib.SMTP)
