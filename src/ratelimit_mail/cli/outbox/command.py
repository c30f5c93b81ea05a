"""The group of the commands `outbox …`."""

from __future__ import annotations

import click

from ratelimit_mail.cli.help import CommandGroup
from ratelimit_mail.cli.outbox.change import (
    approve_command,
    cancel_command,
    reject_command,
    retry_command,
)
from ratelimit_mail.cli.outbox.look import list_command, show_command, stats_command
from ratelimit_mail.cli.outbox.put import put_command
from ratelimit_mail.cli.outbox.run import run_command

__all__ = ["outbox_commands"]


@click.group("outbox", cls=CommandGroup)
def outbox_commands() -> None:
    """Put messages into an outbox, send them when the limits allow it, and manage them.

    OUTBOX is a file on a local disk. Any number of these commands may use it at the same time.
    """


outbox_commands.add_command(put_command)
outbox_commands.add_command(run_command)
outbox_commands.add_command(list_command)
outbox_commands.add_command(show_command)
outbox_commands.add_command(stats_command)
outbox_commands.add_command(cancel_command)
outbox_commands.add_command(retry_command)
outbox_commands.add_command(approve_command)
outbox_commands.add_command(reject_command)
