"""MaildirTransport: writes each message to a Maildir."""

from __future__ import annotations

import mailbox
import os
import threading
from collections.abc import Callable
from os import PathLike

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.exceptions import TransportUnavailable
from ratelimit_mail.outbox.message import OutgoingMessage
from ratelimit_mail.outbox.transports.base import Transport

__all__ = ["MaildirTransport"]


@with_methods_of(Transport)
class MaildirTransport:
    """Writes each message as a file into a Maildir, for tests and for a local mailbox.

    path: the directory, which is created if it is missing.

    Each file begins with Return-Path, the sender, and has one Delivered-To for each recipient,
    those of Bcc included.
    """

    max_connections = 1

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._maildir: mailbox.Maildir | None = None

    def __repr__(self) -> str:
        return f"<MaildirTransport to {self._path!r}>"

    def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> None:
        """See `Transport.send`. Raises TransportUnavailable if the directory cannot be used."""
        sender = "" if message.sender == NULL_SENDER else message.sender
        lines = [f"Return-Path: <{sender}>"]
        lines += [f"Delivered-To: {recipient}" for recipient in message.recipients]
        head = "".join(f"{line}\n" for line in lines).encode()
        content = head + message.content.replace(b"\r\n", b"\n")
        with self._lock:
            try:
                if self._maildir is None:
                    for name in ("tmp", "new", "cur"):
                        os.makedirs(os.path.join(self._path, name), mode=0o700, exist_ok=True)
                    self._maildir = mailbox.Maildir(self._path)
                begin_sending()
                self._maildir.add(content)
            except OSError as error:
                # A file appears in `new` as a whole or not at all.
                self._maildir = None
                raise TransportUnavailable(f"the Maildir cannot be written: {error}") from error

    def close(self) -> None:
        """Do nothing."""
