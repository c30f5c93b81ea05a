"""LimitedHandler in a real aiosmtpd server, to which smtplib submits."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import smtplib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from rlm_testkit.builders import campus_policy
from rlm_testkit.load import fullest_window
from rlm_testkit.simulated_time import SimulatedTime

from ratelimit_mail import (
    AsyncLimiter,
    Client,
    Decision,
    Directory,
    Envelope,
    MailingList,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import has_tag, in_network
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock

pytest.importorskip("aiosmtpd")

from aiosmtpd.smtp import AuthResult, LoginPassword
from rlm_testkit.smtp_servers import HANG, Sink, SMTPServerThread

from ratelimit_mail.adapters.aiosmtpd import LimitedHandler, client_of

ANN = "ann@uwo.ca"
BOB, EVE = "bob@example.com", "eve@example.net"


def limiter_of(*limits: Any, **options: Any) -> AsyncLimiter:
    clock = ManualClock()
    return AsyncLimiter(campus_policy(*limits, **options), MemoryBackend(clock), sleep=clock.sleep)


def used(limiter: AsyncLimiter, subject: str = ANN, scope: str = "sender") -> list[int]:
    return [usage.used for usage in asyncio.run(limiter.usage(subject, scope=scope))]


def submission(handler: Any, limiter: AsyncLimiter, **options: Any) -> SMTPServerThread:
    return SMTPServerThread(LimitedHandler(handler, limiter, **options))


def connect(server: SMTPServerThread) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", server.port, "client", timeout=20)


def replies_to(smtp: smtplib.SMTP, recipients: list[str], sender: str = ANN) -> list[int]:
    """Return the code of the reply to each recipient and to DATA, and forget the message."""
    smtp.ehlo_or_helo_if_needed()
    smtp.mail(sender)
    codes = [smtp.rcpt(each)[0] for each in recipients]
    try:
        codes.append(smtp.data("Hello")[0])
    except smtplib.SMTPDataError as error:
        codes.append(error.smtp_code)
    smtp.rset()
    return codes


# Submission.


def test_a_message_within_the_limits_is_passed_on_and_charged() -> None:
    sink, limiter = Sink(), limiter_of(MessageRateLimit("9/day"), RecipientRateLimit("9/day"))
    with submission(sink, limiter) as server, connect(server) as smtp:
        assert smtp.sendmail(ANN, [BOB, EVE], "Hello") == {}
    assert sink.arrivals[0].recipients == (BOB, EVE)
    assert used(limiter) == [1, 2]


def test_a_refusal_is_the_reply_of_the_decision_at_the_first_rcpt() -> None:
    sink, limiter = Sink(), limiter_of(MessageRateLimit("1/day"))
    with submission(sink, limiter) as server, connect(server) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            smtp.sendmail(ANN, BOB, "Hello")
        assert caught.value.recipients == {
            BOB: (450, b"4.7.1 Message rate limit exceeded. Try again later.")
        }
        smtp.sendmail("kim@uwo.ca", BOB, "Hello")
    assert len(sink.arrivals) == 2
    assert used(limiter) == [1]


def test_a_message_above_the_recipient_limit_is_refused_from_its_first_recipient_above() -> None:
    sink, limiter = Sink(), limiter_of(RecipientLimit(5))
    recipients = [f"r{i}@example.com" for i in range(7)]
    with submission(sink, limiter) as server, connect(server) as smtp:
        assert replies_to(smtp, recipients) == [250] * 5 + [550] * 3
        with pytest.raises(smtplib.SMTPDataError, match="Too many recipients"):
            smtp.sendmail(ANN, recipients, "Hello")
        assert replies_to(smtp, recipients[:5]) == [250] * 6
    assert [len(each.recipients) for each in sink.arrivals] == [5]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_part_of_an_outgoing_message_never_goes(number: int) -> None:
    sink, limiter = Sink(), limiter_of(RecipientRateLimit("3/day"))
    recipients = [f"r{i}@example.com" for i in range(number)]
    with submission(sink, limiter) as server, connect(server) as smtp:
        codes = replies_to(smtp, recipients)
    assert (codes[-1] == 250) == (number <= 3)
    assert sink.reached(ANN) == used(limiter)[0] == (number if number <= 3 else 0)


def test_an_attempt_that_is_refused_at_rcpt_is_counted_once_where_limits_count_those() -> None:
    clock = ManualClock()
    policy = campus_policy(MessageRateLimit("2/day", denied="count", on_excess="reject"))
    limiter = AsyncLimiter(policy, MemoryBackend(clock), sleep=clock.sleep)
    with submission(Sink(), limiter) as server, connect(server) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
        smtp.sendmail(ANN, BOB, "Hello")
        clock.advance(12 * 3600)
        assert replies_to(smtp, [BOB, EVE, "x@example.org"])[:3] == [550] * 3
    clock.advance(12 * 3600)
    assert used(limiter) == [1]


def test_the_work_for_a_message_is_linear_in_its_recipients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter, looked_at = limiter_of(RecipientLimit(500), RecipientRateLimit("9999/day")), [0]
    check = limiter.check

    async def counted_check(envelope: Envelope) -> Decision:
        looked_at[0] += len(envelope.recipients)
        return await check(envelope)

    monkeypatch.setattr(limiter, "check", counted_check)
    with submission(Sink(), limiter) as server, connect(server) as smtp:
        assert smtp.sendmail(ANN, [f"r{i}@example.com" for i in range(500)], "Hello") == {}
    assert 500 < looked_at[0] < 1500


def test_recipients_that_the_handler_refuses_cause_no_further_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter, looked_at = limiter_of(RecipientRateLimit("9999/day")), []
    check = limiter.check

    async def counted_check(envelope: Envelope) -> Decision:
        looked_at.append(len(envelope.recipients))
        return await check(envelope)

    monkeypatch.setattr(limiter, "check", counted_check)
    recipients = [BOB, "zoe@example.org", "kim@example.org", *[EVE] * 50]
    with (
        submission(Sink({("RCPT", EVE): "550 5.1.1 no such user"}), limiter) as server,
        connect(server) as smtp,
    ):
        assert list(smtp.sendmail(ANN, recipients, "Hello")) == [EVE]
    assert looked_at == [1, 2, 4]
    assert used(limiter) == [3]


def test_what_the_handler_refuses_is_not_charged() -> None:
    sink = Sink(
        {
            ("MAIL", "eve@uwo.ca"): "550 5.7.1 no",
            ("RCPT", EVE): "550 5.1.1 no such user",
            ("TEXT", "kim@uwo.ca"): "451 4.3.0 later",
        }
    )
    limiter = limiter_of(RecipientRateLimit("9/day"))
    with submission(sink, limiter) as server, connect(server) as smtp:
        assert list(smtp.sendmail(ANN, [BOB, EVE], "Hello")) == [EVE]
        with pytest.raises(smtplib.SMTPDataError):
            smtp.sendmail("kim@uwo.ca", BOB, "Hello")
        with pytest.raises(smtplib.SMTPSenderRefused):
            smtp.sendmail("eve@uwo.ca", BOB, "Hello")
    assert used(limiter) == [1]
    assert used(limiter, "kim@uwo.ca") == used(limiter, "eve@uwo.ca") == [0]


class Bytes:
    """A handler whose statuses are bytes, the second a refusal."""

    def __init__(self) -> None:
        self.statuses = [b"250 OK", b"451 4.3.0 later"]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> bytes:  # noqa: N802
        return self.statuses.pop(0)


def test_a_status_may_be_bytes() -> None:
    limiter = limiter_of(MessageRateLimit("9/day"))
    with submission(Bytes(), limiter) as server, connect(server) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
        with pytest.raises(smtplib.SMTPDataError):
            smtp.sendmail(ANN, BOB, "Hello")
    assert used(limiter) == [1]


def test_a_message_that_fits_again_between_two_looks_at_rcpt_is_not_refused_or_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = limiter_of(MessageRateLimit("1/day"))
    refused = asyncio.run(limiter_of(RecipientLimit(1)).check(Envelope(ANN, [BOB, EVE])))

    async def check(_: Envelope) -> Decision:
        return refused

    monkeypatch.setattr(limiter, "check", check)
    with submission(Sink(), limiter) as server, connect(server) as smtp:
        smtp.ehlo()
        smtp.mail(ANN)
        assert smtp.rcpt(BOB)[0] == 250
        assert used(limiter) == [0]


class Failing:
    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        raise OSError("disk full")

    async def handle_exception(self, error: Exception) -> str:
        return f"451 4.3.0 {error}"


def test_a_handler_that_fails_is_not_charged_and_handles_its_exception() -> None:
    limiter = limiter_of(MessageRateLimit("9/day"))
    with (
        submission(Failing(), limiter) as server,
        connect(server) as smtp,
        pytest.raises(smtplib.SMTPDataError, match="disk full"),
    ):
        smtp.sendmail(ANN, BOB, "Hello")
    assert used(limiter) == [0]


class Slow:
    """A handler that never ends, and knows when it begins and is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return "250 OK"


