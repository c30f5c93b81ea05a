"""The SMTP transport against a real server: connections, TLS, logins, and every kind of refusal."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import AuthResult, LoginPassword
from rlm_testkit.outbox import ANN, Receipt, Scene, Sink, letter
from rlm_testkit.servers import free_port

from ratelimit_mail import presets
from ratelimit_mail.exceptions import TransportUnavailable
from ratelimit_mail.outbox import OutgoingMessage, SMTPTransport, State
from ratelimit_mail.testing import ManualClock

LEEDS = presets.leeds_office365()
SECRET = "correct horse battery staple"


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink(ManualClock())
    yield sink
    sink.close()


_opened: list[SMTPTransport] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the connections that a test has opened without an outbox."""
    yield
    while _opened:
        _opened.pop().close()


def transport_to(sink: Sink, **options: Any) -> SMTPTransport:
    options.setdefault("max_connections", 1)
    transport = SMTPTransport("127.0.0.1", sink.port, **options)
    _opened.append(transport)
    return transport


def scene_for(sink: Sink, folder: Path, transport: SMTPTransport | None = None) -> Scene:
    sink.clock = clock = ManualClock()
    transport = transport or plain(sink)
    return Scene(folder / "outbox.db", LEEDS, transport, clock=clock)


def plain(sink: Sink, **options: Any) -> SMTPTransport:
    return transport_to(sink, tls="none", timeout=20, **options)


def outgoing(*recipients: str, content: bytes = b"Subject: Hi\r\n\r\nHello\r\n") -> OutgoingMessage:
    return OutgoingMessage(
        id=1,
        key=None,
        message_id="<1@x.org>",
        sender=ANN,
        recipients=recipients or ("bob@example.com",),
        content=content,
    )


def nothing() -> None: ...


def test_a_message_arrives_as_it_was_put(sink: Sink, tmp_path: Path) -> None:
    scene = scene_for(sink, tmp_path)
    put = scene.outbox.put(letter(1, Bcc="dean@leeds.ac.uk"))
    scene.run()
    (receipt,) = sink.received
    assert (receipt.sender, receipt.recipients) == (
        ANN,
        ["student1@example.com", "dean@leeds.ac.uk"],
    )
    assert receipt.message_id == put.message_id
    assert b"Dear student,\r\n.\r\n..\r\nYours\r\n" in receipt.content
    assert b"dean" not in receipt.content


def test_one_connection_is_used_for_many_messages(sink: Sink, tmp_path: Path) -> None:
    scene = scene_for(sink, tmp_path)
    for number in range(25):
        scene.outbox.put(letter(number))
    scene.run()
    assert len(sink.received) == 25
    assert sink.connections == 1


def test_a_connection_that_the_server_has_closed_is_opened_again(sink: Sink) -> None:
    transport = plain(sink)
    assert transport.send(outgoing(), nothing) == {}
    sink.drop_connections()
    assert transport.send(outgoing(), nothing) == {}
    assert len(sink.received) == sink.connections == 2


def test_not_more_connections_are_open_than_allowed(sink: Sink, tmp_path: Path) -> None:
    scene = scene_for(sink, tmp_path, plain(sink, max_connections=3))
    scene.outbox._sleep = scene.outbox._stop.wait
    for number in range(40):
        scene.outbox.put(letter(number, f"sender{number % 8}@leeds.ac.uk"))
    scene.run()
    assert len(sink.received) == 40
    assert 1 < sink.most_open <= 3
    assert sink.connections <= 3


def test_three_connections_are_the_default_for_office_365(sink: Sink) -> None:
    assert SMTPTransport("127.0.0.1", sink.port).max_connections == 3


def test_the_null_sender_is_empty_for_the_server(sink: Sink) -> None:
    options: list[Any] = []
    sink.answers["MAIL"] = lambda address: options.append(address)
    message = outgoing()
    plain(sink).send(
        OutgoingMessage(
            id=1,
            key=None,
            message_id="<1@x>",
            sender="<>",
            recipients=("bob@example.com",),
            content=message.content,
        ),
        nothing,
    )
    assert options == ["<>"]


