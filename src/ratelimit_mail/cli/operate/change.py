"""The commands `reset`, `block` and `unblock`: each says who did it and why, in the system log."""

from __future__ import annotations

import json
import sys

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.operate.alerts import ALERTS
from ratelimit_mail.cli.operate.audit import record
from ratelimit_mail.cli.operate.options import (
    Change,
    StoreLocation,
    change_options,
    opened_live_store,
)
from ratelimit_mail.cli.operate.output import subject_text
from ratelimit_mail.cli.options import seconds

__all__ = ["block_command", "reset_command", "unblock_command"]

NOT_BLOCKED = 1
"""The exit code of `unblock` if there was no block."""


@click.command("block")
@change_options("Why, for the log and the decision.")
@click.option(
    "--for",
    "length",
    callback=seconds,
    metavar="TIME",
    help="How long, such as 2h; default: until `unblock`.",
)
@ALERTS
def block_command(
    change: Change,
    length: float | None,
    location: StoreLocation,
    alerts_file: str | None,
    wants_json: bool,
) -> None:
    """Refuse all messages of SUBJECT, until the time of --for is over or until `unblock`.

    Every process that shares the store obeys it within a second. The reason, with your name, is
    stored in the block, written to the system log, and reported by the table [alerts].
    """
    subject = change.subject
    with opened_live_store(
        location, alerts_file=alerts_file, alerts=True, must_exist=False
    ) as store:
        block = store.block(subject, length, change.by, change.reason)
        # Before the alert, which waits for a mail server.
        _record("block", change)
        if wants_json:
            click.echo(json.dumps(block, indent=2))
        else:
            until = block["until"] or "it is unblocked"
            click.echo(escape(f"{subject_text(subject.value)} is blocked until {until}."))


@click.command("unblock")
@change_options()
@ALERTS
def unblock_command(
    change: Change, location: StoreLocation, alerts_file: str | None, wants_json: bool
) -> None:
    """Lift the block of SUBJECT. The exit code is 1 if it was not blocked.

    The change is written to the system log, and reported by the table [alerts].
    """
    name = subject_text(change.subject.value)
    with opened_live_store(location, alerts_file=alerts_file, alerts=True) as store:
        was_blocked = store.unblock(change.subject, change.by, change.reason)
        if was_blocked:
            _record("unblock", change)
        if wants_json:
            click.echo(json.dumps({"was_blocked": was_blocked}))
        elif was_blocked:
            click.echo(escape(f"{name} may send again."))
        else:
            text = f"{name} was not blocked; `ratelimit-mail blocks` lists the blocks"
            click.echo(escape(text), err=True)
    if not was_blocked:
        sys.exit(NOT_BLOCKED)


@click.command("reset")
@change_options()
def reset_command(change: Change, location: StoreLocation, wants_json: bool) -> None:
    """Forget everything that was counted for SUBJECT in this scope, bookings included.

    SUBJECT may then send as if it had sent nothing. A block stays in force.
    """
    with opened_live_store(location) as store:
        store.reset(change.subject, change.by, change.reason)
    _record("reset", change)
    if wants_json:
        click.echo(json.dumps({"reset": True}))
    else:
        name = subject_text(change.subject.value)
        click.echo(escape(f"The counts of {name} are empty."))


def _record(operation: str, change: Change) -> None:
    """Write a change to the audit trail."""
    record(operation, change.subject.scope, change.subject.value, change.by, change.reason)
