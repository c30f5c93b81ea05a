"""The command `outbox put`."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import click

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.find_policy import SEPARATORS, find_policy
from ratelimit_mail.cli.options import JSON, STORE
from ratelimit_mail.cli.outbox.eml import read_message
from ratelimit_mail.cli.outbox.forecast import forecast
from ratelimit_mail.cli.outbox.options import MOMENTS, OUTBOX, POLICY, opened_outbox
from ratelimit_mail.cli.outbox.output import as_json, line_of
from ratelimit_mail.cli.plan.mailing import parse_moment, parse_zone
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.envelope import PROTOCOLS, Client, Envelope
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.outbox import Outbox, OutboxMessage

__all__ = ["put_command"]

INPUT: Final = "-"

LOCK_SECONDS: Final = 60.0
"""How long the outbox may be locked by other programs."""


class _File(NamedTuple):
    name: str
    text: bytes
    envelope: Envelope


@click.command("put")
@OUTBOX
@click.argument("arguments", metavar="[FILE|-|ADDRESS]...", nargs=-1)
@click.option(
    "--sender", "-f", metavar="ADDRESS", help="The sender; default: that in Sender or From."
)
@click.option("-t", "wants_headers", is_flag=True, help="Add the recipients in the headers.")
@click.option(
    "--key", metavar="TEXT", help="A message with a key that was put before is not put again."
)
@click.option("--not-before", metavar="TIME", help="The message does not go before this time.")
@click.option("--expires", metavar="TIME", help="The message does not go after this time.")
@MOMENTS
@click.option(
    "--priority", type=click.IntRange(-1000, 1000), default=0, help="A higher one goes first."
)
@click.option("--client", "address", metavar="ADDRESS", help="The IP address of the client.")
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="The protocol of the client.")
@click.option(
    "--tag", "tags", multiple=True, metavar="WORD", help="A tag of the client; repeatable."
)
@POLICY
@STORE
@JSON
@click.option("-i", "ignored_dots", is_flag=True, hidden=True)
@click.option("-o", "ignored_options", multiple=True, hidden=True)
def put_command(
    file: Path,
    arguments: tuple[str, ...],
    sender: str | None,
    wants_headers: bool,
    key: str | None,
    not_before: str | None,
    expires: str | None,
    time_zone: str,
    priority: int,
    address: str | None,
    protocol: str | None,
    tags: tuple[str, ...],
    policy_name: str | None,
    url: str | None,
    wants_json: bool,
    ignored_dots: bool,  # noqa: ARG001 - options of sendmail that are true of this command
    ignored_options: tuple[str, ...],  # noqa: ARG001
) -> None:
    """Put the message in each FILE (.eml), or from the standard input, into OUTBOX.

    The recipients are those in To, Cc and Bcc, or each ADDRESS; with -t, both. An argument with an
    @ and without a slash is an ADDRESS. Bcc is not sent; nothing else of a message is changed,
    except that a missing Message-ID or Date is added.

    Either all messages are put or none. A message that --policy never allows is refused, and the
    exit code is 2. OUTBOX is created if it is missing. With --store, the command says when all
    that is queued will be out.

    A program that calls sendmail can call `ratelimit-mail outbox put OUTBOX --policy NAME`
    instead, and add -t, -i, -oi, -f ADDRESS and addresses.
    """
    names, recipients = _divided(arguments)
    if policy_name is None:
        raise CommandError(
            "--policy NAME is needed: the limits of the messages; `ratelimit-mail presets` lists"
            " the presets"
        )
    policy = find_policy(policy_name)
    zone = parse_zone(time_zone)
    earliest = None if not_before is None else parse_moment("--not-before", not_before, zone)
    latest = None if expires is None else parse_moment("--expires", expires, zone)
    if key is not None and len(names) > 1:
        raise CommandError(f"--key is for one message, not for {len(names):,}; put them one by one")
    with reported_errors():
        client = Client(address=address, protocol=protocol, tags=tags)
    from_headers = wants_headers or not recipients
    files = [_read(name, sender, recipients, client, from_headers) for name in names]

    def put(
        outbox: Outbox, each: _File, connection: sqlite3.Connection | None = None
    ) -> OutboxMessage:
        try:
            return outbox.put(
                each.text,
                envelope=each.envelope,
                key=key,
                priority=priority,
                not_before=earliest,
                expires=latest,
                connection=connection,
            )
        except (RateLimitExceeded, ValueError) as error:
            text = f"{each.name}: {error}"
            raise CommandError(escape(f"{text}; no message was put")) from None

    with opened_store(url) as backend, opened_outbox(file, policy, create=True) as outbox:
        if len(files) == 1:
            messages = [put(outbox, files[0])]
        else:
            try:
                with closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    messages = [put(outbox, each, connection) for each in files]
                    connection.commit()
            except sqlite3.Error as error:
                raise CommandError(escape(f"{file}: {error}; no message was put")) from None
        estimate = None if url is None else forecast(outbox, policy, backend)
    if wants_json:
        click.echo(json.dumps([*map(as_json, messages)], indent=2))
        return
    for message in messages:
        click.echo(escape(line_of(message)))
    if estimate is not None:
        click.echo(estimate.in_words(zone))


def _divided(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of files and the addresses; raise CommandError if one may be both."""
    addresses = []
    names = []
    for each in arguments:
        if "@" not in each or any(separator in each for separator in SEPARATORS):
            names.append(each)
        elif Path(each).exists():
            raise CommandError(
                escape(f"{each} is an address and also a file; write ./{each} for the file")
            )
        else:
            addresses.append(each)
    if not names:
        if not addresses and sys.stdin.isatty():
            raise CommandError("a FILE is needed, or - for the standard input")
        names = [INPUT]
    if names.count(INPUT) > 1:
        raise CommandError("- is there twice; the standard input is one message")
    return names, tuple(addresses)


def _read(
    name: str,
    sender: str | None,
    recipients: tuple[str, ...],
    client: Client,
    from_headers: bool,
) -> _File:
    shown = "the standard input" if name == INPUT else name
    with reported_errors():
        content = sys.stdin.buffer.read() if name == INPUT else Path(name).read_bytes()
    try:
        text, envelope = read_message(
            content,
            sender=sender,
            recipients=recipients,
            from_headers=from_headers,
            client=client,
        )
    except ValueError as error:
        raise CommandError(escape(f"{shown}: {error}; no message was put")) from None
    return _File(shown, text, envelope)
