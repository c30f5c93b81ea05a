"""Mailing: the messages, sender, client and start that the options of `plan` describe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import attrs
from rich.console import Console

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError, InputError
from ratelimit_mail.cli.plan.csv_rows import read_mailing
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.readers.times import parse_time
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.planner import SENDER, WorkingHours

__all__ = [
    "Mailing",
    "client_from_options",
    "parse_hours",
    "parse_moment",
    "parse_start",
    "parse_zone",
    "read_messages",
]


@attrs.frozen
class Mailing:
    """A mailing to plan; each message is an envelope or a number of recipients."""

    messages: Sequence[int | Envelope]
    sender: str
    client: Client
    start: datetime | None
    """None for the present."""
    not_before: datetime | None = None
    hours: WorkingHours | None = None

    @property
    def recipients(self) -> int:
        """The total number of recipients."""
        return sum(x if isinstance(x, int) else len(x.recipients) for x in self.messages)


def read_messages(
    messages: int | None,
    file: Path | None,
    recipients: int | None,
    per_message: int | None,
    *,
    sender: str,
    client: Client,
    console: Console,
) -> Sequence[int | Envelope]:
    """Return the messages to plan; raise CommandError unless exactly one option describes them."""
    options = {"--messages": messages, "--csv": file, "--recipients": recipients}
    present = [name for name, value in options.items() if value is not None]
    if len(present) != 1:
        both = f", not {' and '.join(present)} together" if present else ""
        raise CommandError(f"exactly one of {', '.join(options)} is needed{both}")
    if (recipients is None) != (per_message is None):
        raise CommandError(
            "--recipients (the total) and --per-message (the most in one message)"
            " must be used together"
        )
    if file is not None:
        return _read(file, sender, client, console)
    if recipients is not None and per_message is not None:
        return _split(recipients, per_message)
    return [1] * (messages or 0)


def _read(file: Path, sender: str, client: Client, console: Console) -> list[int | Envelope]:
    try:
        messages = list(with_progress(read_mailing(file, sender, client), "Reading", console))
        if not messages:
            raise InputError("has no messages")
    except InputError as error:
        raise CommandError(f"{escape(os.fspath(file))}: {escape(str(error))}") from None
    return messages


def _split(recipients: int, per_message: int) -> list[int]:
    """Return the sizes of as few messages as possible; the last may have fewer recipients."""
    full, rest = divmod(recipients, per_message)
    return [per_message] * full + [rest] * bool(rest)


def client_from_options(
    sender: str, address: str | None, protocol: str | None, tags: Sequence[str]
) -> Client:
    """Return the client; raise CommandError if the sender, the IP address or a tag is invalid."""
    try:
        Envelope(sender, [SENDER])  # raises if the sender is not an address
        return Client(address=address, protocol=protocol, tags=tags)
    except ValueError as error:
        raise CommandError(escape(str(error))) from None


def parse_zone(name: str) -> tzinfo:
    """Return the time zone of a name such as Europe/London; raise CommandError if unknown."""
    from zoneinfo import ZoneInfo

    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise CommandError(
            f"--time-zone: {escape(name)} is not a time zone such as Europe/London"
        ) from None


def parse_hours(text: str, zone: tzinfo) -> WorkingHours:
    """Return the working hours; raise CommandError if the notation is invalid."""
    try:
        return WorkingHours.parse(text, zone)
    except ValueError as error:
        raise CommandError(escape(f"--hours: {error}")) from None


def parse_start(text: str | None, zone: tzinfo = UTC) -> datetime:
    """Return the start of the mailing; raise CommandError if the time is invalid."""
    return datetime.now(UTC) if text is None else parse_moment("--start", text, zone)


def parse_moment(option: str, text: str, zone: tzinfo = UTC) -> datetime:
    """Return the time of an option; raise CommandError if it is invalid.

    zone: the time zone of a time without one.
    """
    try:
        milliseconds = parse_time(_with_zone(text.strip(), zone))
    except ValueError as error:
        raise CommandError(f"{option}: {escape(str(error).removeprefix('time: '))}") from None
    return datetime_of(milliseconds)


def _with_zone(text: str, zone: tzinfo) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is not None or text.isdigit():  # digits alone are Unix seconds
        return text
    return moment.replace(tzinfo=zone).astimezone(UTC).isoformat()