# Refusals.


def test_refused_recipients_are_tried_again_or_not_and_the_others_never_twice(
    sink: Sink, tmp_path: Path
) -> None:
    busy = ["busy@example.com"]

    def answer(address: str) -> str | None:
        if address == "no@example.com":
            return "550 5.1.1 no such user"
        return "450 4.2.1 mailbox busy" if address in busy and len(sink.received) < 1 else None

    sink.answers["RCPT"] = answer
    scene = scene_for(sink, tmp_path)
    scene.outbox.put(letter(1, to="bob@example.com, busy@example.com, no@example.com"))
    scene.run()
    assert [each.recipients for each in sink.received] == [["bob@example.com"], busy]
    assert sink.received[1].at - sink.received[0].at == 1800 * 1000
    message = scene.outbox.show(1)
    assert [(each.state, each.reply) for each in message.recipients] == [
        (State.SENT, None),
        (State.SENT, None),
        (State.FAILED, "550 5.1.1 no such user"),
    ]


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "TEXT"])
@pytest.mark.parametrize(
    ("reply", "state", "attempts"),
    [("451 4.3.0 try later", State.SENT, 1), ("554 5.7.1 spam", State.FAILED, 0)],
)
def test_a_refusal_at_any_command_is_known_for_what_it_is(
    sink: Sink, tmp_path: Path, command: str, reply: str, state: State, attempts: int
) -> None:
    replies = [reply]
    sink.answers[command] = lambda _: replies.pop() if replies else None
    scene = scene_for(sink, tmp_path)
    scene.outbox.put(letter(1))
    scene.outbox.put(letter(2, "kim@leeds.ac.uk"))
    scene.run()
    message = scene.outbox.show(1)
    assert (message.state, message.attempts) == (state, attempts)
    if state == State.FAILED:
        assert message.reply == reply
    assert scene.outbox.show(2).state == State.SENT
    assert sink.connections == 1
    assert max(sink.counts().values()) == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
def test_a_server_that_closes_is_left_alone_for_a_while(
    sink: Sink, tmp_path: Path, command: str
) -> None:
    replies = ["421 4.3.2 shutting down"] * 2
    sink.answers[command] = lambda _: replies.pop() if replies else None
    scene = scene_for(sink, tmp_path)
    scene.outbox.put(letter(1))
    scene.run()
    message = scene.outbox.show(1)
    assert message.state == State.SENT
    assert len(sink.received) == 1
    assert sink.received[0].at > int(message.put_at.timestamp() * 1000)


def test_a_provider_that_says_too_fast_gets_no_more_of_that_sender(
    sink: Sink, tmp_path: Path
) -> None:
    replies = ["432 4.3.2 Concurrent connections limit exceeded. Retry after 2 minutes"]
    sink.answers["MAIL"] = lambda _: replies.pop() if replies else None
    scene = scene_for(sink, tmp_path)
    start = scene.clock()
    for number in range(3):
        scene.outbox.put(letter(number))
    scene.run()
    assert [each.at - start for each in sink.received] == [120_000] * 3
    assert scene.limiter.blocks() == ()


def test_a_connection_that_breaks_before_the_final_dot_sends_nothing(sink: Sink) -> None:
    transport = plain(sink)

    def broken() -> None:
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        transport.send(outgoing(), broken)
    assert transport.send(outgoing(), nothing) == {}
    assert len(sink.received) == 1


def test_a_server_that_dies_after_the_final_dot_leaves_the_message_uncertain(
    sink: Sink, tmp_path: Path
) -> None:
    def die(_: bytes) -> str:
        return "not a reply"

    sink.answers["ACCEPTED"] = die
    scene = scene_for(sink, tmp_path)
    scene.outbox.put(letter(1))
    scene.run()
    assert len(sink.received) == 1
    assert scene.outbox.show(1).state == State.UNCERTAIN


