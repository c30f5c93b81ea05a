"""The tables [alerts] and [metrics] of a policy file."""

from __future__ import annotations

import socket
from pathlib import Path

import attrs
import pytest
from prometheus_client import CollectorRegistry
from rlm_testkit.builders import envelope_to
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.servers import free_port

from ratelimit_mail import Limiter, Policy
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.monitoring import MonitoringSettings

POLICY = """
name = "campus"

[[limits]]
kind = "message rate limit"
rate = "1/hour"

[alerts]
mail_to = ["postmaster@uwo.ca"]
mail_from = "limits@uwo.ca"
smtp = "smtp://ann%40uwo.ca@relay.uwo.ca:587"
password_file = "password"
mails_per_hour = 6
webhook = "https://chat.uwo.ca/s3cret"
syslog = "loghost.uwo.ca:514"
kinds = ["FirstDenial", "Blocked"]
shadow = false

[metrics]
prometheus = "127.0.0.1:9117"
opentelemetry = true
"""


def test_a_policy_file_may_have_both_tables(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text(POLICY)
    assert Policy.load(file) == Policy.loads(POLICY)
    settings = MonitoringSettings.load(file)
    assert settings.alerts is not None
    assert settings.metrics is not None
    assert settings.alerts.mail_to == ["postmaster@uwo.ca"]
    assert settings.metrics.prometheus == "127.0.0.1:9117"
    assert "s3cret" not in repr(settings)


def test_the_tables_are_found_by_the_policy_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RATELIMIT_MAIL_ALERTS", raising=False)
    file, other = tmp_path / "campus.toml", tmp_path / "alerts.toml"
    file.write_text(POLICY)
    other.write_text("[alerts]\nsyslog = true")
    found = MonitoringSettings.find(file)
    assert found == MonitoringSettings.load(file)
    assert MonitoringSettings.find("leeds-office365") == MonitoringSettings()
    assert MonitoringSettings.find(None) == MonitoringSettings()
    assert MonitoringSettings.find("leeds-office365", other).alerts is not None
    monkeypatch.setenv("RATELIMIT_MAIL_ALERTS", str(other))
    assert MonitoringSettings.find(file) == MonitoringSettings.load(other)


def test_without_tables_nothing_is_started() -> None:
    monitoring = MonitoringSettings.loads('name = "campus"').start("campus")
    assert (monitoring.on_event, monitoring.metrics) == (None, None)
    monitoring.close()


def test_what_the_tables_ask_for_is_started(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    with HTTPSink() as server:
        settings = MonitoringSettings.loads(
            f"""
            [alerts]
            webhook = "{server.url()}"
            webhook_token_file = "token"
            [metrics]
            prometheus = "127.0.0.1:9117"
            """,
            folder=tmp_path,
        )
        registry = CollectorRegistry()
        monitoring = settings.start("campus", listens=False, registry=registry)
        limiter = Limiter(
            Policy.loads(POLICY), on_event=monitoring.on_event, metrics=monitoring.metrics
        )
        for _ in range(3):
            limiter.try_acquire(envelope_to(1))
        monitoring.close(30)
        [post] = server.posts
    assert post.headers["Authorization"] == "Bearer s3cret"
    labels = {"policy": "campus", "kind": "FirstDenial", "mode": "enforced"}
    assert registry.get_sample_value("ratelimit_mail_events_total", labels) == 1


def test_listeners_and_recorders_of_both_kinds_of_metrics_are_called() -> None:
    settings = MonitoringSettings.loads(
        '[metrics]\nprometheus = "127.0.0.1:9117"\nopentelemetry = true'
    )
    registry = CollectorRegistry()
    monitoring = settings.start("campus", listens=False, registry=registry)
    monitoring.watch_held("campus", lambda: 2)
    monitoring.watch_queue("campus", lambda: {"queued": 3})
    limiter = Limiter(Policy.loads(POLICY), metrics=monitoring.metrics)
    limiter.acquire(envelope_to(1))
    assert registry.get_sample_value("ratelimit_mail_wait_seconds_count", {"policy": "campus"}) == 1
    assert registry.get_sample_value("ratelimit_mail_held_messages", {"policy": "campus"}) == 2
    monitoring.close()


def test_of_several_programs_with_one_file_the_first_answers_scrapes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    settings = MonitoringSettings.loads(f'[metrics]\nprometheus = "127.0.0.1:{port}"')
    first = settings.start("campus", registry=CollectorRegistry())
    second = settings.start("campus", registry=CollectorRegistry())
    assert "another program answers Prometheus" in caplog.text
    assert second.metrics is not None
    with pytest.raises(OSError, match="in use"):
        attrs.evolve(settings, must_listen=True).start("campus", registry=CollectorRegistry())
    second.close()
    first.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[alerts", "not TOML"),
        ("alerts = 3", "alerts: a table is needed, not int"),
        ("[alerts]", "alerts.mail_to: no channel"),
        ('[alerts]\nmail_too = ["a@b.c"]', "alerts.mail_too: .*'mail_to'"),
        ('[alerts]\nmail_to = "a@b.c"', "alerts.mail_to: a list of addresses"),
        ("[alerts]\nmail_to = [3]", "alerts.mail_to: a list of addresses"),
        ('[alerts]\nmail_to = ["a@b.c"]', "alerts.mail_to: a mail needs"),
        ('[alerts]\nmail_to = ["b"]\nmail_from = "a@b.c"\nsmtp = "smtp://x"', "recipients"),
        ('[alerts]\nmail_to = ["a@b.c"]\nmail_from = "a@b.c"\nsmtp = "x"', "alerts.smtp"),
        (
            '[alerts]\nmail_to = ["a@b.c"]\nmail_from = "a@b.c"\nsmtp = "smtp://a:s3cret@x"',
            "alerts.smtp: .*password_file",
        ),
        ('[alerts]\nwebhook = "ftp://x"', "alerts.webhook: it does not"),
        ('[alerts]\nwebhook = ["https://x/s3cret"]', "alerts.webhook: a string is needed"),
        ('[alerts]\nsmtp = ["smtp://a:s3cret@x"]', "alerts.smtp: a string is needed"),
        ('alerts = "https://x/s3cret"', "alerts: a table is needed"),
        ('[alerts]\nwebhook = "http://x"\nwebhook_file = "x"', "alerts.webhook_file"),
        ('[alerts]\nsyslog = "nowhere"', "alerts.syslog: 'nowhere'"),
        ('[alerts]\nsyslog = true\nkinds = ["All"]', "alerts.kinds: 'All'"),
        ('[alerts]\nsyslog = true\nmails_per_hour = "x"', "alerts.mails_per_hour: a number"),
        ('[metrics]\nprometheus = "9117"', "metrics.prometheus: '9117'"),
        ("[metrics]\nopentelemetry = 1", "metrics.opentelemetry: true or false"),
    ],
)
def test_errors_name_table_and_key(text: str, words: str) -> None:
    with pytest.raises(PolicyFileError, match=words) as raised:
        MonitoringSettings.loads(text)
    assert "s3cret" not in str(raised.value)


def test_errors_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    with pytest.raises(PolicyFileError, match="cannot be read: No such file"):
        MonitoringSettings.load(file)
    file.write_text("[alerts]")
    with pytest.raises(PolicyFileError, match=r"x\.toml: alerts\.mail_to"):
        MonitoringSettings.load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(PolicyFileError, match="not UTF-8"):
        MonitoringSettings.load(file)


def test_events_reach_a_syslog_of_another_host(tmp_path: Path) -> None:

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(30)
        port = log.getsockname()[1]
        settings = MonitoringSettings.loads(f'[alerts]\nsyslog = "127.0.0.1:{port}"')
        monitoring = settings.start("campus")
        limiter = Limiter(Policy.loads(POLICY), on_event=monitoring.on_event)
        limiter.block("eve@uwo.ca", reason="stolen")
        monitoring.close(30)
        assert b"blocked: 'eve@uwo.ca'" in log.recv(4096)
