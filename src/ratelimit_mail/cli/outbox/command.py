"""The group of the commands `outbox …`."""

from __future__ import annotations

from typing import Final

import click

from ratelimit_mail.cli.help import CommandGroup
from ratelimit_mail.cli.lazy_commands import LazyCommands

__all__ = ["outbox_commands"]

COMMANDS: Final = {
    "put": "ratelimit_mail.cli.outbox.put:put_command",
    "run": "ratelimit_mail.cli.outbox.run:run_command",
    "list": "ratelimit_mail.cli.outbox.look:list_command",
    "show": "ratelimit_mail.cli.outbox.look:show_command",
    "stats": "ratelimit_mail.cli.outbox.look:stats_command",
    "cancel": "ratelimit_mail.cli.outbox.change:cancel_command",
    "retry": "ratelimit_mail.cli.outbox.change:retry_command",
    "approve": "ratelimit_mail.cli.outbox.change:approve_command",
    "reject": "ratelimit_mail.cli.outbox.change:reject_command",
}


@click.group("outbox", cls=CommandGroup, commands=LazyCommands(COMMANDS))
def outbox_commands() -> None:
    """Put messages into an outbox, send them when the limits allow it, and manage them.

    OUTBOX is a file on a local disk. Any number of these commands may use it at the same time.
    """
