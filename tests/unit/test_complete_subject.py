"""A shell completes the subjects of the operators' commands from the live store."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.cli.bash_completion import BashCompletion
from ratelimit_mail.cli.command import command

POLICY = Policy(
    name="campus",
    limits=[
        MessageRateLimit("10/hour"),
        MessageRateLimit("10/hour", scope=("sender", "recipient_domain")),
    ],
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    file = tmp_path / "campus.toml"
    file.write_text(POLICY.dump())
    backend = SQLiteBackend(tmp_path / "counts.db")
    limiter = Limiter(Policy.load(file), backend)
    for sender, number in (("ann@uwo.ca", 1), ("amy@uwo.ca", 3), ("bob@uwo.ca", 2)):
        for _ in range(number):
            assert limiter.try_acquire(Envelope.from_smtp(sender, ["x@example.com"]))
    limiter.block("amy@uwo.ca", reason="stolen")
    backend.close()
    return ["--store", f"sqlite:///{tmp_path / 'counts.db'}", "--policy", str(file)]


def completions(*arguments: str) -> list[str]:
    *before, incomplete = arguments
    shell = BashComplete(command, {}, "ratelimit-mail", "_RATELIMIT_MAIL_COMPLETE")
    return [each.value for each in shell.get_completions(before, incomplete)]


@pytest.mark.parametrize("name", ["usage", "block", "reset"])
def test_the_heaviest_subjects_come_first(place: list[str], name: str) -> None:
    assert completions(name, *place, "a") == ["amy@uwo.ca", "ann@uwo.ca"]
    assert completions(name, *place, "x") == []


def test_unblock_completes_what_is_blocked(place: list[str]) -> None:
    assert completions("unblock", *place, "") == ["amy@uwo.ca"]


def test_the_second_value_of_a_scope_is_completed_too(place: list[str]) -> None:
    options = [*place, "--scope", "sender+recipient_domain"]
    assert completions("usage", *options, "amy@uwo.ca", "") == ["example.com"]


def test_submitters_are_completed_where_the_policy_counts_per_submitter(tmp_path: Path) -> None:
    policy = Policy(name="relay", limits=[MessageRateLimit("10/hour", scope="submitter")])
    (tmp_path / "relay.toml").write_text(policy.dump())
    limiter = Limiter(policy, SQLiteBackend(tmp_path / "counts.db"))
    assert limiter.try_acquire(Envelope("ann@uwo.ca", ["x@example.com"]))
    options = ["--store", f"sqlite:///{tmp_path / 'counts.db'}"]
    options += ["--policy", str(tmp_path / "relay.toml")]
    assert completions("block", *options, "") == ["sender:ann@uwo.ca"]
    assert completions("block", *options, "--scope", "sender", "") == []
    limiter.block("bob@uwo.ca")
    limiter.block("user:eve", scope="submitter")
    assert set(completions("unblock", *options, "")) == {"bob@uwo.ca", "user:eve"}


def test_an_address_that_a_shell_would_run_is_not_completed(
    place: list[str], tmp_path: Path
) -> None:
    limiter = Limiter(Policy.load(place[3]), SQLiteBackend(tmp_path / "counts.db"))
    for sender in ("$(reboot)@uwo.ca", "`id`@uwo.ca", "*@uwo.ca", "a'b@uwo.ca"):
        assert limiter.try_acquire(Envelope.from_smtp(sender, ["x@example.com"]))
    assert completions("usage", *place, "") == ["amy@uwo.ca", "bob@uwo.ca", "ann@uwo.ca"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--store", "sqlite:////no/such/folder/counts.db", "--policy", "leeds-office365"],
        ["--store", "nonsense", "--policy", "leeds-office365"],
        ["--control", "/no/such/socket"],
    ],
)
def test_nothing_is_completed_where_the_store_cannot_be_asked(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    assert completions("usage", *options, "") == []


AT_A_TAB = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_POINT=${#COMP_LINE}
_ratelimit_mail_completion ratelimit-mail
printf '%s\\n' "${COMPREPLY[@]}"
"""

WORD_BREAKS = " \t\n\"'@><=;|&(:"
"""COMP_WORDBREAKS as it is by default."""


@pytest.fixture
def blocked_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Block a submitter, and return the beginning of a line that completes it."""
    policy = Policy(name="relay", limits=[MessageRateLimit("10/hour", scope="submitter")])
    (tmp_path / "relay.toml").write_text(policy.dump())
    limiter = Limiter(policy, SQLiteBackend(tmp_path / "counts.db"))
    limiter.block("user:eve", scope="submitter")
    monkeypatch.setenv("COMP_BREAKS", WORD_BREAKS)
    store = f"--store sqlite:///{tmp_path}/counts.db"
    return f"ratelimit-mail unblock {store} --policy={tmp_path}/relay.toml "


@pytest.mark.parametrize(
    ("typed", "last_word", "completion"),
    [
        ("", "", "user:eve"),
        ("us", "us", "user:eve"),
        ("user:", ":", "eve"),
        ("user:e", "e", "eve"),
        ('"user:e', '"user:e', "user:eve"),
    ],
)
def test_bash_gets_what_follows_the_last_colon_of_a_word(
    blocked_user: str, typed: str, last_word: str, completion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", blocked_user + typed)
    monkeypatch.setenv("COMP_WORD", last_word)
    shell = BashCompletion(command, {}, "ratelimit-mail", "_RATELIMIT_MAIL_COMPLETE")
    assert shell.complete() == f"plain,{completion}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_bash_completes_a_word_with_a_colon(blocked_user: str, tmp_path: Path) -> None:
    program, source = tmp_path / "ratelimit-mail", tmp_path / "source"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ratelimit_mail.cli "$@"\n')
    program.chmod(0o755)
    shell = BashCompletion(command, {}, "ratelimit-mail", "_RATELIMIT_MAIL_COMPLETE")
    source.write_text(shell.source())
    line = f"{blocked_user}user:e"
    done = subprocess.run(
        ["bash", "--norc", "-c", AT_A_TAB, "bash", source, *re.findall(r"[:=]|[^\s:=]+", line)],
        env=os.environ | {"COMP_LINE": line, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("eve\n", "")