@pytest.mark.parametrize("how", ["close", "half-close", "abort"])
def test_a_charge_is_given_back_when_the_client_goes_away(how: str) -> None:
    handler, limiter = Slow(), limiter_of(MessageRateLimit("9/day"))
    with submission(handler, limiter) as server:
        smtp = connect(server)
        sock: Any = smtp.sock
        smtp.ehlo()
        smtp.mail(ANN)
        smtp.rcpt(BOB)
        smtp.docmd("DATA")
        smtp.send(b"Hello\r\n.\r\n")
        assert handler.begun.wait(20)
        assert used(limiter) == [1]
        if how == "half-close":
            sock.shutdown(socket.SHUT_WR)
        elif how == "abort":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if how != "half-close":
            smtp.close()
        assert handler.cancelled.wait(20)
        smtp.close()
        with connect(server) as other:  # which the server serves after it
            other.noop()
    assert used(limiter) == [0]


async def test_a_client_that_goes_away_while_its_message_is_decided_is_given_its_charge_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limiter = limiter_of(MessageRateLimit("9/day"))
    try_acquire = limiter.try_acquire
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow_try_acquire(envelope: Envelope) -> Decision:
        decision = await try_acquire(envelope)
        asked.set()
        await answer.wait()
        return decision

    monkeypatch.setattr(limiter, "try_acquire", slow_try_acquire)
    handler = LimitedHandler(Slow(), limiter)
    envelope: Any = SMTPEnvelope(ANN, [BOB])
    deciding = asyncio.create_task(handler.handle_DATA(None, session(), envelope))
    await asked.wait()
    deciding.cancel()
    await asyncio.sleep(0)
    answer.set()
    with pytest.raises(asyncio.CancelledError):
        await deciding
    assert (await limiter.usage(ANN))[0].used == 0


