"""Read messages for `outbox put`, as `sendmail` does it."""

from __future__ import annotations

import re
from email import policy
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.message_headers import sender_and_recipients

__all__ = ["read_message"]

_END_OF_HEADERS: Final = re.compile(rb"(?>\r\n|\r|\n)(?=\r|\n)")
_FIELD: Final = re.compile(rb"([!-9;-~]++)[ \t]*+:")
_BCC: Final = (b"bcc", b"resent-bcc")


def read_message(
    content: bytes,
    *,
    sender: str | None,
    recipients: tuple[str, ...],
    from_headers: bool,
    client: Client,
) -> tuple[bytes, Envelope]:
    """Return the text of a message without Bcc, otherwise unchanged, and its envelope.

    sender: that of the envelope; None for the one in the headers.
    recipients: those of the envelope. from_headers: whether those in the headers are added.

    Raises ValueError that names the line that is not a header, or the header or address that is
    not valid.
    """
    head, body = _divided(content)
    fields = _fields(head)
    headers: Message[str, str] = BytesHeaderParser(policy=policy.compat32).parsebytes(
        # The parser does not take blanks before the colon for a header.
        b"".join(name + b":" + lines.partition(b":")[2] for name, lines in fields)
    )
    names = {name for name, _ in fields}
    if not names & {b"from", b"resent-from"}:
        raise ValueError("the message has no header From; add a line such as From: ann@example.com")
    all_recipients = [*recipients]
    if sender is None or from_headers:
        author, addressees = sender_and_recipients(headers)
        sender = author if sender is None else sender
        if from_headers:
            all_recipients += addressees
    if not all_recipients:
        raise ValueError(
            "the message has no recipients in To, Cc or Bcc; add one, or name one as an argument"
        )
    text = b"".join(lines for name, lines in fields if name not in _BCC)
    return text + body, Envelope(sender or NULL_SENDER, all_recipients, client)


def _divided(content: bytes) -> tuple[bytes, bytes]:
    """Return the lines of the headers, and everything after them with the empty line."""
    if content.startswith(b"From "):  # the line before a message in an mbox file
        content = content[len(content.splitlines(keepends=True)[0]) :]
    end = _END_OF_HEADERS.search(content)
    if end is None:
        return content, b""
    return content[: end.end()], content[end.end() :]


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the lower-case name and the lines of each header."""
    fields: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(head.splitlines(keepends=True), 1):
        if fields and line[:1] in (b" ", b"\t"):
            name, lines = fields[-1]
            fields[-1] = name, lines + line
            continue
        match = _FIELD.match(line)
        if match is None:
            text = show(line.rstrip(b"\r\n").decode("utf-8", "backslashreplace"))
            raise ValueError(
                f"line {number:,}: {text} is not a header such as 'Subject: Hello'; headers come"
                " first, then an empty line, then the text"
            )
        fields.append((match[1].lower(), line))
    if not fields:
        raise ValueError("the message is empty")
    return fields
