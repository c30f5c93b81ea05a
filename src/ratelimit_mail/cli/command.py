"""The command line: one group, and the words that it knows."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from ratelimit_mail.cli.check_policy import check_policy_command
from ratelimit_mail.cli.plan.command import plan_command
from ratelimit_mail.cli.presets import presets_command
from ratelimit_mail.cli.replay.command import replay_command

__all__ = ["command"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ratelimit-mail")
def command() -> None:
    """Sending limits of real institutions, tried on your own mail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a letter that the terminal lacks is no error
            stream.reconfigure(errors="backslashreplace")


command.add_command(check_policy_command)
command.add_command(plan_command)
command.add_command(presets_command)
command.add_command(replay_command)
