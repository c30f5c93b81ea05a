"""The commands `outbox list`, `show` and `stats`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.merge.letters import print_text
from ratelimit_mail.cli.options import JSON, STORE
from ratelimit_mail.cli.outbox.forecast import forecast
from ratelimit_mail.cli.outbox.options import (
    ID,
    OUTBOX,
    POLICY,
    message_errors,
    opened_outbox,
    policy_or_none,
)
from ratelimit_mail.cli.outbox.output import as_json, fields_of, iso
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.cli.tables import cells, number_of, print_table, table_of, two_columns
from ratelimit_mail.outbox import OutboxMessage, State

__all__ = ["list_command", "show_command", "stats_command"]


@click.command("list")
@OUTBOX
@click.option("--state", type=click.Choice([*map(str, State)]), help="Only messages in this state.")
@click.option("--sender", metavar="ADDRESS", help="Only messages of this sender.")
@click.option(
    "--moderator", metavar="ADDRESS", help="Only messages that this moderator may approve."
)
@click.option(
    "--after",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    metavar="ID",
    help="Only messages that were put after this one.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="The most messages to list.",
)
@POLICY
@JSON
def list_command(
    file: Path,
    state: str | None,
    sender: str | None,
    moderator: str | None,
    after: int,
    limit: int,
    policy_name: str | None,
    wants_json: bool,
) -> None:
    """List the messages in OUTBOX, in the order in which they were put, with the last replies.

    --moderator needs --policy, whose directory names the moderators. --sender needs --policy if
    aliases count as their owner, or if the policy is case-sensitive.

    --json prints an array of objects, as `show` does.
    """
    if moderator is not None and policy_name is None:
        raise CommandError("--moderator needs --policy NAME, whose directory has the moderators")
    with opened_outbox(file, policy_or_none(policy_name)) as outbox:
        messages = outbox.list(
            state=state, sender=sender, moderator=moderator, after=after, limit=limit + 1
        )
    has_more = len(messages) > limit
    messages = messages[:limit]
    if wants_json:
        click.echo(json.dumps([*map(as_json, messages)], indent=2))
        return
    if not messages:
        click.echo("No messages.")
        return
    columns: list[tuple[str, list[object]]] = [
        ("id", [each.id for each in messages]),
        ("state", [each.state for each in messages]),
        ("put (UTC)", [each.put_at for each in messages]),
        ("next (UTC)", [*map(_next, messages)]),
        ("sender", [each.sender for each in messages]),
        ("recipients", [*map(_recipients, messages)]),
        ("reply", [each.reply or "" for each in messages]),
    ]
    columns = [(name, values) for name, values in columns if any(values)]
    table = table_of(*(name for name, _ in columns))
    for row in zip(*(values for _, values in columns), strict=True):
        table.add_row(*cells(*row))
    print_table(table)
    if has_more:
        click.echo(f"There are more: --after {messages[-1].id}")


def _next(message: OutboxMessage) -> datetime | str:
    if message.state != State.QUEUED:
        return ""
    return max(message.next_at, message.expected_at or message.next_at)


def _recipients(message: OutboxMessage) -> str:
    first = message.recipients[0].address
    more = len(message.recipients) - 1
    return f"{first} and {more:,} more" if more else first


@click.command("show")
@OUTBOX
@ID
@click.option("--text", "wants_text", is_flag=True, help="Print the headers and the text too.")
@click.option("--eml", "wants_eml", is_flag=True, help="Print the message itself, and only that.")
@JSON
def show_command(
    file: Path, number: int, wants_text: bool, wants_eml: bool, wants_json: bool
) -> None:
    """Show the message ID: its state, its times, and the last reply for each recipient."""
    if wants_eml and (wants_json or wants_text):
        raise CommandError("--eml prints only the message; leave out --json and --text")
    with opened_outbox(file, policy_or_none(None)) as outbox, message_errors(file):
        message = outbox.show(number)
        text = outbox.text(number) if wants_eml or wants_text else b""
    if wants_eml:
        click.echo(text, nl=False)
        return
    if wants_json:
        table = as_json(message)
        if wants_text:
            table["text"] = text.decode("utf-8", "backslashreplace")
        click.echo(json.dumps(table, indent=2))
        return
    console = Console()
    console.print(Text(f"message {message.id}", style="bold"))
    print_table(two_columns(fields_of(message)), console)
    recipients = table_of("recipient", "state", "reply")
    for each in message.recipients:
        recipients.add_row(*cells(each.address, each.state, each.reply or ""))
    console.print()
    print_table(recipients, console)
    if wants_text:
        click.echo()
        print_text(text)


@click.command("stats")
@OUTBOX
@POLICY
@STORE
@JSON
def stats_command(file: Path, policy_name: str | None, url: str | None, wants_json: bool) -> None:
    """Count the messages in OUTBOX by state.

    With --policy, also say when all queued messages will be out if nothing more is put: with
    --store, after what was sent before.
    """
    policy = policy_or_none(policy_name)
    with opened_store(url) as backend, opened_outbox(file, policy) as outbox:
        stats = outbox.stats()
        estimate = None if policy_name is None else forecast(outbox, policy, backend)
    if wants_json:
        table = {
            "counts": {str(state): number for state, number in stats.counts.items()},
            "senders": stats.senders,
            "oldest": iso(stats.oldest),
            "workers": stats.workers,
            "all_out_at": None if estimate is None else iso(estimate.all_out_at),
        }
        click.echo(json.dumps(table, indent=2))
        return
    rows = [(str(state), f"{number:,}") for state, number in stats.counts.items()]
    running = number_of(stats.workers, "program")
    if not stats.workers and stats.counts[State.QUEUED]:
        running = f"{running}: start `run`, which sends what is queued"
    rows.append(("running", running))
    if stats.oldest is not None:
        rows.append(("queued since", f"{stats.oldest:%Y-%m-%d %H:%M:%S} UTC"))
    if estimate is not None:
        rows.append(("queue", estimate.in_words()))
    print_table(two_columns(rows))
    if not stats.workers and stats.counts[State.SENDING]:
        click.echo(
            "What is sending was cut off: its program ended, and no other runs. The next `run`"
            " makes it\nuncertain, or sends it again with --on-uncertain resend."
        )
