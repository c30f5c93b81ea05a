"""docs/command.md names every command, and the shell completes the names of policies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from rlm_testkit.command_line import run_command

from ratelimit_mail.cli.command import command
from ratelimit_mail.presets import PRESETS

PAGE = (Path(__file__).parents[2] / "docs/command.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z- ]+)` \| .* \| (yes|) ?\|$", re.MULTILINE)


def commands_in(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from commands_in(each, f"{before}{name} ")
        else:
            yield f"{before}{name}", each


COMMANDS = dict(commands_in(command))


def test_the_page_names_every_command_once_and_says_which_print_json() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) == len(dict(rows))
    takes_json = {
        name: "yes" if any("--json" in option.opts for option in each.params) else ""
        for name, each in COMMANDS.items()
    }
    assert dict(rows) == takes_json


def test_the_page_shows_what_a_mistyped_policy_is_answered_with() -> None:
    [(arguments, answer)] = re.findall(
        r"^\$ ratelimit-mail (plan .+)\n(Error: .+)$", PAGE, re.MULTILINE
    )
    result = run_command(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr == f"{answer}\n"


def completions(*arguments: str) -> list[tuple[str, str]]:
    *before, incomplete = arguments
    shell = BashComplete(command, {}, "ratelimit-mail", "_RATELIMIT_MAIL_COMPLETE")
    return [(each.type, each.value) for each in shell.get_completions(before, incomplete)]


def parameters_of_a_policy() -> Iterator[tuple[str, str]]:
    """Yield the commands and their parameters that take a preset or a policy file."""
    for name, each in COMMANDS.items():
        for parameter in each.params:
            flag = next((opt for opt in parameter.opts if opt in ("--policy", "--compare")), None)
            if flag:
                yield name, flag
            elif isinstance(parameter, click.Argument) and (
                parameter.name == "policy_name" or name == "check-policy"
            ):
                yield name, ""


@pytest.mark.parametrize(("name", "flag"), list(parameters_of_a_policy()))
def test_the_shell_completes_presets_and_files_as_policies(name: str, flag: str) -> None:
    arguments = [*name.split(), *([flag] if flag else [])]
    assert completions(*arguments, "leeds-") == [
        ("file", "leeds-"),
        ("plain", "leeds-office365"),
        ("plain", "leeds-smtp"),
    ]
    assert completions(*arguments, "./camp") == [("file", "./camp")]


def test_the_command_presets_completes_presets_alone() -> None:
    assert completions("presets", "") == [("plain", name) for name in PRESETS]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_of_the_page_makes_the_command_print_a_script_for_the_shell(shell: str) -> None:
    assert f"_RATELIMIT_MAIL_COMPLETE={shell}_source ratelimit-mail" in PAGE
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")
    done = subprocess.run(
        [sys.executable, "-m", "ratelimit_mail"],
        env={**os.environ, "_RATELIMIT_MAIL_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{shell}_complete" in done.stdout
