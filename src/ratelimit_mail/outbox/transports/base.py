"""Transport: how an outbox hands one message to a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ratelimit_mail.outbox.message import OutgoingMessage

__all__ = ["Refused", "Transport"]

Refused = Mapping[str, tuple[int, bytes | str]]
"""The code and text with which each recipient was refused, as `smtplib` returns it."""


class Transport(Protocol):
    """What sends one message after the other; safe for threads.

    max_connections: how many messages it sends at the same time, of different senders.
    """

    @property
    def max_connections(self) -> int:
        """How many threads may call `send` at the same time."""
        ...

    def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> Refused | None:
        """Send a message, and return the recipients that were refused.

        message: with its envelope.
        begin_sending: to be called once, right before the step after which the server may have
            accepted the message. Before it, everything that goes wrong proves that nothing was
            sent. What it raises must be raised again, and nothing be sent.

        Raises smtplib's exceptions for a message that the server refuses, TransportUnavailable if
        nothing can be sent for now. Any other exception after `begin_sending` means that the
        message may have been sent.
        """
        ...

    def close(self) -> None:
        """Close all connections; a later `send` opens new ones."""
        ...
