"""Alerts of blocks that an operator makes by a command on a store: one each, from the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rlm_testkit.command_line import run_command
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.servers import free_port
from rlm_testkit.smtp_servers import Sink, SMTPServerThread

from ratelimit_mail import Envelope, Limiter, Policy
from ratelimit_mail._util import system_log
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.monitoring import MonitoringSettings

POLICY = 'name = "campus"\n[[limits]]\nkind = "message rate limit"\nrate = "9/hour"\n'


@pytest.fixture(autouse=True)
def no_system_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_log, "SOCKETS", ())
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    monkeypatch.delenv("RATELIMIT_MAIL_ALERTS", raising=False)


def place(folder: Path, alerts: str) -> list[str]:
    """Write a policy file with alerts; return the options that name it and a store."""
    file = folder / "campus.toml"
    file.write_text(f"{POLICY}\n[alerts]\n{alerts}\n")
    return ["--store", f"sqlite:///{folder}/counts.db", "--policy", str(file), "--by", "dana"]


def mail_by(port: int) -> str:
    return (
        f'mail_to = ["a@uwo.ca"]\nmail_from = "b@uwo.ca"\nsmtp = "smtp://127.0.0.1:{port}"'
        "\nmails_per_hour = 1"
    )


def test_a_block_and_its_end_are_one_alert_each_beside_servers_that_see_them(
    tmp_path: Path,
) -> None:
    with HTTPSink() as sink:
        options = place(tmp_path, f'webhook = "{sink.url()}"')
        servers = []
        for _ in range(2):
            store = SQLiteBackend(tmp_path / "counts.db")
            monitoring = MonitoringSettings.load(options[3]).start("campus", store)
            policy = Policy.load(options[3])
            servers.append((Limiter(policy, store, on_event=monitoring.on_event), monitoring))
        for words in (["block", "eve@uwo.ca"], ["unblock", "EVE@uwo.ca"]):
            result = run_command(*words, "--reason", "ticket 4711", *options)
            assert result.exit_code == 0, result.output
            for limiter, _ in servers:
                limiter.try_acquire(Envelope("eve@uwo.ca", ["bob@example.com"]))
        again = run_command("unblock", "eve@uwo.ca", "--reason", "again", *options)
        assert again.exit_code == 1
        for _, monitoring in servers:
            monitoring.close(30)
    fields = [json.loads(each.body) for each in sink.posts]
    assert [each["event"] for each in fields] == ["Blocked", "Unblocked"]
    assert fields[0]["reason"] == "ticket 4711 (by dana)"


def test_a_mail_that_the_relay_does_not_take_goes_with_the_next_process_at_once(
    tmp_path: Path,
) -> None:
    options = place(tmp_path, mail_by(free_port()))
    result = run_command("block", "eve@uwo.ca", "--reason", "stolen", *options)
    assert result.exit_code == 0, result.output
    assert "is blocked until" in result.stdout
    sink = Sink()
    with SMTPServerThread(sink) as server:
        place(tmp_path, mail_by(server.port))
        store = SQLiteBackend(tmp_path / "counts.db")
        MonitoringSettings.load(options[3]).start("campus", store).close(30)
    [message] = sink.arrivals
    assert b"blocked: 'eve@uwo.ca'" in message.text


def test_the_file_of_the_alerts_may_be_named_and_a_mistake_in_it_does_not_stop_a_block(
    tmp_path: Path,
) -> None:
    alerts = tmp_path / "alerts.toml"
    with HTTPSink() as sink:
        alerts.write_text(f'[alerts]\nwebhook = "{sink.url()}"\n')
        options = place(tmp_path, "mail_to = 3")
        for words in ([], ["--alerts", str(alerts)]):
            result = run_command("block", "eve@uwo.ca", "--reason", "stolen", *options, *words)
            assert result.exit_code == 0, result.output
            warned = "Warning: there is no alert" in result.stderr
            assert warned == (not words)
        assert len(sink.posts) == 1
    [block] = Limiter(Policy.loads(POLICY), SQLiteBackend(tmp_path / "counts.db")).blocks()
    assert block.subject == "eve@uwo.ca"
