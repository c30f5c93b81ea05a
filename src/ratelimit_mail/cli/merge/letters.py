"""Print letters and other messages."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import click

from ratelimit_mail._util.text import escape

__all__ = ["print_letter", "print_text"]

_OF_THE_ENCODING = ("mime-version", "content-type", "content-transfer-encoding")


def print_letter(message: EmailMessage, output_format: str) -> None:
    """Print a message as it is sent (`raw`), or its headers and texts in words (`text`)."""
    lines = _raw(message.as_bytes()) if output_format == "raw" else _in_words(message)
    click.echo("\n".join(map(escape, lines)))


def print_text(text: bytes) -> None:
    """Print the text of a message in words; as it is sent, if it is not well-formed."""
    try:
        lines = [*_in_words(message_from_bytes(text, EmailMessage, policy=policy.default))]
    except Exception:  # the parser of a header raises anything
        lines = _raw(text)
    click.echo("\n".join(map(escape, lines)))


def _raw(text: bytes) -> list[str]:
    return text.decode("utf-8", "backslashreplace").splitlines()


def _in_words(message: EmailMessage) -> Iterator[str]:
    for name, value in message.items():
        if name.lower() not in _OF_THE_ENCODING:
            yield f"{name}: {value}"
    entities: list[Any] = [part for part in message.walk() if not part.is_multipart()]
    for part in entities:
        yield ""
        is_text = part.get_content_maintype() == "text"
        if not is_text or part.get_content_disposition() in ("attachment", "inline"):
            size = len(part.get_payload(decode=True) or b"")
            name = part.get_filename() or part.get_content_type()
            yield f"[attachment {name}, {size:,} bytes]"
            continue
        if len(entities) > 1:
            yield f"[{part.get_content_type()}]"
        yield from part.get_content().splitlines()
