"""Commands that plan or send under a policy with limits on bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from rlm_testkit.command_line import error_line, run_command

from ratelimit_mail import Limiter, Policy
from ratelimit_mail.outbox import Outbox, State

BYTES_POLICY = """
name = "bytes"
[[limits]]
kind = "byte rate limit"
rate = "10 kB/hour"
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "policy.toml"
    file.write_text(BYTES_POLICY)
    return str(file)


def put(path: Path, policy: str, *sizes: int) -> None:
    outbox = Outbox(path, Limiter(Policy.load(policy)))
    for size in sizes:
        message = EmailMessage()
        message["From"], message["To"] = "ann@uwo.ca", "bob@example.com"
        message.set_content(("x" * 70 + "\n") * (size // 71))
        outbox.put(message)
    outbox.close()


def test_an_outbox_is_forecast_by_the_sizes_of_its_messages(tmp_path: Path, policy: str) -> None:
    path = tmp_path / "outbox.db"
    put(path, policy, 6_000, 6_000)
    store = f"sqlite:///{tmp_path}/counts.db"
    options = ("--policy", policy, "--store", store)
    stats = run_command("outbox", "stats", str(path), *options, "--json")
    assert stats.exit_code == 0, stats.stderr
    all_out_at = datetime.fromisoformat(json.loads(stats.stdout)["all_out_at"])
    assert all_out_at - datetime.now(UTC) > timedelta(minutes=30)  # one of two fits at once


def test_an_outbox_sends_under_a_limit_on_bytes(tmp_path: Path, policy: str) -> None:
    path = tmp_path / "outbox.db"
    put(path, policy, 6_000)
    options = ("--policy", policy, "--store", f"sqlite:///{tmp_path}/counts.db")
    maildir = ("--maildir", str(tmp_path / "sent"), "--until-empty")
    result = run_command("outbox", "run", str(path), *options, *maildir)
    assert result.exit_code == 0, result.stderr
    assert len([*(tmp_path / "sent" / "new").iterdir()]) == 1


def test_a_mailing_is_planned_by_the_sizes_of_its_letters(tmp_path: Path, policy: str) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text(
        "From: ann@uwo.ca\nTo: {{ email }}\nSubject: Hello\n\nDear {{ name }}, " + "x" * 6_000
    )
    people = tmp_path / "people.csv"
    people.write_text("name,email\nBob,bob@example.com\nEve,eve@example.com\n")
    outbox = tmp_path / "outbox.db"
    put(outbox, policy, 1_000)
    options = ("--policy", policy, "--outbox", str(outbox), "--dry-run")
    result = run_command("merge", str(people), str(letter), *options)
    assert result.exit_code == 0, result.stderr
    assert "Nothing was put" in result.stdout


def test_a_plan_without_sizes_says_what_to_do(policy: str) -> None:
    line = error_line(run_command("plan", "--policy", policy, "--messages", "3"))
    assert "the policy bytes has limits on bytes" in line
    assert "outbox stats --policy" in line


def test_waiting_messages_are_expected_by_their_sizes(tmp_path: Path, policy: str) -> None:
    path = tmp_path / "outbox.db"
    put(path, policy, 100)
    outbox = Outbox(path, Limiter(Policy.load(policy)))
    [message] = outbox.list(state=State.QUEUED)
    [waiting] = outbox._store.waiting_in(message.sender, 2**52)
    assert (waiting.id, waiting.recipients, waiting.size) == (message.id, 1, message.size)
    assert [waiting.cost(unit) for unit in ("messages", "recipients", "bytes")] == [
        1,
        1,
        message.size,
    ]
    outbox.close()
