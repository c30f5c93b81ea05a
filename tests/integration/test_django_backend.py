"""Django's backend against a real SMTP server: never above the limit, charged what arrived."""

from __future__ import annotations

import pickle
import smtplib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.builders import campus_policy, limiter_with_clock
from rlm_testkit.load import fullest_window
from rlm_testkit.servers import wait_until
from rlm_testkit.simulated_time import SimulatedTime

from ratelimit_mail import (
    ByteRateLimit,
    Client,
    Envelope,
    Limiter,
    MessageRateLimit,
    MessageSizeLimit,
    Policy,
    RateLimitExceeded,
    RecipientLimit,
    RecipientRateLimit,
    Tier,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.conditions import protocol
from ratelimit_mail.exceptions import BackendUnavailable

pytest.importorskip("django")
pytest.importorskip("rlm_testkit.django_project.ready")
pytest.importorskip("aiosmtpd")

from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SMTPEmailBackend
from django.test import override_settings
from rlm_testkit.django_project import BACKEND, HAS_MAILERS, mail_settings, mailer
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.smtp_servers import CLOSE, HANG, Sink, SMTPServerThread
from rlm_testkit.submission import ANN, BOB, EVE, NOT_SENT, new_sink, server_of_sink

from ratelimit_mail.adapters.django import (
    EmailBackend,
    EmailRateLimitExceeded,
    get_limiter,
    get_outbox,
)

ALERTED_POLICY = """
name = "campus"
[[limits]]
kind = "message rate limit"
rate = "1/hour"
[alerts]
webhook = "{url}"
[metrics]
prometheus = "127.0.0.1:9"
"""

KIM = "kim@uwo.ca"


sink = pytest.fixture(new_sink)
server = pytest.fixture(server_of_sink)


def limiter_of(*limits: Any) -> Limiter:
    return limiter_with_clock(campus_policy(*limits))[0]


def used(limiter: Limiter, sender: str = ANN) -> list[int]:
    return [usage.used for usage in limiter.usage(sender)]


def send(*to: str, sender: str = f"Ann <{ANN}>") -> int:
    return mail.send_mail("Hello", "Hello", sender, [*to] or [BOB])


def backend() -> Any:
    """Return a backend as Django makes it."""
    return mail.mailers.default if HAS_MAILERS else mail.get_connection()


# The envelope.


def test_the_envelope_of_a_message_is_charged(server: SMTPServerThread, sink: Sink) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    message = mail.EmailMessage(
        "Hello", "Hello", f"Ann <{ANN}>", [f"Bob <{BOB}>"], cc=[EVE], bcc=["zoe@example.org", BOB]
    )
    with mailer({"LIMITER": limiter}, server.port):
        assert message.send() == 1
    assert used(limiter) == [1, 3]
    assert {*sink.arrivals[0].recipients} == {BOB, EVE, "zoe@example.org"}
    assert b"zoe" not in sink.arrivals[0].text


def test_limits_on_bytes_count_the_size_of_a_message(server: SMTPServerThread) -> None:
    limiter = limiter_of(MessageSizeLimit("5 kB"), ByteRateLimit("7 kB/hour"))
    message = mail.EmailMessage("Hello", "x" * 3_000, ANN, [BOB])
    with mailer({"LIMITER": limiter, "ON_EXCESS": "raise"}, server.port):
        assert message.send() == 1
        assert 3_000 < used(limiter)[0] < 4_000
        message.body = "x" * 3_900
        with pytest.raises(EmailRateLimitExceeded):
            message.send()
        message.body = "x" * 5_000
        with pytest.raises(EmailRateLimitExceeded) as caught:
            message.send()
    assert caught.value.smtp_code == 552


def test_a_message_without_recipients_is_not_sent_and_not_charged(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with mailer({"LIMITER": limiter}, server.port):
        assert backend().send_messages([mail.EmailMessage("Hello", "Hello", ANN)]) == 0
        assert backend().send_messages([]) == 0
    assert sink.arrivals == []
    assert used(limiter) == [0]


def test_the_client_chooses_the_tier(server: SMTPServerThread) -> None:
    webmail = Tier("webmail", when=protocol("webmail"), limits=[MessageRateLimit("1/day")])
    policy = Policy(name="t", tiers=[webmail, Tier("all", limits=[MessageRateLimit("9/day")])])
    values = {"LIMITER": Limiter(policy), "CLIENT": Client(protocol="webmail")}
    with mailer({**values, "ON_EXCESS": "raise"}, server.port):
        send()
        with pytest.raises(EmailRateLimitExceeded) as caught:
            send()
    assert caught.value.decision.tier == "webmail"


# On excess.


def test_a_message_over_the_limit_raises_what_users_of_djangos_backend_catch(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("2/minute"))
    with mailer({"LIMITER": limiter, "ON_EXCESS": "raise"}, server.port):
        with pytest.raises(smtplib.SMTPException) as caught:
            mail.send_mass_mail([("Hello", "Hello", ANN, [BOB])] * 4)
        send(sender=KIM)
    error = caught.value
    assert isinstance(error, EmailRateLimitExceeded)
    assert isinstance(error, RateLimitExceeded)
    assert (error.smtp_code, error.sender, error.sent) == (450, ANN, 2)
    assert error.decision.retry_after == 60
    assert len(sink.arrivals) == 3
    assert used(limiter) == [2]
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.decision, copy.sender, copy.sent) == (error.decision, ANN, 2)


def test_the_alerts_and_metrics_of_the_policy_file_are_started(
    server: SMTPServerThread, tmp_path: Path
) -> None:
    prometheus_client = pytest.importorskip("prometheus_client")

    def denials() -> float:
        labels = {"policy": "campus", "kind": "FirstDenial", "mode": "enforced"}
        name = "ratelimit_mail_events_total"
        return float(prometheus_client.REGISTRY.get_sample_value(name, labels) or 0)

    file = tmp_path / "campus.toml"
    before = denials()
    with HTTPSink() as chat:
        file.write_text(ALERTED_POLICY.format(url=chat.url()))
        with mailer({"POLICY": file, "ON_EXCESS": "raise"}, server.port):
            send(BOB)
            with pytest.raises(EmailRateLimitExceeded):
                send(BOB)
            wait_until(lambda: chat.posts)
        [post] = chat.posts
    assert b"campus" in post.body
    wait_until(lambda: denials() == before + 1)


def test_alerts_that_cannot_be_used_are_improperly_configured(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text(ALERTED_POLICY.format(url="https://x.example") + "[alerts.x]\ny = 1\n")
    with mailer({"POLICY": file}), pytest.raises(ImproperlyConfigured, match=r"alerts\.x"):
        send(BOB)


def test_a_message_over_the_limit_waits(server: SMTPServerThread, sink: Sink) -> None:
    limiter, clock = limiter_with_clock(campus_policy(MessageRateLimit("1/minute")))
    start = clock()
    with mailer({"LIMITER": limiter}, server.port):
        assert mail.send_mass_mail([("Hello", "Hello", ANN, [BOB])] * 3) == 3
    assert clock() - start == 120_000
    assert len(sink.arrivals) == 3


def test_a_wait_above_the_timeout_raises_at_once(server: SMTPServerThread) -> None:
    limiter, clock = limiter_with_clock(campus_policy(MessageRateLimit("1/minute")))
    start = clock()
    with mailer({"LIMITER": limiter, "TIMEOUT": 59}, server.port):
        send()
        with pytest.raises(EmailRateLimitExceeded):
            send()
    assert clock() == start


def test_a_message_that_can_never_go_is_refused_however_it_is_configured(
    server: SMTPServerThread, sink: Sink, tmp_path: Path
) -> None:
    limiter = limiter_of(RecipientLimit(1))
    for each in ("wait", "raise", "outbox"):
        values = {"LIMITER": limiter, "ON_EXCESS": each, "OUTBOX": tmp_path / "outbox.db"}
        with mailer(values, server.port), pytest.raises(EmailRateLimitExceeded) as caught:
            send(BOB, EVE)
        assert caught.value.smtp_code == 550
    assert sink.arrivals == []


def test_fail_silently_leaves_out_what_cannot_be_sent(server: SMTPServerThread, sink: Sink) -> None:
    sink.replies["MAIL", KIM] = "550 5.7.1 no"
    limiter = limiter_of(MessageRateLimit("2/minute"))
    messages = [mail.EmailMessage("Hi", "Hello", each, [BOB]) for each in (ANN, KIM, ANN, ANN)]
    inner = {"host": "127.0.0.1", "port": server.port}
    values = {"LIMITER": limiter, "ON_EXCESS": "raise"}
    settings = mail_settings(values, **inner)
    if HAS_MAILERS:
        settings["MAILERS"]["default"]["OPTIONS"]["fail_silently"] = True
    with override_settings(**settings):
        silent = backend() if HAS_MAILERS else mail.get_connection(fail_silently=True)
        assert silent.send_messages(messages) == 2
    assert len(sink.arrivals) == 2
    assert (used(limiter), used(limiter, KIM)) == ([2], [0])


def test_fail_silently_hides_a_server_that_is_away() -> None:
    limiter = limiter_of(MessageRateLimit("2/minute"))
    inner = {"host": "127.0.0.1", "port": 1}
    if HAS_MAILERS:
        inner["fail_silently"] = True
    with override_settings(**mail_settings({"LIMITER": limiter}, **inner)):
        silent = backend() if HAS_MAILERS else mail.get_connection(fail_silently=True)
        assert silent.open() is None
        assert silent.send_messages([mail.EmailMessage("Hi", "Hello", ANN, [BOB])]) == 0
    assert used(limiter) == [0]


# The outbox.


def test_the_excess_goes_into_the_outbox_in_the_order_of_its_sender(
    server: SMTPServerThread, sink: Sink, tmp_path: Path
) -> None:
    limiter, clock = limiter_with_clock(campus_policy(RecipientRateLimit("3/minute")))
    values = {"LIMITER": limiter, "ON_EXCESS": "outbox", "OUTBOX": tmp_path / "outbox.db"}
    with mailer(values, server.port):
        assert send(BOB, EVE) == 1
        assert send(BOB, EVE) == 1  # does not fit
        assert send(BOB) == 1  # would fit, but must not overtake
        assert send(sender=KIM) == 1
        waiting = get_outbox().list()
        assert [len(each.recipients) for each in waiting] == [2, 1]
        assert b"Subject: Hello" in get_outbox().text(1)
        assert used(limiter) == [2]
        clock.advance(60)
        assert send(BOB) == 1
        assert len(get_outbox().list()) == 3
        get_outbox().close()
    assert [each.sender for each in sink.arrivals] == [ANN, KIM]


def test_a_message_that_the_provider_calls_too_fast_goes_into_the_outbox(
    server: SMTPServerThread, sink: Sink, tmp_path: Path
) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    values = {"LIMITER": limiter, "ON_EXCESS": "outbox", "OUTBOX": tmp_path / "outbox.db"}
    with mailer(values, server.port):
        assert send() == send() == 1
        assert len(get_outbox().list(state="queued")) == 2
        get_outbox().close()
    assert sink.arrivals == []
    assert used(limiter) == [0]


# What was sent.


@pytest.mark.parametrize("name", NOT_SENT)
def test_a_message_that_nobody_got_is_refunded(
    name: str, server: SMTPServerThread, sink: Sink
) -> None:
    when, reply = NOT_SENT[name]
    sink.replies[when] = reply
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    timeout = 0.2 if reply == HANG else 20
    with mailer({"LIMITER": limiter}, server.port, timeout=timeout):
        with pytest.raises(smtplib.SMTPException) as caught:
            send(BOB, EVE)
        assert not isinstance(caught.value, RateLimitExceeded)
        assert used(limiter) == [0, 0]
        assert sink.arrivals == []


@pytest.mark.parametrize("reply", [HANG, CLOSE])
def test_a_message_whose_text_is_not_answered_stays_charged(
    reply: str, server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["TEXT", ANN] = reply
    limiter = limiter_of(RecipientRateLimit("9/minute"))
    timeout = 0.3 if reply == HANG else 20
    with mailer({"LIMITER": limiter}, server.port, timeout=timeout):
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(BOB, EVE)
        assert used(limiter) == [2]


def test_a_refused_recipient_is_not_charged(server: SMTPServerThread, sink: Sink) -> None:
    sink.replies["RCPT", EVE] = "550 5.1.1 no such user"
    limiter = limiter_of(MessageRateLimit("9/minute"), RecipientRateLimit("9/minute"))
    with mailer({"LIMITER": limiter}, server.port):
        assert send(BOB, f"Eve <{EVE}>") == 1
        assert used(limiter) == [1, 1]
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(EVE)
    assert used(limiter) == [1, 1]


@pytest.mark.parametrize(
    "address", ["bob@example.com\nRCPT TO:<eve@example.net>", "bob@example.com, eve@example.net"]
)
def test_an_address_that_django_refuses_is_not_charged(
    address: str, server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with (
        mailer({"LIMITER": limiter}, server.port),
        pytest.raises(ValueError, match=r"address|Head"),
    ):
        send(address)
    assert used(limiter) == [0]
    assert sink.arrivals == []


def test_a_sender_counts_for_its_international_domain(server: SMTPServerThread) -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with mailer({"LIMITER": limiter}, server.port):
        send(sender="Ann <ann@bücher.example>")
    assert used(limiter, "ann@xn--bcher-kva.example") == [1]


def test_a_server_that_cannot_be_reached_is_djangos_error_and_not_charged() -> None:
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with mailer({"LIMITER": limiter}, 1), pytest.raises(ConnectionRefusedError):
        send()
    assert used(limiter) == [0]


def test_a_server_that_says_too_fast_blocks_the_sender(
    server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    with mailer({"LIMITER": limiter, "ON_EXCESS": "raise", "PUSHBACK": 90}, server.port):
        with pytest.raises(smtplib.SMTPDataError):
            send()
        with pytest.raises(EmailRateLimitExceeded) as caught:
            send()
    assert caught.value.decision.retry_after == 90


def test_pushback_none_blocks_nobody(server: SMTPServerThread, sink: Sink) -> None:
    sink.replies["TEXT", ANN] = "432 4.3.2 Concurrent connections limit exceeded"
    limiter = limiter_of(MessageRateLimit("9/minute"))
    values = {"LIMITER": limiter, "PUSHBACK": None}
    with mailer(values, server.port), pytest.raises(smtplib.SMTPDataError):
        send()
    assert limiter.blocks() == ()


def test_a_worker_that_is_stopped_while_it_sends_is_charged_when_the_message_arrived() -> None:
    limiter, clock = limiter_with_clock(campus_policy(MessageRateLimit("1/minute")))

    async def stop(_: object) -> None:
        if not arrivals:
            clock.advance(55)

    sink = Sink(clock=clock, delay=stop)
    arrivals = sink.arrivals
    with SMTPServerThread(sink) as server, mailer({"LIMITER": limiter}, server.port):
        send()
        clock.advance(10)  # 65 seconds after its admission, and 10 after its end
        send()
    first, second = (each.moment for each in arrivals)
    assert second - first == 60_000


# The connection.


class Counted(SMTPEmailBackend):
    """Counts its connections."""

    opened = 0

    def open(self) -> bool | None:
        is_new = super().open()
        Counted.opened += bool(is_new)
        return is_new


@pytest.fixture
def counted() -> dict[str, str]:
    Counted.opened = 0
    return {"BACKEND": f"{__name__}.Counted"}


def test_a_batch_has_one_connection(
    server: SMTPServerThread, sink: Sink, counted: dict[str, str]
) -> None:
    limiter = limiter_of(MessageRateLimit("99/minute"))
    with mailer({"LIMITER": limiter, **counted}, server.port):
        mail.send_mass_mail([("Hello", "Hello", ANN, [BOB])] * 20)
        assert Counted.opened == 1
        with backend() as connection:
            for _ in range(3):
                connection.send_messages([mail.EmailMessage("Hi", "Hello", ANN, [BOB])])
    assert Counted.opened == 2
    assert len(sink.arrivals) == 23


def test_a_connection_that_the_server_has_closed_meanwhile_is_opened_again(
    server: SMTPServerThread, sink: Sink, counted: dict[str, str]
) -> None:
    limiter = limiter_of(MessageRateLimit("99/minute"))
    with mailer({"LIMITER": limiter, **counted}, server.port), backend() as connection:
        connection.send_messages([mail.EmailMessage("Hi", "Hello", ANN, [BOB])])
        sink.replies["MAIL", ANN] = "421 4.4.2 idle"
        with pytest.raises(smtplib.SMTPException):
            connection.send_messages([mail.EmailMessage("Hi", "Hello", ANN, [BOB])])
        assert Counted.opened == 2  # it was tried once more
        sink.replies.clear()
        connection.send_messages([mail.EmailMessage("Hi", "Hello", ANN, [BOB])])
    assert Counted.opened == 3
    assert (len(sink.arrivals), used(limiter)) == (2, [2])


def test_a_failed_message_leaves_the_connection_usable(
    server: SMTPServerThread, sink: Sink
) -> None:
    sink.replies["TEXT", KIM] = CLOSE
    limiter = limiter_of(MessageRateLimit("99/minute"))
    with mailer({"LIMITER": limiter}, server.port), backend() as connection:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            connection.send_messages([mail.EmailMessage("Hi", "Hello", KIM, [BOB])])
        connection.send_messages([mail.EmailMessage("Hi", "Hello", ANN, [BOB])])
    assert [each.sender for each in sink.arrivals] == [ANN]
    assert used(limiter, KIM) == [1]  # the server may have it


# Other backends.


class SendsNothing(BaseEmailBackend):
    """Returns that it sent nothing."""

    def send_messages(self, email_messages: Any) -> int:
        return 0


class Fails(BaseEmailBackend):
    """Raises an error that proves nothing."""

    def send_messages(self, email_messages: Any) -> int:
        raise RuntimeError("the API answered 500")


@pytest.mark.parametrize("kind", ["locmem", "console", "dummy", "filebased"])
def test_any_backend_can_be_wrapped(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "outbox", [], raising=False)
    limiter = limiter_of(MessageRateLimit("2/minute"))
    inner = {"file_path": str(tmp_path)} if kind == "filebased" else {}
    path = f"django.core.mail.backends.{kind}.EmailBackend"
    values = {"LIMITER": limiter, "BACKEND": path, "ON_EXCESS": "raise", "OPTIONS": inner}
    with override_settings(**mail_settings(values)):
        assert mail.send_mass_mail([("Hello", "Hello", ANN, [BOB])] * 2) == 2
        with pytest.raises(EmailRateLimitExceeded):
            send()
    assert used(limiter) == [2]


def test_a_backend_that_returns_0_has_sent_nothing() -> None:
    limiter = limiter_of(MessageRateLimit("2/minute"))
    values = {"LIMITER": limiter, "BACKEND": f"{__name__}.SendsNothing"}
    with override_settings(**mail_settings(values)):
        assert send() == 0
    assert used(limiter) == [0]


def test_an_error_that_proves_nothing_leaves_the_message_charged() -> None:
    limiter = limiter_of(MessageRateLimit("2/minute"))
    values = {"LIMITER": limiter, "BACKEND": f"{__name__}.Fails"}
    with override_settings(**mail_settings(values)), pytest.raises(RuntimeError):
        send()
    assert used(limiter) == [1]


# The one limiter.


def test_all_threads_and_connections_share_one_limiter(server: SMTPServerThread) -> None:
    values = {"POLICY": campus_policy(MessageRateLimit("50/hour")), "ON_EXCESS": "raise"}
    with mailer(values, server.port):
        barrier, limiters = threading.Barrier(8), []

        def look(_: int) -> None:
            barrier.wait()
            limiters.append(backend().limiter)

        with ThreadPoolExecutor(8) as threads:
            [*threads.map(look, range(8))]
        assert len({id(each) for each in limiters}) == 1
        assert limiters[0] is get_limiter()


def test_the_same_policy_and_store_are_one_limiter_and_other_ones_another(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/counts.db"
    file = tmp_path / "policy.toml"
    file.write_text(campus_policy(MessageRateLimit("1/minute")).dump())
    with mailer({"POLICY": "gmail", "STORE": url}):
        first = get_limiter()
    with mailer({"POLICY": "gmail", "STORE": url, "ON_EXCESS": "raise"}):
        assert get_limiter() is first
    with mailer({"POLICY": str(file), "STORE": url}):
        second = get_limiter()
    with mailer({"POLICY": file, "STORE": url}):
        assert get_limiter() is second
    assert second is not first
    stores: list[Any] = [first._backend, second._backend]
    assert stores[0]._backend is stores[1]._backend
    assert second.try_acquire(Envelope(ANN, [BOB]))
    stores[0]._backend.close()


@pytest.mark.skipif(not HAS_MAILERS, reason="before Django 6.1")
def test_each_mailer_has_its_own_limits_and_shares_those_of_the_setting(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter, news = limiter_of(MessageRateLimit("9/day")), limiter_of(MessageRateLimit("1/day"))
    inner = {"host": "127.0.0.1", "port": server.port}
    mailers = {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"LIMITER": limiter, **inner}},
        "news": {"BACKEND": BACKEND, "OPTIONS": {"LIMITER": news, **inner}},
        "plain": {"OPTIONS": inner},
    }
    with override_settings(MAILERS=mailers, RATELIMIT_MAIL={"ON_EXCESS": "raise"}):
        message = mail.EmailMessage("Hello", "Hello", ANN, [BOB])
        message.send(using="news")
        with pytest.raises(EmailRateLimitExceeded):
            message.send(using="news")
        message.send(using="plain")
        message.send()
        assert get_limiter("news") is news
        assert get_limiter() is limiter
        with pytest.raises(ImproperlyConfigured, match="no mailer 'plain' has limits"):
            get_limiter("plain")
    assert len(sink.arrivals) == 3
    assert (used(limiter), used(news)) == ([1], [1])


@pytest.mark.skipif(not HAS_MAILERS, reason="before Django 6.1")
def test_an_error_in_the_options_names_the_mailer() -> None:
    for options, text in (
        ({"POLICY": "gmail", "STOER": 1}, r"MAILERS\['default'\]: 'STOER' is not one of the keys"),
        ({"POLICY": "gmail", "host": "x", "hots": "y"}, r"Unknown options 'hots'"),
        ({"POLICY": "gmail"}, r"OPTIONS must define 'host'"),
    ):
        with (
            override_settings(MAILERS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}),
            pytest.raises(mail.InvalidMailer, match=text),
        ):
            send()


def test_a_backend_that_wraps_itself_is_an_error() -> None:
    for each in (BACKEND, "ratelimit_mail.adapters.django.backend.EmailBackend"):
        with (
            mailer({"POLICY": "gmail", "BACKEND": each}),
            pytest.raises(ImproperlyConfigured, match="BACKEND is this backend itself"),
        ):
            send()


def test_a_store_whose_url_is_wrong_is_an_error_without_its_password() -> None:
    values = {"POLICY": "gmail", "STORE": "redis://:hunter2@localhost:port/0"}
    with mailer(values), pytest.raises(ImproperlyConfigured) as caught:
        send()
    assert "hunter2" not in str(caught.value)


def test_no_password_is_in_a_repr() -> None:
    values = {"POLICY": "gmail", "STORE": "redis://:hunter2@localhost/0"}
    with mailer(values, username="ann", password="hunter3"):
        shown = f"{backend()!r} {backend()._options!r} {backend()._inner!r}"
    assert "hunter" not in shown
    assert "gmail" in shown


def test_an_outage_of_the_store_raises_before_anything_is_sent(
    server: SMTPServerThread, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = limiter_of(MessageRateLimit("1/minute"))

    def unavailable(*_: object) -> None:
        raise BackendUnavailable("no connection")

    monkeypatch.setattr(limiter._operations, "reserve_steps", unavailable)
    with mailer({"LIMITER": limiter}, server.port), pytest.raises(BackendUnavailable):
        send()
    assert sink.arrivals == []


# Many at once.


def test_a_hundred_concurrent_sendings_stay_within_the_limit_at_the_server() -> None:
    time = SimulatedTime(100)
    slow = iter(range(10**6))

    async def delay(_: object) -> None:
        await time.async_sleep((next(slow) * 7 % 10) / 2)  # 0 to 4.5 seconds

    sink = Sink({("RCPT", EVE): "550 5.1.1 no such user"}, clock=time, delay=delay)
    limits = (
        MessageRateLimit("10/15 seconds", scope="global"),
        RecipientRateLimit("1000/day", scope="global"),
    )
    limiter = Limiter(campus_policy(*limits), MemoryBackend(time), sleep=time.sleep)

    def send_one(number: int) -> None:
        try:
            send(BOB, EVE, sender=f"user{number}@example.org")
        finally:
            time.finish()

    with (
        SMTPServerThread(sink) as server,
        mailer({"LIMITER": limiter}, server.port, timeout=100),
        ThreadPoolExecutor(100) as threads,
    ):
        for each in [threads.submit(send_one, number) for number in range(100)]:
            each.result()
    assert len(sink.arrivals) == 100
    assert fullest_window(15_000, [each.moment for each in sink.arrivals]) <= 10
    assert [each.used for each in limiter.usage(scope="global")][1] == 100


def test_a_batch_of_one_backend_is_sent_by_one_thread_at_a_time(
    server: SMTPServerThread, sink: Sink
) -> None:
    limiter = limiter_of(MessageRateLimit("999/minute"))
    with mailer({"LIMITER": limiter}, server.port):
        shared = backend()
        assert isinstance(shared, EmailBackend)

        def send_five(_: int) -> int:
            messages = [mail.EmailMessage("Hi", "Hello", ANN, [BOB]) for _ in range(5)]
            return shared.send_messages(messages)

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(send_five, range(8))) == 40
    assert len(sink.arrivals) == 40
    assert used(limiter) == [40]
