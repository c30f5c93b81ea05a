"""Alerts and metrics whose settings change while the program runs."""

from __future__ import annotations

import email
import email.policy
import re
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from rlm_testkit.builders import envelope_to
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.servers import free_port
from rlm_testkit.smtp_servers import Sink, SMTPServerThread

from ratelimit_mail import Limiter, Policy
from ratelimit_mail.backends import Backend, MemoryBackend
from ratelimit_mail.monitoring import Monitoring, MonitoringSettings

POLICY = Policy.loads('name = "campus"\n[[limits]]\nkind = "message rate limit"\nrate = "1/hour"\n')


def settings(alerts: str = "", metrics: str = "") -> MonitoringSettings:
    tables = {"alerts": alerts, "metrics": metrics}
    text = "".join(f"[{name}]\n{lines}\n" for name, lines in tables.items() if lines)
    return MonitoringSettings.loads(text)


def mail_by(port: int) -> str:
    return (
        'mail_to = ["postmaster@uwo.ca"]\nmail_from = "limits@uwo.ca"\nmails_per_hour = 1\n'
        f'smtp = "smtp://127.0.0.1:{port}"'
    )


def limiter_of(monitoring: Monitoring, store: Backend) -> Limiter:
    return Limiter(POLICY, store, on_event=monitoring.on_event, metrics=monitoring.metrics)


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def test_scrapes_of_the_same_address_go_on_and_counters_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port, other, registry = free_port(), free_port(), CollectorRegistry()
    store = MemoryBackend()
    here = settings(metrics=f'prometheus = "127.0.0.1:{port}"')
    first = here.start("campus", store, registry=registry)
    limiter_of(first, store).try_acquire(envelope_to(1))
    second = here.start("campus", store, registry=registry, before=first)
    first.close()
    assert "another program" not in caplog.text
    limiter_of(second, store).try_acquire(envelope_to(1, sender="kim@uwo.ca"))
    assert 'result="accept"} 2.0' in scraped(port)

    on_all = settings(metrics=f'prometheus = "0.0.0.0:{port}"')
    third = on_all.start("campus", store, registry=registry, before=second)
    second.close()
    assert 'result="accept"} 2.0' in scraped(port)

    there = settings(metrics=f'prometheus = "127.0.0.1:{other}"')
    fourth = there.start("campus", store, registry=registry, before=third)
    third.close()
    assert 'result="accept"} 2.0' in scraped(other)
    with pytest.raises(urllib.error.URLError):
        scraped(port)
    fourth.close()


def test_what_cannot_be_started_leaves_the_old_settings_at_work() -> None:
    port, registry = free_port(), CollectorRegistry()
    with HTTPSink() as sink:
        first = settings(f'webhook = "{sink.url()}"', f'prometheus = "127.0.0.1:{port}"').start(
            "campus", registry=registry
        )
        for text in (
            settings('webhook_file = "missing"', f'prometheus = "127.0.0.1:{port}"'),
            settings('syslog = "127.0.0.1:514"', f'prometheus = "192.0.2.1:{port}"'),
        ):
            with pytest.raises(OSError, match=r"missing|assign"):
                text.start("campus", registry=registry, before=first)
        limiter = limiter_of(first, MemoryBackend())
        for _ in range(3):
            limiter.try_acquire(envelope_to(1))
        assert 'result="defer"} 2.0' in scraped(port)
        first.close(30)
        assert len(sink.posts) == 1


def test_alerts_that_wait_for_a_digest_go_by_the_new_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratelimit_mail.monitoring.mail.GATHER", 0.0)
    store = MemoryBackend()
    first = settings(mail_by(free_port())).start("campus", store)
    limiter_of(first, store).block("eve@uwo.ca", reason="stolen")
    assert first.on_event is not None
    first.on_event.flush(30)
    assert first.alerts is not None
    first.alerts.flush(30)
    # The old relay is away: this process has the right to the digest of this hour, and tries again.
    mail = first.alerts._mail()
    assert mail is not None
    mail.step()
    sink = Sink()
    with SMTPServerThread(sink) as server:
        second = settings(mail_by(server.port)).start("campus", store, before=first)
        first.close(30)
        limiter_of(first, store).unblock("eve@uwo.ca")  # a message that the old limiter still has
        assert first.on_event.flush(30)
        first.alerts.flush(30)
        second.close(30)
    [message] = sink.arrivals
    parsed = email.message_from_bytes(message.text, policy=email.policy.default)
    sent = parsed.get_content()
    assert "UTC  blocked: 'eve@uwo.ca'" in sent
    waiting = store.read_register("campus:alerts").entries.values()
    assert "unblocked: 'eve@uwo.ca'" in sent + "".join(waiting)


def digests_after(first: Monitoring, name: str, store: Backend | None) -> list[str]:
    """Replace the alerts of `first` by those of another name or store; return what these send."""
    limiter = limiter_of(first, MemoryBackend())
    limiter.block("eve@uwo.ca", reason="stolen")
    assert first.on_event is not None
    assert first.on_event.flush(30)
    assert first.alerts is not None
    first.alerts.flush(30)
    sink = Sink()
    with SMTPServerThread(sink) as server:
        second = settings(mail_by(server.port)).start(name, store, before=first)
        mail = first.alerts._mail()
        first.close(30)
        assert mail is not None
        assert mail.step() is None  # its thread may be about to
        limiter.unblock("eve@uwo.ca")
        assert first.on_event.flush(30)
        first.alerts.flush(30)
        assert second.alerts is not None
        heir = second.alerts._mail()
        assert heir is not None
        waiting = heir._store.read_register(f"{name}:alerts").entries.values()
        second.close(30)
    texts = [
        email.message_from_bytes(each.text, policy=email.policy.default).get_content()
        for each in sink.arrivals
    ]
    return [*texts, *waiting]


@pytest.mark.parametrize("name", ["campus", "university"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_alerts_are_moved_to_another_name_or_store_and_later_ones_go_there(
    name: str, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit_mail.monitoring.mail.GATHER", 0.0)
    store = MemoryBackend() if is_shared else None
    first = settings(mail_by(free_port())).start("campus", store)
    text = "\n".join(digests_after(first, name, store))
    assert re.search(r"\bblocked: 'eve@uwo.ca'", text)
    assert re.search(r"\bunblocked: 'eve@uwo.ca'", text)
