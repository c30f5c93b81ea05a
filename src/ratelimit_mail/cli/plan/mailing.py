"""What a mailing consists of, who sends it and when, as the command line tells it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
from rich.console import Console

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError, InputError
from ratelimit_mail.cli.plan.csv_rows import read_mailing
from ratelimit_mail.cli.progress import watched
from ratelimit_mail.cli.readers.times import parse_time
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.planner import SENDER

__all__ = ["Mailing", "messages_of", "moment_of", "submitter"]


@attrs.frozen
class Mailing:
    """What is to be planned: an envelope for each message, or how many recipients it has."""

    messages: Sequence[int | Envelope]
    sender: str
    client: Client
    start: datetime

    @property
    def recipients(self) -> int:
        """How many recipients the messages have in all."""
        return sum(x if isinstance(x, int) else len(x.recipients) for x in self.messages)


def messages_of(
    messages: int | None,
    file: Path | None,
    recipients: int | None,
    per_message: int | None,
    *,
    sender: str,
    client: Client,
    console: Console,
) -> Sequence[int | Envelope]:
    """What is to be sent; raises CommandError unless exactly one way says it."""
    ways = {"--messages": messages, "--csv": file, "--recipients": recipients}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        those = f", not {' and '.join(given)} together" if given else ""
        raise CommandError(f"exactly one of {', '.join(ways)} is needed{those}")
    if (recipients is None) != (per_message is None):
        raise CommandError(
            "--recipients is how many in all, --per-message how many each message has:"
            " one needs the other"
        )
    if file is not None:
        return _read(file, sender, client, console)
    if recipients is not None and per_message is not None:
        return _spread(recipients, per_message)
    return [1] * (messages or 0)


def _read(file: Path, sender: str, client: Client, console: Console) -> list[int | Envelope]:
    try:
        messages = list(watched(read_mailing(file, sender, client), "Reading", console))
        if not messages:
            raise InputError("has no messages")
    except InputError as error:
        raise CommandError(f"{escape(os.fspath(file))}: {escape(str(error))}") from None
    return messages


def _spread(recipients: int, per_message: int) -> list[int]:
    """The sizes of as few messages as there can be; the last may have fewer recipients."""
    full, rest = divmod(recipients, per_message)
    return [per_message] * full + [rest] * bool(rest)


def submitter(
    sender: str, address: str | None, protocol: str | None, tags: Sequence[str]
) -> Client:
    """Who submits; raises CommandError for what is no sender, no IP address or no word."""
    try:
        Envelope(sender, [SENDER])  # whether the sender is an address
        return Client(address=address, protocol=protocol, tags=tags)
    except ValueError as error:
        raise CommandError(escape(str(error))) from None


def moment_of(text: str | None) -> datetime:
    """The start of the mailing; raises CommandError for what is no time."""
    if text is None:
        return datetime.now(UTC)
    try:
        milliseconds = parse_time(text.strip())
    except ValueError as error:
        raise CommandError(f"--start: {escape(str(error).removeprefix('time: '))}") from None
    return datetime_of(milliseconds)
