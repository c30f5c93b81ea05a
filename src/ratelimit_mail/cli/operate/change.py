"""The commands `reset`, `block` and `unblock`: each says who did it and why, in the system log."""

from __future__ import annotations

import json
import sys

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.operate.audit import check_line, record
from ratelimit_mail.cli.operate.options import (
    BY,
    REASON,
    SCOPE,
    SUBJECT,
    StoreLocation,
    opened_live_store,
    store_options,
    subject_of,
)
from ratelimit_mail.cli.operate.output import subject_text
from ratelimit_mail.cli.options import JSON, seconds

__all__ = ["block_command", "reset_command", "unblock_command"]

NOT_BLOCKED = 1
"""The exit code of `unblock` if there was no block."""


@click.command("block")
@SUBJECT
@SCOPE
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the log and the decision.")
@click.option(
    "--for", "length", callback=seconds, metavar="TIME", help="Such as 2h; default: ever."
)
@BY
@store_options
@JSON
def block_command(
    values: tuple[str, ...],
    scope_words: str,
    reason: str,
    length: float | None,
    by: str,
    location: StoreLocation,
    wants_json: bool,
) -> None:
    """Refuse all messages of SUBJECT from its next message on, until --for is over or `unblock`.

    Every process that shares the store knows it within a second. The reason, with your name, is
    stored in the block, and written to the system log.
    """
    subject = subject_of(values, scope_words)
    reason, by = check_line("--reason", reason), check_line("--by", by)
    with opened_live_store(location, must_exist=False) as store:
        block = store.block(subject, length, by, reason)
    record("block", subject.scope, subject.value, by, reason)
    if wants_json:
        click.echo(json.dumps(block, indent=2))
        return
    until = block["until"] or "it is unblocked"
    click.echo(escape(f"{subject_text(subject.value)} is blocked until {until}."))


@click.command("unblock")
@SUBJECT
@SCOPE
@REASON
@BY
@store_options
@JSON
def unblock_command(
    values: tuple[str, ...],
    scope_words: str,
    reason: str,
    by: str,
    location: StoreLocation,
    wants_json: bool,
) -> None:
    """Lift the block of SUBJECT. The exit code is 1 if it was not blocked."""
    subject = subject_of(values, scope_words)
    reason, by = check_line("--reason", reason), check_line("--by", by)
    with opened_live_store(location) as store:
        was_blocked = store.unblock(subject, by, reason)
    if was_blocked:
        record("unblock", subject.scope, subject.value, by, reason)
    if wants_json:
        click.echo(json.dumps({"was_blocked": was_blocked}))
    elif was_blocked:
        click.echo(escape(f"{subject_text(subject.value)} may send again."))
    else:
        click.echo(
            escape(
                f"{subject_text(subject.value)} was not blocked; `ratelimit-mail blocks` lists the"
                " blocks"
            ),
            err=True,
        )
    if not was_blocked:
        sys.exit(NOT_BLOCKED)


@click.command("reset")
@SUBJECT
@SCOPE
@REASON
@BY
@store_options
@JSON
def reset_command(
    values: tuple[str, ...],
    scope_words: str,
    reason: str,
    by: str,
    location: StoreLocation,
    wants_json: bool,
) -> None:
    """Forget everything that was counted for SUBJECT in this scope, bookings included.

    It may send as if it had sent nothing. A block stays in force.
    """
    subject = subject_of(values, scope_words)
    reason, by = check_line("--reason", reason), check_line("--by", by)
    with opened_live_store(location) as store:
        store.reset(subject, by, reason)
    record("reset", subject.scope, subject.value, by, reason)
    if wants_json:
        click.echo(json.dumps({"reset": True}))
    else:
        click.echo(escape(f"The counts of {subject_text(subject.value)} are empty."))