def test_a_server_that_is_not_there_is_tried_later(sink: Sink, tmp_path: Path) -> None:
    transport = SMTPTransport("127.0.0.1", free_port(), tls="none", max_connections=1)
    scene = scene_for(sink, tmp_path, transport)
    scene.outbox.put(letter(1))
    scene.outbox._sleep = lambda _: scene.outbox.stop()
    scene.run()
    message = scene.outbox.show(1)
    assert message.state == State.QUEUED
    assert "cannot be reached (ConnectionRefusedError)" in str(message.reply)


def test_a_server_without_utf8_refuses_addresses_that_are_not_ascii(
    tmp_path: Path,
) -> None:
    sink = Sink(ManualClock(), enable_SMTPUTF8=False)
    scene = scene_for(sink, tmp_path)
    scene.outbox.put(letter(1, to="jürgen@example.com"))
    scene.run()
    sink.close()
    message = scene.outbox.show(1)
    assert message.state == State.FAILED
    assert str(message.reply).startswith("553 5.6.7")


def test_a_server_with_utf8_gets_addresses_and_headers_in_utf8(tmp_path: Path) -> None:
    sink = Sink(ManualClock())
    scene = scene_for(sink, tmp_path)
    scene.outbox.put(letter(1, to="jürgen@example.com"))
    scene.outbox.put(letter(2))
    scene.run()
    sink.close()
    assert [each.recipients for each in sink.received] == [
        ["jürgen@example.com"],
        ["student2@example.com"],
    ]
    assert "To: jürgen@example.com".encode() in sink.received[0].content


def test_a_large_message_arrives_whole(sink: Sink) -> None:
    content = b"Subject: big\r\n\r\n" + b"." * 70 + b"\r\n" + (b"x" * 76 + b"\r\n") * 350_000
    plain(sink).send(outgoing(content=content), nothing)
    assert sink.received[0].content == content


# TLS and logins.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data.password == SECRET.encode()
    return AuthResult(success=good and data.login == ANN.encode(), handled=False)


def test_a_login_after_starttls(
    tmp_path: Path, server_context: ssl.SSLContext, context: ssl.SSLContext
) -> None:
    sink = Sink(ManualClock(), tls_context=server_context, authenticator=log_in, auth_required=True)
    transport = transport_to(
        sink, username=ANN, password=lambda: SECRET, context=context, max_connections=1
    )
    scene = scene_for(sink, tmp_path, transport)
    scene.outbox.put(letter(1))
    scene.run()
    sink.close()
    assert len(sink.received) == 1


