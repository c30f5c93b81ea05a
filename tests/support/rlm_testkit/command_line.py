"""Run the command `ratelimit-mail` in tests, and read its output."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner, Result

from ratelimit_mail.cli.command import command

__all__ = ["error_line", "replay_json", "run_command", "run_replay", "write_lines"]


APART: Final[Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
"""Before click 8.2, the two outputs are captured as one unless this is said."""


def run_command(*arguments: str, color: bool = False, text: str | bytes | None = None) -> Result:
    """Run the command for a terminal of 80 columns.

    color: whether the output keeps escape codes. text: the standard input.
    """
    runner = CliRunner(env={"COLUMNS": "80"}, **APART)
    return runner.invoke(command, arguments, color=color, input=text)


def run_replay(file: Path, policy: str, *options: str) -> Result:
    """Run `ratelimit-mail replay`."""
    return run_command("replay", str(file), "--policy", policy, *options)


def replay_json(file: Path, policy: str, *options: str) -> dict[str, Any]:
    """Run `ratelimit-mail replay --json`, and return the object that it prints."""
    result = run_replay(file, policy, "--json", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert isinstance(report, dict)
    return report


def error_line(result: Result) -> str:
    """Return the error of a command that failed, its only output, in one line."""
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def write_lines(path: Path, *lines: str) -> Path:
    """Write a text file, and return its path."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
