"""What tests of the adapters for sending share: addresses, a message, and a server with a sink."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from typing import Final

from rlm_testkit.smtp_servers import Sink, SMTPServerThread

__all__ = ["ANN", "BOB", "EVE", "email", "new_sink", "server_of_sink"]

ANN: Final = "ann@uwo.ca"
BOB: Final = "bob@example.com"
EVE: Final = "eve@example.net"


def email(sender: str = ANN, to: str = BOB, **headers: str) -> EmailMessage:
    """Return a short message with these headers."""
    message = EmailMessage()
    message["From"], message["To"] = sender, to
    for name, value in headers.items():
        message[name] = value
    message.set_content("Hello")
    return message


def new_sink() -> Sink:
    """Return a sink that accepts all messages: a fixture `sink`."""
    return Sink()


def server_of_sink(sink: Sink) -> Iterator[SMTPServerThread]:
    """Start a server that gives its messages to the fixture `sink`: a fixture."""
    with SMTPServerThread(sink) as server:
        yield server
