"""Alerts: once for all processes on one store, by mail digests, webhook and syslog."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from rlm_testkit.builders import envelope_to
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.smtp_servers import Sink, SMTPServerThread
from rlm_testkit.tls import CertificateFiles

from ratelimit_mail import Client, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import Backend, MemoryBackend, SQLiteBackend
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.events import Event, FirstDenial, NearLimit
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.monitoring import Alerts, MailAlerts, SystemLogAlerts, WebhookAlerts
from ratelimit_mail.testing import ManualClock

LIMIT = MessageRateLimit("10/hour")
HOSTILE = "eve\r\nBcc: x@y.z\x1b[2J\u202e@uwo.ca"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return CertificateFiles(tmp_path_factory.mktemp("tls") / "files")


def denial(subject: str = "eve@uwo.ca", limit: RateLimit = LIMIT, at: int = 1_000) -> FirstDenial:
    return FirstDenial(
        sender=subject,
        subject=subject,
        limit=limit,
        policy="campus",
        tier=None,
        at=datetime.fromtimestamp(at / 1000, UTC),
        client=Client(),
        decision=Decision(Action.DEFER, 60.0, limit),
    )


class AwayBackend(MemoryBackend):
    """A store that cannot be reached."""

    def apply(self, *_: Any) -> Any:
        raise BackendUnavailable("away")

    def read_register(self, name: str) -> Any:
        raise BackendUnavailable("away")

    def write_register(self, name: str, changes: Any) -> Any:
        raise BackendUnavailable("away")


def flushed(alerts: Alerts, *events: Event) -> None:
    for event in events:
        alerts(event)
    assert alerts.flush(30)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_of_several_processes_on_one_store_one_reports_an_event(kind: str, tmp_path: Path) -> None:
    clock = ManualClock()
    memory = MemoryBackend(clock)
    seen: list[Event] = []
    processes = []
    for _ in range(4):
        file = tmp_path / "counts.db"
        store: Backend = memory if kind == "memory" else SQLiteBackend(file, clock=clock)
        processes.append(Alerts([seen.append], store=store, name="campus"))
    for alerts in processes:
        flushed(alerts, denial(), denial("ann@uwo.ca"))
    assert [event.sender for event in seen] == ["eve@uwo.ca", "ann@uwo.ca"]
    clock.advance(3599)
    flushed(processes[2], denial())
    assert len(seen) == 2
    clock.advance(1)
    flushed(processes[2], denial())
    assert len(seen) == 3


def test_without_a_store_or_while_it_is_away_each_process_reports() -> None:
    seen: list[Event] = []
    flushed(Alerts([seen.append]), denial())
    flushed(Alerts([seen.append]), denial())
    flushed(Alerts([seen.append], store=AwayBackend()), denial())
    assert len(seen) == 3


def test_the_kinds_and_limits_that_only_report_are_chosen() -> None:
    shadow = MessageRateLimit("10/hour", enforce=False)
    near = NearLimit(
        sender="a@b.c",
        subject="a@b.c",
        limit=LIMIT,
        policy="campus",
        tier=None,
        at=datetime.now(UTC),
        client=Client(),
        used=8,
        share=0.8,
    )
    seen: list[Event] = []
    flushed(Alerts([seen.append]), near, denial(limit=shadow))
    assert seen == [denial(limit=shadow)]
    seen.clear()
    flushed(Alerts([seen.append], kinds=["NearLimit"], shadow=False), near, denial(limit=shadow))
    assert seen == [near]
    with pytest.raises(ValueError, match="'Nothing' is not one of"):
        Alerts([seen.append], kinds=["Nothing"])
    with pytest.raises(ValueError, match="at least one"):
        Alerts([])


def test_a_channel_that_fails_does_not_disturb_another(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def fail(event: Event) -> None:
        raise RuntimeError("eve@uwo.ca")

    flushed(Alerts([fail, seen.append]), denial())
    assert len(seen) == 1
    assert "eve@uwo.ca" not in caplog.text


# Mail.


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def relay(sink: Sink) -> Iterator[SMTPServerThread]:
    with SMTPServerThread(sink) as server:
        yield server


def mail_alerts(
    relay: SMTPServerThread, store: Backend | None = None, **options: Any
) -> MailAlerts:
    return MailAlerts(
        "127.0.0.1",
        relay.port,
        sender="limits@uwo.ca",
        recipients=["postmaster@uwo.ca", "abuse@uwo.ca"],
        store=store,
        name="campus",
        **options,
    )


def digest(sink: Sink, number: int) -> Any:
    return email.message_from_bytes(sink.arrivals[number].text, policy=email.policy.default)


def test_a_digest_has_the_alerts_of_all_processes(sink: Sink, relay: SMTPServerThread) -> None:
    store = MemoryBackend(ManualClock())
    first, second = mail_alerts(relay, store), mail_alerts(relay, store)
    first.add(denial())
    second.add(denial("ann@uwo.ca", at=2_000))
    assert second.step() is not None
    assert first.step() is None  # nothing waits any more
    [arrival] = sink.arrivals
    assert arrival.sender == "limits@uwo.ca"
    assert arrival.recipients == ("postmaster@uwo.ca", "abuse@uwo.ca")
    message = digest(sink, 0)
    assert message["Subject"] == "[ratelimit-mail] campus: 2 alerts (2 FirstDenial)"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["To"] == "postmaster@uwo.ca, abuse@uwo.ca"
    text = message.get_content()
    assert "1970-01-01 00:00:01 UTC  first denial: 'eve@uwo.ca'" in text
    assert text.index("eve@uwo.ca") < text.index("ann@uwo.ca")
    assert "ratelimit-mail block SUBJECT --reason TEXT" in text


def test_at_most_so_many_digests_go_in_an_hour(sink: Sink, relay: SMTPServerThread) -> None:
    clock = ManualClock()
    store = MemoryBackend(clock)
    processes = [mail_alerts(relay, store, mails_per_hour=4) for _ in range(3)]
    sent_at = []
    for second in range(0, 3600, 5):
        for number, each in enumerate(processes):
            each.add(denial(f"u{second}.{number}@uwo.ca"))
            before = len(sink.arrivals)
            each.step()
            if len(sink.arrivals) > before:
                sent_at.append(second)
        clock.advance(5)
    assert sent_at == [0, 900, 1800, 2700]
    assert "541 alerts" not in digest(sink, 0)["Subject"]
    assert digest(sink, 1)["Subject"].startswith("[ratelimit-mail] campus: 540 alerts")
    assert "more, which the log has" in digest(sink, 1).get_content()


def test_what_the_relay_does_not_take_is_tried_again(
    sink: Sink, relay: SMTPServerThread, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    alerts = mail_alerts(relay, MemoryBackend(clock))
    sink.replies["TEXT", "limits@uwo.ca"] = "451 4.3.0 later"
    alerts.add(denial())
    assert [alerts.step(), alerts.step()] == [30.0, 60.0]
    assert "eve" not in caplog.text
    del sink.replies["TEXT", "limits@uwo.ca"]
    alerts.step()
    assert "eve@uwo.ca" in digest(sink, 0).get_content()
    assert alerts.step() is None


def test_alerts_go_out_while_the_store_is_away(sink: Sink, relay: SMTPServerThread) -> None:
    alerts = mail_alerts(relay, AwayBackend())
    alerts.add(denial())
    alerts.step()
    assert "eve@uwo.ca" in digest(sink, 0).get_content()


def test_hostile_names_are_escaped_in_a_digest(sink: Sink, relay: SMTPServerThread) -> None:
    alerts = mail_alerts(relay)
    alerts.add(denial(HOSTILE))
    alerts.step()
    message = digest(sink, 0)
    assert message["Bcc"] is None
    text = message.get_content()
    assert r"eve\r\nBcc: x@y.z\x1b[2J\u202e@uwo.ca" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "entry",
    [
        "null",
        '{"at": 1e400, "kind": "x", "line": "y"}',
        '{"at": -99999999999999999, "kind": "x", "line": "y"}',
        "[" * 100_000,
        '{"at": 1, "kind": "x", "line": "y\\nWho uses most: nobody"}',
    ],
)
def test_an_entry_of_the_store_that_cannot_be_read_holds_up_no_alert(
    sink: Sink, relay: SMTPServerThread, entry: str
) -> None:
    store = MemoryBackend(ManualClock())
    alerts = mail_alerts(relay, store)
    alerts.add(denial())
    store.write_register("campus:alerts", {"000000000000001 x": entry, "more": "many"})
    alerts.step()
    text = digest(sink, 0).get_content()
    assert "eve@uwo.ca" in text
    assert "\nWho uses most: nobody" not in text


def test_a_forked_process_closes_although_its_parent_was_sending(
    sink: Sink, relay: SMTPServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = mail_alerts(relay)
    alerts.add(denial())
    with alerts._sending:
        monkeypatch.setattr("os.getpid", lambda: -1)  # as in the child
        closing = threading.Thread(target=alerts.close, daemon=True)
        closing.start()
        closing.join(10)
        assert not closing.is_alive()


def test_names_are_hashed_with_a_key(sink: Sink, relay: SMTPServerThread) -> None:
    alerts = mail_alerts(relay, key=b"k" * 16)
    alerts.add(denial())
    alerts.step()
    assert "eve@uwo.ca" not in digest(sink, 0).get_content()


def test_an_event_starts_the_thread_that_sends(sink: Sink, relay: SMTPServerThread) -> None:
    alerts = mail_alerts(relay)
    alerts(denial())
    alerts.close()  # at the end of a program, what waits is sent
    assert "eve@uwo.ca" in digest(sink, 0).get_content()


def log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data.password == b"s3cret"
    return AuthResult(success=good and data.login == b"limits", handled=False)


def test_mail_is_sent_over_tls_with_a_login(
    sink: Sink, certificates: CertificateFiles, caplog: pytest.LogCaptureFixture
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificates.ca))
    options = {"tls_context": certificates.server_context(), "auth_required": True}
    with SMTPServerThread(sink, authenticator=log_in, **options) as server:
        login: dict[str, Any] = {"username": "limits", "tls": "starttls", "context": trusting}
        alerts = mail_alerts(server, password=lambda: "s3cret", **login)
        alerts.add(denial())
        alerts.step()
        assert len(sink.arrivals) == 1
        for changes in ({"password": "wr0ng"}, {"context": None}):
            refused = mail_alerts(server, **{**login, "password": "s3cret", **changes})
            refused.add(denial())
            assert refused.step() == 30.0
        assert len(sink.arrivals) == 1
    assert "s3cret" not in caplog.text + repr(alerts)
    assert "wr0ng" not in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipients": []}, "recipients: a list"),
        ({"recipients": ["nobody"]}, "recipients: .*'nobody'"),
        ({"sender": "x"}, "sender: .*'x'"),
        ({"mails_per_hour": 0}, "mails_per_hour: 0 is not"),
        ({"username": "ann"}, "username: a login needs"),
        ({"tls": "maybe"}, "tls: 'maybe'"),
        ({"tls": "none", "username": "a", "password": "b"}, "tls: a login would be sent"),
    ],
)
def test_mail_that_cannot_work_is_refused(options: dict[str, Any], words: str) -> None:
    values = {"sender": "limits@uwo.ca", "recipients": ["p@uwo.ca"], **options}
    with pytest.raises(ValueError, match=words):
        MailAlerts("relay.uwo.ca", **values)


# Webhook.


def test_a_webhook_gets_the_event_as_json() -> None:
    with HTTPSink() as server:
        webhook = WebhookAlerts(server.url(), token="s3cret")
        webhook(denial(HOSTILE))
        [post] = server.posts
    body = json.loads(post.body)
    assert body["event"] == "FirstDenial"
    assert body["sender"] == r"eve\r\nBcc: x@y.z\x1b[2J\u202e@uwo.ca"
    assert body["text"].startswith("first denial: ")
    assert post.headers["Authorization"] == "Bearer s3cret"
    assert "/hook" not in repr(webhook)


def test_a_webhook_is_tried_again_and_then_given_up() -> None:
    waits: list[float] = []
    with HTTPSink(503, 429) as server:
        WebhookAlerts(server.url(), wait=waits.append)(denial())
        assert len(server.posts) == 3
    assert waits == [1.0, 5.0]
    for codes, attempts in (((500, 500, 500), 3), ((404,), 1), ((302,), 1)):
        with HTTPSink(*codes) as server:
            with pytest.raises(RuntimeError, match="has not taken") as raised:
                WebhookAlerts(server.url("/s3cret"), wait=waits.append)(denial())
            assert "s3cret" not in str(raised.value)
            assert len(server.posts) == attempts


def test_a_webhook_checks_the_certificate(certificates: CertificateFiles) -> None:
    trusting = ssl.create_default_context(cafile=str(certificates.ca))
    with HTTPSink(context=certificates.server_context()) as server:
        WebhookAlerts(server.url(), context=trusting)(denial())
        assert len(server.posts) == 1
        with pytest.raises(RuntimeError, match="has not taken"):
            WebhookAlerts(server.url(), wait=lambda _: None)(denial())
        assert len(server.posts) == 1


def test_a_webhook_that_answers_no_http_is_tried_again() -> None:
    waits: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(3):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"220 s3cret mail.uwo.ca ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        webhook = WebhookAlerts(f"http://127.0.0.1:{server.getsockname()[1]}/", wait=waits.append)
        with pytest.raises(RuntimeError, match="has not taken") as raised:
            webhook(denial())
        thread.join()
    assert "s3cret" not in str(raised.value)
    assert waits == [1.0, 5.0]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://x/",
        "https://",
        "x",
        "http://[/",
        "https://hooks.uwo.ca/s3cret token",
        "https://bot:s3cret@hooks.uwo.ca/",
        "https://hooks.uwo.ca:s3cret/",
        "https://hooks.uwo.ca/s3cret\u00e9",
    ],
)
def test_a_webhook_is_http(url: str) -> None:
    with pytest.raises(ValueError, match="url: it") as raised:
        WebhookAlerts(url)
    assert "s3cret" not in str(raised.value)


# Syslog.


def test_the_system_log_gets_a_line(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        log.settimeout(30)
        alerts = SystemLogAlerts(path)
        alerts(denial(HOSTILE))
        line = log.recv(4096)
        alerts.close()
    assert line.startswith(b"<20>ratelimit-mail[")  # facility mail, level warning
    assert b"first denial: 'eve\\r\\nBcc" in line
    with pytest.raises(FileNotFoundError):
        SystemLogAlerts(str(tmp_path / "missing"))(denial())


# Together.


def test_alerts_are_a_listener_of_a_limiter() -> None:
    seen: list[Event] = []
    alerts = Alerts([seen.append])
    limiter = Limiter(Policy(name="campus", limits=[MessageRateLimit("1/hour")]), on_event=alerts)
    for _ in range(3):
        limiter.try_acquire(envelope_to(1))
    limiter.block("eve@uwo.ca", reason="stolen")
    assert limiter._operations.observers._dispatcher is not None
    assert limiter._operations.observers._dispatcher.flush(30)
    assert alerts.flush(30)
    assert [type(event).__name__ for event in seen] == ["FirstDenial", "Blocked"]
