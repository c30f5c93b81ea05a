"""Messages of an outbox as JSON and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from ratelimit_mail.cli.tables import number_of
from ratelimit_mail.outbox import OutboxMessage, State

__all__ = ["as_json", "fields_of", "iso", "line_of"]


def as_json(message: OutboxMessage) -> dict[str, Any]:
    """Return a message for JSON; times are ISO 8601 in UTC. The keys are stable."""
    client = message.client
    return {
        "id": message.id,
        "key": message.key,
        "state": str(message.state),
        "sender": message.sender,
        "recipients": [
            {"address": each.address, "state": str(each.state), "reply": each.reply}
            for each in message.recipients
        ],
        "client": {
            "address": None if client.address is None else str(client.address),
            "user": client.user,
            "protocol": client.protocol,
            "tags": sorted(client.tags),
        },
        "priority": message.priority,
        "message_id": message.message_id,
        "size": message.size,
        "put_at": iso(message.put_at),
        "next_at": iso(message.next_at),
        "expires_at": iso(message.expires_at),
        "changed_at": iso(message.changed_at),
        "expected_at": iso(message.expected_at),
        "attempts": message.attempts,
        "reply": message.reply,
        "held_by": list(message.held_by),
    }


def iso(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601; None for None."""
    return None if moment is None else moment.isoformat()


def line_of(message: OutboxMessage) -> str:
    """Return a message in one line, which is not escaped."""
    text = f"message {message.id}: {message.state}"
    if message.state == State.HELD:
        text += f" for a moderator of {_several(message.held_by)}"
    text += f", from {message.sender} to {_several([x.address for x in message.recipients])}"
    return text


def fields_of(message: OutboxMessage) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each field that a message has; the texts are not escaped."""
    yield "state", str(message.state)
    if message.reply is not None:
        yield "reply", message.reply
    if message.key is not None:
        yield "key", message.key
    yield "sender", message.sender
    yield "Message-ID", message.message_id
    yield "size", number_of(message.size, "byte")
    yield "put at", _time(message.put_at)
    if message.state == State.QUEUED:
        yield "not before", _time(message.next_at)
        if message.expected_at is not None:
            yield "expected at", _time(message.expected_at)
    else:
        yield "changed at", _time(message.changed_at)
    if message.expires_at is not None:
        yield "expires at", _time(message.expires_at)
    if message.priority:
        yield "priority", str(message.priority)
    if message.attempts:
        yield "put off", "once" if message.attempts == 1 else f"{message.attempts:,} times"
    if message.held_by:
        yield "held by", ", ".join(message.held_by)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _several(words: Sequence[str]) -> str:
    more = f" and {len(words) - 3:,} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + more
