"""The commands `outbox cancel`, `retry`, `approve` and `reject`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.outbox.options import (
    JSON,
    OUTBOX,
    POLICY,
    STORE,
    message_errors,
    opened_outbox,
    policy_or_none,
)
from ratelimit_mail.cli.outbox.output import as_json, line_of
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.outbox import Notices, OutboxMessage

__all__ = ["approve_command", "cancel_command", "reject_command", "retry_command"]

IDS = click.argument(
    "numbers", metavar="ID...", type=click.IntRange(1, 2**63 - 1), nargs=-1, required=True
)
BY = click.option(
    "--by", metavar="ADDRESS", help="The moderator; default: you, as the administrator."
)


class _Changes(NamedTuple):
    messages: list[OutboxMessage]
    error: CommandError | None


@click.command("cancel")
@OUTBOX
@IDS
@POLICY
@STORE
@JSON
def cancel_command(
    file: Path,
    numbers: tuple[int, ...],
    policy_name: str | None,
    url: str | None,
    wants_json: bool,
) -> None:
    """Cancel each message ID that is queued, held or uncertain.

    With --policy and --store, the place that may be booked for it is free at once; otherwise the
    sender's next message may wait for it.
    """
    with (
        opened_store(url) as backend,
        opened_outbox(file, policy_or_none(policy_name), backend) as outbox,
    ):
        changes = _change(file, numbers, outbox.cancel)
    _print(changes, wants_json=wants_json)


@click.command("retry")
@OUTBOX
@IDS
@JSON
def retry_command(file: Path, numbers: tuple[int, ...], wants_json: bool) -> None:
    """Try each message ID again as soon as possible.

    A message that failed, expired, was cancelled or is uncertain is queued again, for those of its
    recipients that have not got it. A queued one does not wait for its next attempt.
    """
    with opened_outbox(file, policy_or_none(None)) as outbox:
        changes = _change(file, numbers, outbox.retry)
    _print(changes, wants_json=wants_json)


@click.command("approve")
@OUTBOX
@IDS
@BY
@POLICY
@JSON
def approve_command(
    file: Path,
    numbers: tuple[int, ...],
    by: str | None,
    policy_name: str | None,
    wants_json: bool,
) -> None:
    """Approve each message ID that is held. It goes when all its lists have approved it.

    --by needs --policy, whose directory names the moderators.
    """
    _check_moderator(by, policy_name)
    with opened_outbox(file, policy_or_none(policy_name)) as outbox:
        changes = _change(file, numbers, lambda number: outbox.approve(number, by))
    _print(changes, wants_json=wants_json)


@click.command("reject")
@OUTBOX
@IDS
@BY
@click.option("--reason", metavar="TEXT", help="For the sender to read.")
@click.option("--notices-from", metavar="ADDRESS", help="Send the sender a notice from ADDRESS.")
@POLICY
@JSON
def reject_command(
    file: Path,
    numbers: tuple[int, ...],
    by: str | None,
    reason: str | None,
    notices_from: str | None,
    policy_name: str | None,
    wants_json: bool,
) -> None:
    """Reject each message ID that is held: it fails for all of its recipients.

    --by needs --policy, whose directory names the moderators.
    """
    _check_moderator(by, policy_name)
    try:
        notices = None if notices_from is None else Notices(notices_from)
    except ValueError as error:
        raise CommandError(escape(f"--notices-from: {error}")) from None
    with opened_outbox(file, policy_or_none(policy_name), notices=notices) as outbox:
        changes = _change(file, numbers, lambda number: outbox.reject(number, by, reason))
    _print(changes, wants_json=wants_json)


def _check_moderator(by: str | None, policy_name: str | None) -> None:
    if by is not None and policy_name is None:
        raise CommandError("--by needs --policy NAME, whose directory has the moderators")


def _change(file: Path, numbers: Iterable[int], change: Callable[[int], OutboxMessage]) -> _Changes:
    """Change messages one by one; an error leaves those before it changed."""
    changed: list[OutboxMessage] = []
    try:
        with reported_errors(), message_errors(file):
            for number in numbers:
                changed.append(change(number))  # noqa: PERF401 - those before an error count
    except CommandError as error:
        return _Changes(changed, error)
    return _Changes(changed, None)


def _print(changes: _Changes, *, wants_json: bool) -> None:
    """Print the messages that were changed; raise the error after that."""
    if not wants_json:
        for message in changes.messages:
            click.echo(escape(line_of(message)))
    elif changes.messages:
        click.echo(json.dumps([*map(as_json, changes.messages)], indent=2))
    if changes.error is not None:
        raise changes.error
