"""Read the events of Amazon SES, one JSON object in a line.

Each event describes its message: time, source and destinations. The first event of a message is
read, and the later ones are the same message again. An event may be wrapped by SNS or EventBridge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import RejectedRow
from ratelimit_mail.cli.readers.base import (
    Item,
    Reading,
    Source,
    Start,
    client_of,
    numbered_lines,
    record_of,
)
from ratelimit_mail.cli.readers.open_messages import RecentIds
from ratelimit_mail.cli.readers.times import parse_time
from ratelimit_mail.cli.replay.mail_records import MailRecord
from ratelimit_mail.message_headers import read_addresses

__all__ = ["SesReader"]

NOT_SENT: Final = "events of messages whose template failed are not replayed: they were not sent"
OTHER: Final = "events that are about no message, such as those of a subscription, are not replayed"

_decoder = json.JSONDecoder()


class SesReader:
    """The events of Amazon SES as JSON lines."""

    name = "ses"
    is_log = True

    def recognizes(self, start: Start) -> bool:
        """Return whether the first line is an event."""
        for line in start.lines:
            if line.strip():
                try:
                    event = _event(_decoder.raw_decode(line.strip())[0])
                except (ValueError, RecursionError):
                    return False
                return event is not None and isinstance(event.get("mail"), dict)
        return False

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield each message when its first event comes."""
        seen = RecentIds()
        for where, line in numbered_lines(sources):
            text = line.strip()
            position = 0
            while position < len(text):  # several objects may stand in one line
                try:
                    value, position = _decoder.raw_decode(text, position)
                except (ValueError, RecursionError):
                    yield RejectedRow(where, "is not JSON")
                    break
                while position < len(text) and text[position] in " \t,":
                    position += 1
                item = _item(where, value, seen, reading)
                if item is not None:
                    yield item


def _event(value: object) -> dict[str, Any] | None:
    """Return the event in an object, which SNS or EventBridge may have wrapped."""
    for _ in range(3):
        if not isinstance(value, dict):
            return None
        if "mail" in value or "eventType" in value or "notificationType" in value:
            return value
        inner = value.get("detail", value.get("Message"))
        if isinstance(inner, str):
            try:
                inner = json.loads(inner)
            except ValueError:
                return None
        value = inner
    return None


def _item(where: str, value: object, seen: RecentIds, reading: Reading) -> Item | None:
    event = _event(value)
    if event is None or not isinstance(mail := event.get("mail"), dict):
        if event is not None:
            reading.notes[OTHER] += 1
            return None
        return RejectedRow(where, "is not an event of Amazon SES")
    if event.get("eventType", "") == "Rendering Failure":
        reading.notes[NOT_SENT] += 1
        return None
    try:
        message_id = _text(mail, "messageId")
        record = _record(mail)
    except ValueError as error:
        return RejectedRow(where, str(error))
    return record if seen.is_new(message_id) else None


def _record(mail: dict[str, Any]) -> MailRecord:
    time = parse_time(_text(mail, "timestamp"))
    sender = next(iter(read_addresses(_text(mail, "source"))), "")
    destinations = mail.get("destination")
    if not isinstance(destinations, list) or not all(isinstance(x, str) for x in destinations):
        raise ValueError("destination: is not a list of addresses")
    recipients = [address for each in destinations for address in read_addresses(each)]
    tags = mail.get("tags")
    client = client_of(_tag(tags, "ses:source-ip"), _tag(tags, "ses:caller-identity"))
    return record_of(time, sender, recipients, client)


def _text(mail: dict[str, Any], name: str) -> str:
    value = mail.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: {show(value)} is not a text")
    return value


def _tag(tags: object, name: str) -> str:
    values = tags.get(name) if isinstance(tags, dict) else None
    if isinstance(values, list) and values and isinstance(values[0], str):
        return values[0]
    return ""
