"""`outbox run` with alerts and metrics, from the policy file and from a file of their own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import error_line, run_command
from rlm_testkit.http_sink import HTTPSink
from rlm_testkit.servers import free_port
from rlm_testkit.smtp_servers import Sink, SMTPServerThread

from ratelimit_mail.cli.outbox import run as run_module

ANN = "ann@leeds.ac.uk"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[SMTPServerThread]:
    with SMTPServerThread(Sink({("RCPT", "gone@example.com"): "550 5.1.1 no such user"})) as server:
        yield server


def put() -> None:
    for recipient in ("bob@example.com", "gone@example.com"):
        text = f"From: {ANN}\nTo: {recipient}\n\nHello\n"
        result = run_command("outbox", "put", "outbox.db", "--policy", "leeds-office365", text=text)
        assert result.exit_code == 0, result.output


def run(server: SMTPServerThread, *options: str) -> Any:
    return run_command(
        *("outbox", "run", "outbox.db", "--policy", "leeds-office365", "--until-empty"),
        *("--store", "sqlite:///counts.db", "--tls", "none"),
        *("--smtp", f"smtp://127.0.0.1:{server.port}", *options),
    )


def test_a_failed_message_is_an_alert_and_a_scrape_shows_the_queue(
    server: SMTPServerThread, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    scrapes: list[str] = []
    begin = run_module._run

    def scraped(*arguments: Any, **options: Any) -> Any:
        result = begin(*arguments, **options)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            scrapes.append(answer.read().decode())
        return result

    monkeypatch.setattr(run_module, "_run", scraped)
    put()
    with HTTPSink() as hook:
        file = folder / "alerts.toml"
        file.write_text(f'[alerts]\nwebhook = "{hook.url()}"\nkinds = ["Failed"]\n')
        result = run(server, "--alerts", str(file), "--metrics", f"127.0.0.1:{port}")
        assert result.exit_code == 1, result.output  # a message failed
        [post] = hook.posts
    assert json.loads(post.body)["event"] == "Failed"
    [text] = scrapes
    queue = "ratelimit_mail_queue_messages"
    assert f'{queue}{{policy="leeds-office365",state="sent"}} 1.0' in text
    assert f'{queue}{{policy="leeds-office365",state="failed"}} 1.0' in text
    assert 'result="accept"' in text
    assert "@" not in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--alerts", "missing.toml"], "missing.toml': cannot be read"),
        (["--metrics", "9117"], "--metrics: '9117' is not a host and a port"),
        (["--metrics", "192.0.2.1:9117"], "cannot be started"),
    ],
)
def test_errors_name_the_option(server: SMTPServerThread, options: list[str], words: str) -> None:
    put()
    assert words in error_line(run(server, *options))
