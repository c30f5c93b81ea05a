"""A durable queue that sends mail by itself when the limits allow it, once, over restarts."""

from ratelimit_mail.exceptions import OutboxError, TransportUnavailable
from ratelimit_mail.outbox.message import (
    OutboxMessage,
    OutboxRecipient,
    OutboxStats,
    OutgoingMessage,
    State,
)
from ratelimit_mail.outbox.notices import Notices
from ratelimit_mail.outbox.outbox import Outbox
from ratelimit_mail.outbox.retry import RetrySchedule
from ratelimit_mail.outbox.transports.base import Transport
from ratelimit_mail.outbox.transports.function import CallableTransport
from ratelimit_mail.outbox.transports.maildir import MaildirTransport
from ratelimit_mail.outbox.transports.smtp import SMTPTransport

__all__ = [
    "CallableTransport",
    "MaildirTransport",
    "Notices",
    "Outbox",
    "OutboxError",
    "OutboxMessage",
    "OutboxRecipient",
    "OutboxStats",
    "OutgoingMessage",
    "RetrySchedule",
    "SMTPTransport",
    "State",
    "Transport",
    "TransportUnavailable",
]