@attrs.define(eq=False)
class SMTPEnvelope:
    """What LimitedHandler reads of an aiosmtpd Envelope."""

    mail_from: str
    rcpt_tos: list[str]
    content: bytes = b"Subject: Hello\r\n"


def session(**fields: Any) -> Any:
    """Return what LimitedHandler reads of an aiosmtpd Session."""
    known = {"peer": ("10.1.2.3", 4711), "proxy_data": None, "authenticated": None}
    return SimpleNamespace(**known | {"auth_data": None} | fields)


@pytest.mark.parametrize("method", ["check", "try_acquire"])
def test_an_outage_defers_the_whole_message(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, limiter = Sink(), limiter_of(MessageRateLimit("9/day"))

    async def unavailable(_: object) -> None:
        raise BackendUnavailable("no connection")

    monkeypatch.setattr(limiter, method, unavailable)
    with submission(sink, limiter) as server, connect(server) as smtp:
        codes = replies_to(smtp, [BOB, EVE])
    assert codes == ([451, 451, 503] if method == "check" else [250, 250, 451])
    assert sink.arrivals == []


@pytest.mark.parametrize("method", ["settle", "refund"])
def test_an_outage_after_the_handlers_reply_changes_nothing(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink, limiter = Sink({("TEXT", "kim@uwo.ca"): "550 no"}), limiter_of(MessageRateLimit("9/day"))

    async def unavailable(_: object) -> None:
        raise BackendUnavailable("no connection")

    monkeypatch.setattr(limiter, method, unavailable)
    with submission(sink, limiter) as server, connect(server) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
        with pytest.raises(smtplib.SMTPDataError, match="550"):
            smtp.sendmail("kim@uwo.ca", BOB, "Hello")
    assert "no connection" in caplog.text


# Tiers.


def test_the_peer_and_the_login_choose_the_tier() -> None:
    def authenticator(*args: Any) -> AuthResult:
        return AuthResult(success=True, auth_data=args[-1])

    limiter = AsyncLimiter(
        Policy(
            name="test",
            tiers=[
                Tier("far", when=in_network("10.0.0.0/8"), limits=[MessageRateLimit("1/day")]),
                Tier("near", limits=[MessageRateLimit("2/day", scope="user")]),
            ],
        )
    )
    handler = LimitedHandler(Sink(), limiter)
    options: Any = {"authenticator": authenticator, "auth_require_tls": False}
    with SMTPServerThread(handler, **options) as server, connect(server) as smtp:
        smtp.login("kim", "secret")
        smtp.sendmail(ANN, BOB, "Hello")
        smtp.sendmail("x@uwo.ca", BOB, "Hello")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("y@uwo.ca", BOB, "Hello")
    (usage,) = asyncio.run(limiter.usage("kim", scope="user"))
    assert usage.used == 2


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ({}, Client(address="10.1.2.3", protocol="smtp")),
        ({"peer": ("fe80::1%eth0", 25, 0, 2)}, Client(address="fe80::1%eth0", protocol="smtp")),
        ({"peer": ("fe80::1%?!", 25, 0, 2)}, Client(protocol="smtp")),
        ({"peer": ""}, Client(protocol="smtp")),
        ({"peer": None}, Client(protocol="smtp")),
        (
            {"proxy_data": SimpleNamespace(src_addr=ipaddress.ip_address("2001:db8::1"))},
            Client(address="2001:db8::1", protocol="smtp"),
        ),
        ({"proxy_data": SimpleNamespace(src_addr=None)}, Client(protocol="smtp")),
        ({"proxy_data": SimpleNamespace(src_addr=b"/run/x")}, Client(protocol="smtp")),
    ],
)
def test_the_address_of_a_client(fields: Any, client: Client) -> None:
    assert client_of(session(**fields)) == client


