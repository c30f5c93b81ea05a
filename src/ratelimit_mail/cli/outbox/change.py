"""The commands `outbox cancel`, `retry`, `approve` and `reject`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.options import JSON, STORE
from ratelimit_mail.cli.outbox.options import (
    OUTBOX,
    POLICY,
    message_errors,
    messages_of,
    opened_outbox,
    policy_or_none,
)
from ratelimit_mail.cli.outbox.output import as_json, line_of
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.cli.tables import number_of
from ratelimit_mail.outbox import Notices, OutboxMessage

__all__ = ["approve_command", "cancel_command", "reject_command", "retry_command"]

IDS = click.argument(
    "numbers", metavar="ID...", type=click.IntRange(1, 2**63 - 1), nargs=-1, required=True
)
SOME_IDS = click.argument("numbers", metavar="[ID]...", type=click.IntRange(1, 2**63 - 1), nargs=-1)
SENDER = click.option("--sender", metavar="ADDRESS", help="With --state: only of this sender.")
BY = click.option(
    "--by", metavar="ADDRESS", help="The moderator; default: you, as the administrator."
)


class _Changes(NamedTuple):
    messages: list[OutboxMessage]
    error: CommandError | None


def _all_in(*states: str) -> Callable[[Any], Any]:
    return click.option(
        "--state", type=click.Choice(states), help="Instead of IDs: all that are in this state."
    )


@click.command("cancel")
@OUTBOX
@SOME_IDS
@_all_in("queued", "held", "uncertain")
@SENDER
@POLICY
@STORE
@JSON
def cancel_command(
    file: Path,
    numbers: tuple[int, ...],
    state: str | None,
    sender: str | None,
    policy_name: str | None,
    url: str | None,
    wants_json: bool,
) -> None:
    """Cancel each message ID that is queued, held or uncertain, or all in a --state.

    With --policy and --store, a booking of the message is cancelled at once; otherwise as soon as
    `outbox run` comes to the sender's next message.
    """
    _check_choice(numbers, state, sender)
    with (
        opened_store(url) as backend,
        opened_outbox(file, policy_or_none(policy_name), backend) as outbox,
    ):
        if state is not None:
            listed = messages_of(outbox, state=state, sender=sender)
            _change_all(listed, outbox.cancel, "cancelled", wants_json=wants_json)
            return
        changes = _change(file, numbers, outbox.cancel)
    _print(changes, wants_json=wants_json)


@click.command("retry")
@OUTBOX
@SOME_IDS
@_all_in("failed", "expired", "cancelled", "uncertain", "queued")
@SENDER
@JSON
def retry_command(
    file: Path, numbers: tuple[int, ...], state: str | None, sender: str | None, wants_json: bool
) -> None:
    """Try each message ID again as soon as possible, or all in a --state.

    A message that failed, expired, was cancelled or is uncertain is queued again, for those of its
    recipients that do not have it. A queued message does not wait for its next attempt.
    """
    _check_choice(numbers, state, sender)
    with opened_outbox(file, policy_or_none(None)) as outbox:
        if state is not None:
            listed = messages_of(outbox, state=state, sender=sender)
            _change_all(listed, outbox.retry, "queued again", wants_json=wants_json)
            return
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
    """Approve each message ID that is held. It is sent when all its lists have approved it.

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
@click.option("--reason", metavar="TEXT", help="The reason, for the sender to read.")
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


def _check_choice(numbers: tuple[int, ...], state: str | None, sender: str | None) -> None:
    if bool(numbers) == (state is not None):
        raise CommandError("either IDs or --state STATE is needed: which messages")
    if sender is not None and state is None:
        raise CommandError("--sender needs --state STATE")


def _change_all(
    messages: Iterable[OutboxMessage],
    change: Callable[[int], OutboxMessage],
    done: str,
    *,
    wants_json: bool,
) -> None:
    """Change all these messages, except those that another program has changed just now."""
    changed: list[dict[str, Any]] = []
    count = skipped = 0
    try:
        for each in with_progress(messages, "Changing", Console(stderr=True)):
            try:
                message = change(each.id)
            except (KeyError, ValueError):  # it is being sent, or its text is not stored any more
                skipped += 1
                continue
            count += 1
            if wants_json:
                changed.append(as_json(message))
    finally:
        if wants_json:
            click.echo(json.dumps(changed, indent=2))
        else:
            click.echo(f"{number_of(count, 'message')} {done}")
        if skipped:
            text = "being sent at this moment, or the text is not stored any more"
            click.echo(f"{number_of(skipped, 'message')} skipped: {text}", err=True)


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
