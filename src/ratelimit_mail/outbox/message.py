"""What an outbox says about its messages, and what it hands to a transport."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from typing import Final

import attrs

from ratelimit_mail.envelope import Client

__all__ = [
    "FINISHED",
    "OutboxMessage",
    "OutboxRecipient",
    "OutboxStats",
    "OutgoingMessage",
    "State",
]


class State(enum.StrEnum):
    """What has become of a message, or of one of its recipients.

    QUEUED: it is sent when its time comes. HELD: the moderator of a mailing list decides. SENDING:
    it is being handed to the server at this moment. SENT, FAILED, CANCELLED, EXPIRED: finished.
    UNCERTAIN: it may or may not have been sent, because the process or the connection died before
    the server's reply.
    """

    QUEUED = "queued"
    HELD = "held"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


FINISHED: Final = (State.SENT, State.FAILED, State.CANCELLED, State.EXPIRED)
"""The states in which nothing more happens to a message."""


@attrs.frozen
class OutboxRecipient:
    """One recipient of a message.

    address: as it was put.
    state: QUEUED, SENT, FAILED or UNCERTAIN, or CANCELLED or EXPIRED with its message. reply: the
        server's last reply for this recipient, or a reason in words.
    """

    address: str
    state: State
    reply: str | None = None


@attrs.frozen(kw_only=True)
class OutboxMessage:
    """A message in an outbox.

    id: its number in the outbox. key: the name that the program gave it; None if it has none.
    sender, recipients: its envelope. client: what submitted it. priority: as it was put.
    message_id: its Message-ID, which is the same each time it is sent.
    size: of its text, in bytes.
    put_at: when it was put. next_at: when it may be tried next. expires_at: when it is too late.
    changed_at: when its state changed last.
    expected_at: when the limits are expected to allow it, if it had to wait for them; an estimate
        by what its sender has sent and has queued.
    attempts: how many times a server, or a connection, has put it off.
    reply: why it is in its state: the last reply of the server, or a reason in words.
    held_by: the mailing lists whose moderators have not decided on it yet.
    """

    id: int
    key: str | None
    state: State
    sender: str
    recipients: tuple[OutboxRecipient, ...]
    client: Client
    priority: int
    message_id: str
    size: int
    put_at: datetime
    next_at: datetime
    expires_at: datetime | None
    changed_at: datetime
    expected_at: datetime | None
    attempts: int
    reply: str | None
    held_by: tuple[str, ...]


@attrs.frozen(kw_only=True)
class OutboxStats:
    """How many messages an outbox has, and how long the oldest one has been waiting.

    counts: the number of messages by state, for every state. senders: how many senders have
    queued messages. oldest: when the oldest queued message was put; None if none is queued.
    workers: how many programs are sending.
    """

    counts: Mapping[State, int]
    senders: int
    oldest: datetime | None
    workers: int


@attrs.frozen(kw_only=True)
class OutgoingMessage:
    """A message as a transport gets it.

    id, key, message_id: as in OutboxMessage.
    sender: an address, or `<>` for the null sender. recipients: those that have not got it yet.
    content: the text with its headers, without Bcc; its lines end in CRLF.
    """

    id: int
    key: str | None
    message_id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes = attrs.field(repr=False)

    def parsed(self) -> EmailMessage:
        """Return the content as an `email.message.EmailMessage`."""
        # Imported here, because most transports do not need it.
        from email import message_from_bytes
        from email.policy import SMTP

        return message_from_bytes(self.content, EmailMessage, policy=SMTP)
