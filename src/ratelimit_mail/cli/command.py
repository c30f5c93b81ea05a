"""The command line `ratelimit-mail`: the group of its subcommands."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Final

import click

from ratelimit_mail.cli.help import CommandGroup
from ratelimit_mail.cli.lazy_commands import LazyCommands

__all__ = ["command"]


# A command needs few of the modules of the others, and loading all takes longer than most do.
COMMANDS: Final = {
    "block": "ratelimit_mail.cli.operate.change:block_command",
    "blocks": "ratelimit_mail.cli.operate.look:blocks_command",
    "check-policy": "ratelimit_mail.cli.check_policy:check_policy_command",
    "list": "ratelimit_mail.cli.lists:list_commands",
    "merge": "ratelimit_mail.cli.merge.command:merge_command",
    "outbox": "ratelimit_mail.cli.outbox.command:outbox_commands",
    "plan": "ratelimit_mail.cli.plan.command:plan_command",
    "postfix-release": "ratelimit_mail.cli.postfix_release:postfix_release_command",
    "presets": "ratelimit_mail.cli.presets:presets_command",
    "replay": "ratelimit_mail.cli.replay.command:replay_command",
    "reset": "ratelimit_mail.cli.operate.change:reset_command",
    "serve": "ratelimit_mail.cli.serve.command:serve_command",
    "top": "ratelimit_mail.cli.operate.look:top_command",
    "unblock": "ratelimit_mail.cli.operate.change:unblock_command",
    "usage": "ratelimit_mail.cli.operate.look:usage_command",
    "watch": "ratelimit_mail.cli.operate.watch:watch_command",
}


@click.group(
    cls=CommandGroup,
    commands=LazyCommands(COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="ratelimit-mail")
def command() -> None:
    """Apply sending limits to mail: plan, replay and send it, answer Postfix, and see the counts.

    `ratelimit-mail COMMAND --help` describes a command and its options.
    """
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not raise an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
