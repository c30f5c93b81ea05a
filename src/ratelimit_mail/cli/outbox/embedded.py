"""The commands `outbox …` as commands of a program that has an outbox, a policy and a store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from ratelimit_mail.backends import Backend
from ratelimit_mail.cli.outbox.change import (
    approve_command,
    cancel_command,
    reject_command,
    retry_command,
)
from ratelimit_mail.cli.outbox.look import list_command, show_command, stats_command
from ratelimit_mail.cli.outbox.run import TRANSPORT_OPTIONS, run_command, send_queued
from ratelimit_mail.outbox import Transport
from ratelimit_mail.policy import Policy

__all__ = ["embedded_commands"]

COMMANDS = (
    list_command,
    show_command,
    stats_command,
    cancel_command,
    retry_command,
    approve_command,
    reject_command,
)


def embedded_commands(
    file: Path,
    policy: Policy,
    store: Backend,
    transport: Transport,
    *,
    policy_name: str | None = None,
) -> click.Group:
    """Return the group of the commands, without the arguments that the program knows.

    transport: how `run` sends. policy_name: the preset, or the policy file, in which `run` finds
    the tables `[alerts]` and `[metrics]`.
    """
    values: dict[str, Any] = {"file": file, "policy_name": policy, "url": store}
    group = click.Group(
        "outbox",
        help="Send the messages in the outbox, and manage them.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    run = partial(send_queued, file, policy, store, transport, policy_name=policy_name)
    group.add_command(_run_command(run))
    for command in COMMANDS:
        group.add_command(_with_values(command, values))
    return group


def _with_values(command: click.Command, values: dict[str, Any]) -> click.Command:
    names = {each.name for each in command.params}
    callback = command.callback
    assert callback is not None  # noqa: S101 - of a decorated function
    return click.Command(
        command.name,
        params=[each for each in command.params if each.name not in values],
        callback=partial(
            callback, **{name: value for name, value in values.items() if name in names}
        ),
        help=command.help,
    )


def _run_command(callback: Callable[..., None]) -> click.Command:
    known = {"file", "policy_name", "url", *TRANSPORT_OPTIONS}
    return click.Command(
        "run",
        params=[each for each in run_command.params if each.name not in known],
        callback=callback,
        help="Send what is queued when the limits allow it, until SIGTERM or Ctrl-C.\n\n"
        "Either finishes the message in hand first; a second one does not wait for it.",
    )
