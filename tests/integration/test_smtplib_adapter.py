"""LimitedSMTP against a real SMTP server: never above the limit, charged what was delivered."""

from __future__ import annotations

import gc
import pickle
import smtplib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, limiter_with_clock
from rlm_testkit.load import fullest_window
from rlm_testkit.simulated_time import SimulatedTime

from ratelimit_mail import (
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.adapters.smtplib import LimitedSMTP, LimitedSMTP_SSL, SMTPRateLimitExceeded
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import protocol
from ratelimit_mail.exceptions import BackendUnavailable

pytest.importorskip("aiosmtpd")

from rlm_testkit.smtp_servers import CLOSE, HANG, Sink, SMTPServerThread
from rlm_testkit.submission import ANN, BOB, EVE, NOT_SENT, email, new_sink, server_of_sink

sink = pytest.fixture(new_sink)
server = pytest.fixture(server_of_sink)


def limiter_of(*limits: Any) -> Limiter:
    return limiter_with_clock(campus_policy(*limits))[0]


def used(limiter: Limiter, sender: str = ANN) -> list[int]:
    return [usage.used for usage in limiter.usage(sender)]


def connect(server: SMTPServerThread, limiter: Limiter, **options: Any) -> LimitedSMTP:
    options = {"local_hostname": "client", "timeout": 20, **options}
    return LimitedSMTP("127.0.0.1", server.port, limiter=limiter, **options)


# The envelope.


def test_send_message_is_charged_and_arrives(server: SMTPServerThread, sink: Sink) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    with connect(server, limiter) as smtp:
        assert smtp.send_message(email(to=f"{BOB}, {EVE}", Bcc="zoe@example.org")) == {}
    assert used(limiter) == [1, 3]
    assert sink.arrivals[0].recipients == (BOB, EVE, "zoe@example.org")
    assert b"zoe" not in sink.arrivals[0].text


def test_the_envelope_counts_and_not_the_headers(server: SMTPServerThread, sink: Sink) -> None:
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    message = email(sender="list@uwo.ca", to="all@example.org")
    with connect(server, limiter) as smtp:
        smtp.send_message(message, from_addr=ANN, to_addrs=[BOB, EVE])
        smtp.sendmail(ANN, BOB, message.as_string())
    assert used(limiter) == [3]
    assert used(limiter, "list@uwo.ca") == [0]
    assert [each.recipients for each in sink.arrivals] == [(BOB, EVE), (BOB,)]


def test_addresses_with_names_are_those_that_smtplib_sends(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    with connect(server, limiter) as smtp:
        smtp.sendmail(f"Ann <{ANN}>", [f"Bob <{BOB}>", BOB, f"<{EVE}>"], "Hello")
    assert sink.arrivals[0].sender == ANN
    assert used(limiter) == [2]


def test_the_null_sender_and_odd_addresses_are_sent(server: SMTPServerThread, sink: Sink) -> None:
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    with connect(server, limiter) as smtp:
        smtp.sendmail("<>", ["postmaster", '"a b"@example.com', "x@[127.0.0.1]"], "Hello")
    assert len(sink.arrivals[0].recipients) == 3
    assert used(limiter, "<>") == [3]


def test_the_client_chooses_the_tier(server: SMTPServerThread) -> None:
    webmail = Tier("webmail", when=protocol("webmail"), limits=[MessageRateLimit("1/day")])
    others = Tier("others", limits=[MessageRateLimit("9/day")])
    limiter = Limiter(Policy(name="test", tiers=[webmail, others]))
    with connect(server, limiter, client=Client(protocol="webmail"), on_excess="raise") as smtp:
        smtp.send_message(email())
        with pytest.raises(SMTPRateLimitExceeded) as caught:
            smtp.send_message(email())
    assert caught.value.decision.tier == "webmail"


# On excess.


def test_a_message_over_the_limit_raises_what_users_of_smtplib_catch(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("1/minute"))
    with connect(server, limiter, on_excess="raise") as smtp:
        smtp.send_message(email())
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            smtp.send_message(email())
        error = caught.value
        assert isinstance(error, SMTPRateLimitExceeded)
        assert isinstance(error, RateLimitExceeded)
        assert isinstance(error, smtplib.SMTPException)
        assert (error.smtp_code, error.sender) == (450, ANN)
        assert error.smtp_error == b"4.7.1 Message rate limit exceeded. Try again later."
        assert error.decision.retry_after == 60
        smtp.send_message(email("kim@uwo.ca"))  # the connection can still be used
    assert len(sink.arrivals) == 2
    assert used(limiter) == [1]


def test_the_exception_survives_a_pickle(server: SMTPServerThread) -> None:
    limiter = limiter_of(RecipientLimit(1))
    with connect(server, limiter) as smtp, pytest.raises(SMTPRateLimitExceeded) as caught:
        smtp.sendmail(ANN, [BOB, EVE], "Hello")
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.decision, copy.smtp_code, copy.sender) == (error.decision, 550, ANN)
    assert copy.args == error.args == (550, error.smtp_error, ANN)


def test_a_message_over_the_limit_waits(server: SMTPServerThread, sink: Sink) -> None:
    limiter, clock = limiter_with_clock(campus_policy(MessageRateLimit("1/minute")))
    start = clock()
    with connect(server, limiter) as smtp:
        for _ in range(3):
            smtp.send_message(email())
    assert clock() - start == 120_000
    assert len(sink.arrivals) == 3


def test_a_wait_above_acquire_timeout_raises_at_once(server: SMTPServerThread) -> None:
    limiter, clock = limiter_with_clock(campus_policy(MessageRateLimit("1/minute")))
    start = clock()
    with connect(server, limiter, acquire_timeout=59) as smtp:
        smtp.send_message(email())
        with pytest.raises(SMTPRateLimitExceeded):
            smtp.send_message(email())
    assert clock() == start


def test_an_outage_of_the_backend_raises_before_anything_is_sent(
    server: SMTPServerThread, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = limiter_of(MessageRateLimit("1/minute"))

    def unavailable(*_: object) -> None:
        raise BackendUnavailable("no connection")

    monkeypatch.setattr(limiter, "try_acquire", unavailable)
    with connect(server, limiter, on_excess="raise") as smtp, pytest.raises(BackendUnavailable):
        smtp.send_message(email())
    assert sink.arrivals == []


# What was sent.


@pytest.mark.parametrize("name", NOT_SENT)
def test_a_message_that_nobody_got_is_refunded(
    name: str, server: SMTPServerThread, sink: Sink
) -> None:
    when, reply = NOT_SENT[name]
    sink.replies[when] = reply
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    smtp = connect(server, limiter, timeout=0.2 if reply == HANG else 20)
    with pytest.raises(smtplib.SMTPException) as caught:
        smtp.sendmail(ANN, [BOB, EVE], "Hello")
    smtp.close()
    assert not isinstance(caught.value, RateLimitExceeded)
    assert sink.arrivals == []
    assert used(limiter) == [0, 0]


class Impatient(LimitedSMTP):
    """Waits only briefly for the reply to the text of a message."""

    def send(self, s: Any) -> None:
        super().send(s)
        if isinstance(s, bytes) and self.sock is not None:
            self.sock.settimeout(0.01)


@pytest.mark.parametrize("reply", [HANG, CLOSE])
def test_a_message_whose_text_is_not_answered_stays_charged(
    reply: str, server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["TEXT", ANN] = reply
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    kind = Impatient if reply == HANG else LimitedSMTP
    smtp = kind("127.0.0.1", server.port, "client", 20, limiter=limiter)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.sendmail(ANN, [BOB, EVE], "Hello")
    assert used(limiter) == [2]
    with pytest.raises(smtplib.SMTPServerDisconnected):  # there is no connection any more
        smtp.sendmail(ANN, [BOB, EVE], "Hello")
    assert used(limiter) == [2]


def test_a_message_that_cannot_be_encoded_is_refunded_whatever_was_sent_before(
    server: SMTPServerThread,
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with connect(server, limiter) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
        with pytest.raises(UnicodeEncodeError):
            smtp.sendmail(ANN, BOB, "Grüße")
    assert used(limiter) == [1]


def test_a_refused_recipient_is_not_charged(server: SMTPServerThread, sink: Sink) -> None:
    sink.replies["RCPT", EVE] = "550 5.1.1 no such user"
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    with connect(server, limiter) as smtp:
        refused = smtp.sendmail(ANN, [BOB, f"Eve <{EVE}>"], "Hello")
    assert refused == {f"Eve <{EVE}>": (550, b"5.1.1 no such user")}
    assert used(limiter) == [1, 1]


def test_a_message_of_which_all_recipients_are_refused_is_refunded(
    server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["RCPT", EVE] = "550 5.1.1 no such user"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with connect(server, limiter) as smtp, pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        smtp.sendmail(ANN, [f"Eve <{EVE}>"], "Hello")
    assert list(caught.value.recipients) == [f"Eve <{EVE}>"]
    assert used(limiter) == [0]


def test_a_message_without_recipients_is_smtplibs_error(server: SMTPServerThread) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with connect(server, limiter) as smtp, pytest.raises(smtplib.SMTPRecipientsRefused):
        smtp.sendmail(ANN, [], "Hello")
    assert used(limiter) == [0]


@pytest.mark.parametrize(
    ("when", "reply"),
    [
        (("MAIL", ANN), "421 4.7.28 Unusual rate of mail. Try again in 90 seconds."),
        (("RCPT", EVE), "450 4.7.1 Too many messages. Try again in 90 seconds."),
        (("TEXT", ANN), "432 4.3.2 Concurrent connections limit exceeded, retry in 90 seconds"),
    ],
)
def test_a_server_that_says_too_fast_blocks_the_sender(
    when: tuple[str, str], reply: str, server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies[when] = reply
    limiter = limiter_of(MessageRateLimit("9/minute"))
    smtp = connect(server, limiter)
    try:
        smtp.sendmail(ANN, [BOB, EVE], "Hello")
    except smtplib.SMTPException:
        smtp.close()
        smtp = connect(server, limiter)
    with pytest.raises(SMTPRateLimitExceeded) as caught:
        smtp.send_message(email())
    assert caught.value.decision.block is not None
    assert 0 < (caught.value.decision.retry_after or 0) <= 90
    smtp.send_message(email("kim@uwo.ca"))
    smtp.close()


def test_pushback_none_blocks_nobody(server: SMTPServerThread, sink: Sink) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with connect(server, limiter, pushback=None) as smtp, pytest.raises(smtplib.SMTPDataError):
        smtp.send_message(email())
    assert limiter.blocks() == ()


def test_an_outage_never_hides_the_reply_of_the_server(
    server: SMTPServerThread,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded"
    limiter = limiter_of(MessageRateLimit("9/minute"))

    def unavailable(*_: object) -> None:
        raise BackendUnavailable("no connection")

    monkeypatch.setattr(limiter, "pushback", unavailable)
    with connect(server, limiter) as smtp, pytest.raises(smtplib.SMTPDataError):
        smtp.send_message(email())
    assert "no connection" in caplog.text


# Many at once.


@pytest.mark.parametrize("connections", [1, 100])
def test_a_hundred_concurrent_sendings_stay_within_the_limit_at_the_server(
    connections: int,
) -> None:
    time = SimulatedTime(connections)
    slow = iter(range(10**6))

    async def delay(_: object) -> None:
        await time.async_sleep((next(slow) * 7 % 10) / 2)  # 0 to 4.5 seconds

    sink = Sink({("RCPT", EVE): "550 5.1.1 no such user"}, clock=time, delay=delay)
    policy = campus_policy(MessageRateLimit("10/15 seconds"), RecipientRateLimit("1000/day"))
    limiter = Limiter(policy, MemoryBackend(time), sleep=time.sleep)

    def send(server: SMTPServerThread) -> None:
        try:
            with connect(server, limiter, timeout=None) as smtp:
                for _ in range(100 // connections):
                    smtp.sendmail(ANN, [BOB, EVE], "Hello")
        finally:
            time.finish()

    with SMTPServerThread(sink) as server, ThreadPoolExecutor(connections) as threads:
        sendings = [threads.submit(send, server) for _ in range(connections)]
        for each in sendings:
            each.result()
    assert len(sink.arrivals) == sink.reached(ANN) == 100
    assert fullest_window(15_000, [each.moment for each in sink.arrivals]) <= 10
    assert limiter.usage(ANN)[1].used == 100


def test_a_connection_above_max_connections_waits_until_another_closes(
    server: SMTPServerThread,
) -> None:
    limiter = limiter_of(MessageRateLimit("1000/minute"))
    barrier, numbers_open, connections = threading.Barrier(8), [], set[object]()

    class Counted(LimitedSMTP):
        def connect(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
            answer = super().connect(*args, **kwargs)
            connections.add(self)
            numbers_open.append(len(connections))
            return answer

        def close(self) -> None:
            connections.discard(self)
            super().close()

    def send() -> None:
        barrier.wait()
        for _ in range(3):
            with Counted("127.0.0.1", server.port, limiter=limiter, max_connections=3) as smtp:
                smtp.send_message(email())

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(send) for _ in range(8)]:
            each.result()
    assert used(limiter) == [24]
    assert max(numbers_open) <= 3


def test_no_connection_within_the_timeout_is_smtplibs_connect_error(
    server: SMTPServerThread,
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    options: Any
    for options in ({"on_excess": "raise"}, {"acquire_timeout": 0}):
        with (
            connect(server, limiter, max_connections=1, **options),
            pytest.raises(smtplib.SMTPConnectError) as caught,
        ):
            connect(server, limiter, max_connections=1, **options)
        assert caught.value.smtp_code == 421
    connect(server, limiter_of(MessageRateLimit("9/minute")), max_connections=1).close()


def test_a_connection_that_fails_or_is_dropped_gives_its_slot_back(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    options: Any = {"max_connections": 1, "on_excess": "raise"}
    with pytest.raises(OSError, match="refused"):
        LimitedSMTP("127.0.0.1", 1, limiter=limiter, **options)
    sink.replies["MAIL", ANN] = CLOSE
    smtp = connect(server, limiter, **options)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.send_message(email())
    dropped = connect(server, limiter, **options)
    assert dropped.sock is not None
    dropped.sock.close()
    dropped.file.close()  # type: ignore[union-attr]
    del dropped
    gc.collect()
    connect(server, limiter, **options).close()


# A drop-in.


def test_everything_else_is_smtplibs(server: SMTPServerThread) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    smtp = LimitedSMTP(
        host="127.0.0.1", port=server.port, local_hostname="me", timeout=7, limiter=limiter
    )
    assert isinstance(smtp, smtplib.SMTP)
    assert (smtp.timeout, smtp.local_hostname) == (7, "me")
    assert smtp.noop()[0] == 250
    assert smtp.quit()[0] == 221
    assert smtp.connect("127.0.0.1", server.port)[0] == 220
    smtp.close()


def test_the_ssl_class_is_both_limited_and_smtplibs() -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    smtp = LimitedSMTP_SSL(limiter=limiter, on_excess="raise")
    assert isinstance(smtp, smtplib.SMTP_SSL)
    assert smtp.default_port == smtplib.SMTP_SSL_PORT
    with pytest.raises(smtplib.SMTPServerDisconnected):
        smtp.send_message(email())
    assert used(limiter) == [0]
    limiter.try_acquire(Envelope(ANN, [BOB]))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"limiter": None}, TypeError, "limiter: a Limiter"),
        ({"on_excess": "drop"}, ValueError, "on_excess: 'drop' is not one of wait, raise"),
        ({"acquire_timeout": -1}, ValueError, "acquire_timeout: -1"),
        ({"on_excess": "raise", "acquire_timeout": 1}, ValueError, "only on_excess='wait'"),
        ({"pushback": 0}, ValueError, "pushback: 0"),
        ({"client": "webmail"}, TypeError, "client: a Client"),
        ({"max_connections": 0}, ValueError, "max_connections: 0"),
        ({"max_connections": 1.5}, TypeError, "max_connections: 1.5|a whole number"),
    ],
)
def test_wrong_arguments_are_errors_before_a_connection_is_made(
    options: Any, error: type[Exception], words: str
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with pytest.raises(error, match=words):
        LimitedSMTP("127.0.0.1", 1, **{"limiter": limiter, **options})
