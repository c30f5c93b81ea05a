"""The command line `ratelimit-mail`: the group of its subcommands."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from ratelimit_mail.cli.check_policy import check_policy_command
from ratelimit_mail.cli.help import CommandGroup
from ratelimit_mail.cli.lists import list_commands
from ratelimit_mail.cli.merge.command import merge_command
from ratelimit_mail.cli.operate.change import block_command, reset_command, unblock_command
from ratelimit_mail.cli.operate.look import blocks_command, top_command, usage_command
from ratelimit_mail.cli.operate.watch import watch_command
from ratelimit_mail.cli.outbox.command import outbox_commands
from ratelimit_mail.cli.plan.command import plan_command
from ratelimit_mail.cli.postfix_release import postfix_release_command
from ratelimit_mail.cli.presets import presets_command
from ratelimit_mail.cli.replay.command import replay_command
from ratelimit_mail.cli.serve.command import serve_command

__all__ = ["command"]


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ratelimit-mail")
def command() -> None:
    """Apply sending limits to mail: plan, replay and send it, answer Postfix, and see the counts.

    `ratelimit-mail COMMAND --help` describes a command and its options.
    """
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not raise an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


command.add_command(block_command)
command.add_command(blocks_command)
command.add_command(check_policy_command)
command.add_command(list_commands)
command.add_command(merge_command)
command.add_command(outbox_commands)
command.add_command(plan_command)
command.add_command(postfix_release_command)
command.add_command(presets_command)
command.add_command(replay_command)
command.add_command(reset_command)
command.add_command(top_command)
command.add_command(unblock_command)
command.add_command(usage_command)
command.add_command(watch_command)
command.add_command(serve_command)
