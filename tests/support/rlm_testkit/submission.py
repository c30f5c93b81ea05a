"""What tests of the adapters for sending share: addresses, a message, and a server with a sink."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from typing import Final

from rlm_testkit.smtp_servers import CLOSE, HANG, Sink, SMTPServerThread

__all__ = ["ANN", "BOB", "EVE", "NOT_SENT", "email", "new_sink", "server_of_sink"]

ANN: Final = "ann@uwo.ca"
BOB: Final = "bob@example.com"
EVE: Final = "eve@example.net"

NOT_SENT: Final = {
    "421 at MAIL": (("MAIL", ANN), "421 4.3.2 bye"),
    "451 at MAIL": (("MAIL", ANN), "451 4.3.0 later"),
    "550 at MAIL": (("MAIL", ANN), "550 5.7.1 no"),
    "the connection cut at MAIL": (("MAIL", ANN), CLOSE),
    "no answer to MAIL": (("MAIL", ANN), HANG),
    "421 at the first RCPT": (("RCPT", BOB), "421 4.3.2 bye"),
    "421 at the last RCPT": (("RCPT", EVE), "421 4.3.2 bye"),
    "no answer to RCPT": (("RCPT", EVE), HANG),
    "421 at DATA": (("DATA", ANN), "421 4.3.2 bye"),
    "451 at DATA": (("DATA", ANN), "451 4.3.0 later"),
    "the connection cut at DATA": (("DATA", ANN), CLOSE),
    "no answer to DATA": (("DATA", ANN), HANG),
    "421 after the text": (("TEXT", ANN), "421 4.3.2 bye"),
    "432 after the text": (("TEXT", ANN), "432 4.3.2 too many connections"),
    "451 after the text": (("TEXT", ANN), "451 4.3.0 later"),
    "550 after the text": (("TEXT", ANN), "550 5.7.1 spam"),
}
"""Answers of a sink to a message from Ann to Bob and Eve that prove that it went to nobody."""


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
