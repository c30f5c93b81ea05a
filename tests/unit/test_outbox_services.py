"""The unit of systemd and the cron job in docs/outbox.md: they start the command as it is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.outbox.command import outbox_commands

PAGE = (Path(__file__).parents[2] / "docs" / "outbox.md").read_text(encoding="utf-8")
STATE = Path("/var/lib/ratelimit-mail")


def block(language: str, beginning: str) -> str:
    """Return the block of code that begins with a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    [text] = [each for each in blocks if each.startswith(beginning)]
    assert isinstance(text, str)
    return text


UNIT = block("ini", "[Unit]")


def settings() -> dict[str, list[str]]:
    """Return the values of each setting in the unit."""
    values = defaultdict(list)
    for line in UNIT.replace("\\\n", " ").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            values[name].append(value)
    return values


def options_of(words: list[str]) -> dict[str, Any]:
    """Return the options of `ratelimit-mail outbox run`."""
    assert words[:3] == ["/usr/local/bin/ratelimit-mail", "outbox", "run"]
    run = outbox_commands.commands["run"]
    context = run.make_context("run", words[3:])
    return context.params


def test_the_unit_starts_the_command_with_a_password_from_a_credential() -> None:
    unit = settings()
    [start] = unit["ExecStart"]
    assert "%" not in start
    options = options_of(shlex.split(start))
    assert options["file"] == STATE / "outbox.db"
    assert not options["until_empty"]
    [credential] = unit["LoadCredential"]
    name = credential.partition(":")[0]
    assert str(options["password_file"]) == f"${{CREDENTIALS_DIRECTORY}}/{name}"
    [environment] = unit["Environment"]
    assert environment == f"RATELIMIT_MAIL_STORE=sqlite:///{STATE / 'counts.db'}"
    assert unit["StateDirectory"] == [STATE.name]


def test_the_unit_lets_the_message_in_hand_finish_and_does_not_restart_a_wrong_option() -> None:
    unit = settings()
    assert unit["KillSignal"] == ["SIGTERM"]
    timeout = options_of(shlex.split(unit["ExecStart"][0]))["timeout"]
    [minutes] = re.findall(r"^(\d+)min$", unit["TimeoutStopSec"][0])
    # MAIL, RCPT, DATA, the text, and a login before them on a new connection.
    assert int(minutes) * 60 >= 8 * timeout
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "ratelimit-mail-outbox.service"
    # systemd checks that the program exists.
    file.write_text(UNIT.replace("/usr/local/bin/ratelimit-mail", sys.executable))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    output = result.stdout + result.stderr
    assert "ratelimit-mail-outbox.service:" not in output
    assert str(file) not in output


def test_the_cron_job_starts_the_command_once_at_a_time() -> None:
    [mail_to, line] = block("text", "MAILTO").splitlines()
    assert mail_to.startswith("MAILTO=")
    assert "%" not in line
    [*times, user, rest] = line.split(None, 6)
    assert times == ["*/5", "*", "*", "*", "*"]
    assert user == STATE.name
    words = shlex.split(rest)
    assert words[:3] == ["flock", "-n", str(STATE / "cron.lock")]
    options = options_of(words[3:])
    assert options["until_empty"]
    assert options["quiet"]
    assert options["url"] == f"sqlite:///{STATE / 'counts.db'}"


def test_the_commands_on_the_page_can_be_options_of() -> None:
    lines = re.findall(r"^\$ ratelimit-mail (.*)$", PAGE, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        name, subcommand, *words = shlex.split(line.partition(" < ")[0])
        assert command.commands[name] is outbox_commands
        outbox_commands.commands[subcommand].make_context(subcommand, words)


def test_the_page_names_each_command() -> None:
    for name in outbox_commands.commands:
        assert re.search(rf"^\| .*`(\w+`, `)?{name}\b.*\|", PAGE, re.MULTILINE), name