def test_a_wrong_password_fails_no_message_and_is_shown_nowhere(
    tmp_path: Path,
    server_context: ssl.SSLContext,
    context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Sink(ManualClock(), tls_context=server_context, authenticator=log_in, auth_required=True)
    transport = transport_to(
        sink, username=ANN, password="hunter2", context=context, max_connections=1
    )
    scene = scene_for(sink, tmp_path, transport)
    scene.outbox.put(letter(1))
    scene.outbox._sleep = lambda _: scene.outbox.stop()
    scene.run()
    sink.close()
    message = scene.outbox.show(1)
    assert (message.state, message.attempts) == (State.QUEUED, 0)
    assert "refuses the login: '535 5.7.8" in str(message.reply)
    for text in (repr(transport), repr(message), caplog.text):
        assert "hunter2" not in text
        assert "aHVudGVyMg" not in text


class XOAuth2Sink(Sink):
    """A server that takes the login of Office 365 and Gmail."""

    tokens: tuple[str, ...] = ("good",)

    async def auth_XOAUTH2(self, server: Any, arguments: list[str]) -> AuthResult:  # noqa: N802
        import base64

        text = base64.b64decode(arguments[1]).decode()
        if text in [f"user={ANN}\1auth=Bearer {token}\1\1" for token in self.tokens]:
            return AuthResult(success=True)
        await server.push("334 eyJzdGF0dXMiOiI0MDAifQ==")
        assert (await server._reader.readline()).strip() == b""
        return AuthResult(success=False, handled=False)


def test_a_login_by_access_token(
    tmp_path: Path,
    server_context: ssl.SSLContext,
    context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = XOAuth2Sink(ManualClock(), tls_context=server_context, auth_required=True)
    tokens = ["good", "expired-token"]
    transport = transport_to(
        sink, username=ANN, oauth=lambda: tokens.pop(), context=context, max_connections=1
    )
    scene = scene_for(sink, tmp_path, transport)
    scene.outbox.put(letter(1))
    scene.run()
    sink.close()
    assert len(sink.received) == 1
    assert tokens == []
    assert "refuses the login" in caplog.text
    assert "expired-token" not in caplog.text


def test_a_token_that_cannot_be_had_is_tried_later(
    sink: Sink, server_context: ssl.SSLContext, context: ssl.SSLContext
) -> None:
    secure = Sink(ManualClock(), tls_context=server_context)

    def fail() -> str:
        raise RuntimeError("client_secret=abc")

    transport = transport_to(secure, username=ANN, oauth=fail, context=context)
    with pytest.raises(TransportUnavailable, match="RuntimeError") as caught:
        transport.send(outgoing(), nothing)
    secure.close()
    assert "abc" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_implicit_tls(
    tmp_path: Path, server_context: ssl.SSLContext, context: ssl.SSLContext
) -> None:
    sink = Sink(ManualClock(), ssl_context=server_context)
    transport = transport_to(sink, tls="implicit", context=context)
    assert transport.send(outgoing(), nothing) == {}
    transport.close()
    sink.close()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_that_is_not_trusted_stops_everything(
    server_context: ssl.SSLContext, tls: Any
) -> None:
    options = {"tls_context" if tls == "starttls" else "ssl_context": server_context}
    sink = Sink(ManualClock(), **options)
    transport = transport_to(sink, tls=tls)
    with pytest.raises(TransportUnavailable, match="SSLCertVerificationError"):
        transport.send(outgoing(), nothing)
    transport.close()
    sink.close()
    assert sink.received == []


def test_nothing_is_sent_to_a_server_that_offers_no_tls(sink: Sink) -> None:
    transport = transport_to(sink)
    with pytest.raises(TransportUnavailable, match=r"STARTTLS extension not supported.*--tls none"):
        transport.send(outgoing(), nothing)
    assert sink.received == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"host": ""}, TypeError, "host: "),
        ({"port": 0}, ValueError, "port: 0"),
        ({"port": "587"}, TypeError, "port: a whole number"),
        ({"tls": "maybe"}, ValueError, "tls: 'maybe' is not one of"),
        ({"username": ANN}, ValueError, "username: a login needs"),
        ({"password": SECRET}, ValueError, "username: a login needs"),
        ({"username": ANN, "password": SECRET, "oauth": str}, ValueError, "oauth: a login has"),
        ({"username": ANN, "oauth": SECRET}, TypeError, "oauth: a function"),
        ({"username": ANN, "password": SECRET, "tls": "none"}, ValueError, "sent unencrypted"),
        ({"max_connections": 0}, ValueError, "max_connections: must be at least 1"),
        ({"timeout": 0}, ValueError, "timeout: 0"),
    ],
)
def test_wrong_arguments_are_named_and_show_no_secret(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        SMTPTransport(**{"host": "smtp.example.com", **options})
    assert SECRET not in str(caught.value)


def test_each_step_of_an_outbox_is_on_the_disk_when_it_returns(sink: Sink, tmp_path: Path) -> None:
    scene = scene_for(sink, tmp_path)
    connection = scene.outbox._store._connection
    assert connection is not None
    assert tuple(connection.execute("PRAGMA synchronous").fetchone()) == (2,)


def test_receipts_have_a_message_id() -> None:
    receipt = Receipt(0, ANN, [], b"Message-ID: <1@x>\r\n\r\n")
    assert receipt.message_id == "<1@x>"


def test_the_end_of_a_message_does_not_wait_until_the_server_has_confirmed_its_text(
    sink: Sink,
) -> None:
    transport = plain(sink)
    transport.send(outgoing("bob@example.com"), lambda: None)
    [connection] = transport._idle
    assert connection.smtp.sock is not None
    assert connection.smtp.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