@pytest.mark.parametrize(
    ("auth_data", "user"),
    [
        (LoginPassword(b"kim", b"secret"), "kim"),
        ("kim", "kim"),
        (b"kim", "kim"),
        (LoginPassword("jürgen".encode(), b""), "jürgen"),
        (LoginPassword(b"\xff\0", b""), "\\\\xff\\x00"),
        (LoginPassword(b"", b""), None),
        ({"token": 1}, None),
        (None, None),
    ],
)
def test_the_login_of_a_client(auth_data: Any, user: str | None) -> None:
    assert client_of(session(authenticated=True, auth_data=auth_data)).user == user
    assert client_of(session(authenticated=False, auth_data=auth_data)).user is None


def test_long_logins_stay_different() -> None:
    logins = [b"x" * 500 + end for end in (b"a", b"b")]
    users = {
        client_of(session(authenticated=True, auth_data=LoginPassword(each, b""))).user
        for each in logins
    }
    assert len(users) == 2
    assert all(len(each or "") == 320 for each in users)


def test_client_says_what_the_site_knows() -> None:
    limiter = AsyncLimiter(
        Policy(
            name="test",
            tiers=[
                Tier("wireless", when=has_tag("wireless"), limits=[MessageRateLimit("1/day")]),
                Tier("others", limits=[MessageRateLimit("9/day")]),
            ],
        )
    )

    def client(session: Any) -> Client:
        return attrs.evolve(client_of(session), tags={"wireless"})

    with submission(Sink(), limiter, client=client) as server, connect(server) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail(ANN, BOB, "Hello")


# Inbound.


@pytest.mark.parametrize("partial", [False, True])
def test_a_full_mailbox_is_refused_at_rcpt_and_the_others_get_the_message(partial: bool) -> None:
    limit = MessageRateLimit("1/day", scope="recipient", direction="inbound")
    sink, limiter = Sink(), limiter_of(limit, partial=partial)
    with submission(sink, limiter, direction="inbound") as server, connect(server) as smtp:
        smtp.sendmail(BOB, "kim@uwo.ca", "Hello")
        assert replies_to(smtp, ["kim@uwo.ca", ANN], BOB) == [450, 250, 250]
    assert [each.recipients for each in sink.arrivals] == [("kim@uwo.ca",), (ANN,)]
    assert used(limiter, "kim@uwo.ca", "recipient") == used(limiter, ANN, "recipient") == [1]


async def test_inbound_mail_that_fits_for_some_only_at_data_is_deferred_for_all() -> None:
    limit = MessageRateLimit("1/day", scope="recipient", direction="inbound", on_excess="reject")
    sink, limiter = Sink(), limiter_of(limit, partial=True)
    handler = LimitedHandler(sink, limiter, direction="inbound")
    await limiter.try_acquire(Envelope(BOB, ["kim@uwo.ca"], direction="inbound"))
    envelope: Any = SMTPEnvelope(BOB, ["kim@uwo.ca", ANN])
    assert (await handler.handle_DATA(None, session(), envelope)).startswith("450 4.7.1")
    assert sink.arrivals == []
    assert (await limiter.usage(ANN, scope="recipient"))[0].used == 0


# Mailing lists.


class Holding(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.held: list[Decision] = []

    async def handle_HOLD(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, decision: Decision
    ) -> str:
        self.held.append(decision)
        return str(decision.reply)


def test_a_message_to_be_moderated_is_held_by_the_handler_or_refused() -> None:
    news = MailingList("news@uwo.ca", posting="moderated")
    directory = Directory(lists=[news])
    for sink in (Holding(), Sink()):
        limiter = limiter_of(MessageRateLimit("9/day"), directory=directory)
        with submission(sink, limiter) as server, connect(server) as smtp:
            codes = replies_to(smtp, ["news@uwo.ca"])
        assert codes == [250, 250 if isinstance(sink, Holding) else 550]
        assert len(getattr(sink, "held", [1])) == 1
        assert sink.arrivals == []


# Everything that aiosmtpd lets pass.

ODD_ADDRESSES = [
    "<postmaster>",
    '<"a b"@example.com>',
    '<"a\\"b"@example.com>',
    "<@relay.example,@other.example:bob@example.com>",
    "<bob@[127.0.0.1]>",
    "<bob@[IPv6:::1]>",
    "<BOB@EXAMPLE.COM.>",
    "<bob..b@example.com>",
    "<a,b@example.com>",
    "<a b@example.com>",
    "<@example.com>",
    "<bob@>",
    "<bob@exa mple.com>",
    "<bøb@exämple.com>",
    "<b\udcffb@example.com>",
    "<\0@example.com>",
    "bob@example.com",
    "<" + "a" * 400 + "@example.com>",
    "<bob@" + "x." * 200 + "com>",
    "<bob@xn--ÿ.com>",
    "<>",
    "",
    "Bob <bob@example.com>",
    "<(comment)bob@example.com>",
    "<bob%example.org@example.com>",
    "<!#$%&'*+-/=?^_`{|}~@example.com>",
]


def dialogue(server: SMTPServerThread, command: str, address: str) -> list[bytes]:
    """Send a message with an odd sender or recipient; return the replies."""
    sender = address if command == "MAIL" else f"<{ANN}>"
    recipient = address if command == "RCPT" else f"<{BOB}>"
    lines = ["EHLO me", f"MAIL FROM:{sender}", f"RCPT TO:{recipient}", "DATA", "Hello\r\n.", "QUIT"]
    replies = []
    with (
        socket.create_connection(("127.0.0.1", server.port), 20) as sock,
        sock.makefile("rb") as file,
    ):
        replies.append(file.readline())
        for line in lines:
            sock.sendall(line.encode("utf-8", "surrogateescape") + b"\r\n")
            while (reply := file.readline())[3:4] == b"-":
                pass
            replies.append(reply)
            if line == "DATA" and not reply.startswith(b"354"):
                sock.sendall(b"NOOP\r\n")
                file.readline()
                return replies
    return replies


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
def test_every_address_that_aiosmtpd_lets_pass_is_decided_on(command: str) -> None:
    limiter = limiter_of(
        RecipientLimit(500),
        RecipientRateLimit("999/day", count="external"),
        MessageRateLimit("999/day", scope="recipient_domain"),
    )
    plain, behind = Sink(), Sink()
    with SMTPServerThread(plain) as bare, submission(behind, limiter) as limited:
        for address in ODD_ADDRESSES:
            assert dialogue(limited, command, address) == dialogue(bare, command, address), address
    assert behind.arrivals == plain.arrivals
    assert len(plain.arrivals) > 10


# Many at once.


def test_a_hundred_concurrent_clients_stay_within_the_limit_at_the_handler() -> None:
    time = SimulatedTime(100)
    slow = iter(range(10**6))

    async def delay(_: object) -> None:
        await time.async_sleep((next(slow) * 7 % 10) / 2)  # 0 to 4.5 seconds

    replies = {("RCPT", EVE): "550 5.1.1 no such user", ("TEXT", "kim@uwo.ca"): "451 4.3.0 later"}
    sink = Sink(replies, clock=time, delay=delay)
    policy = campus_policy(
        MessageRateLimit("10/15 seconds", scope="client"), RecipientRateLimit("1000/day")
    )
    limiter = AsyncLimiter(policy, MemoryBackend(time))

    def send(server: SMTPServerThread, number: int) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", server.port, "client") as smtp:
                with contextlib.suppress(smtplib.SMTPException):
                    smtp.sendmail("kim@uwo.ca", BOB, "Hello")
                while True:
                    try:
                        smtp.sendmail(ANN, [BOB, EVE], "Hello")
                    except smtplib.SMTPException:
                        time.sleep(1 + number % 7)
                    else:
                        break
        finally:
            time.finish()

    with submission(sink, limiter) as server, ThreadPoolExecutor(100) as threads:
        for each in [threads.submit(send, server, number) for number in range(100)]:
            each.result()
    assert len(sink.arrivals) == sink.reached(ANN) == 100
    assert fullest_window(15_000, [each.moment for each in sink.arrivals]) <= 10
    assert used(limiter)[0] == 100
    assert used(limiter, "kim@uwo.ca")[0] == 0


# A handler as before.


class Greeting(Sink):
    async def handle_EHLO(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-X-GREETING", responses[-1]]

    async def auth_TOKEN(self, server: Any, args: list[str]) -> AuthResult:  # noqa: N802
        return AuthResult(success=True, auth_data="kim")


def test_the_other_hooks_of_a_handler_are_called() -> None:
    handler = Greeting()
    limiter = limiter_of(MessageRateLimit("9/day", scope="user"))
    limited = LimitedHandler(handler, limiter)
    assert limited.arrivals is handler.arrivals
    assert not hasattr(limited, "handle_QUIT")
    with SMTPServerThread(limited, auth_require_tls=False) as server, connect(server) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("x-greeting")
        assert smtp.docmd("AUTH TOKEN")[0] == 235
        smtp.sendmail(ANN, BOB, "Hello")
    assert used(limiter, "kim", "user") == [1]


class Bare:
    pass


def test_a_handler_without_hooks_accepts() -> None:
    limiter = limiter_of(MessageRateLimit("9/day"))
    with submission(Bare(), limiter) as server, connect(server) as smtp:
        smtp.sendmail(ANN, BOB, "Hello")
    assert used(limiter) == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((Sink(), None), TypeError, "limiter: an AsyncLimiter"),
        ((Sink(), limiter_of(), "both"), ValueError, "direction: 'both'"),
        ((Sink(), limiter_of(), "inbound", "kim"), TypeError, "client: a callable"),
    ],
)
def test_wrong_arguments_are_errors(arguments: Any, error: type[Exception], words: str) -> None:
    names = ["handler", "limiter", "direction", "client"]
    with pytest.raises(error, match=words):
        LimitedHandler(**dict(zip(names, arguments, strict=False)))


def test_a_handler_that_hangs_holds_its_charge_until_the_client_leaves() -> None:
    sink, limiter = Sink({("TEXT", ANN): HANG}), limiter_of(MessageRateLimit("9/day"))
    with submission(sink, limiter) as server:
        smtp = smtplib.SMTP("127.0.0.1", server.port, "client", timeout=0.2)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.sendmail(ANN, BOB, "Hello")
        with connect(server) as other:
            other.noop()
    assert used(limiter) == [0]
