"""Print the letters of a mailing."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

import click

from ratelimit_mail._util.text import escape

__all__ = ["print_letter"]


def print_letter(message: EmailMessage, output_format: str) -> None:
    """Print a message as it is sent (`raw`), or its headers and texts in words (`text`)."""
    if output_format == "raw":
        lines = message.as_bytes().decode("utf-8", "backslashreplace").splitlines()
        click.echo("\n".join(map(escape, lines)))
        return
    for name, value in message.items():
        if name not in ("MIME-Version", "Content-Type", "Content-Transfer-Encoding"):
            click.echo(escape(f"{name}: {value}"))
    entities: list[Any] = [part for part in message.walk() if not part.is_multipart()]
    for part in entities:
        click.echo()
        if part.get_content_disposition() in ("attachment", "inline"):
            size = len(part.get_payload(decode=True))
            click.echo(escape(f"[attachment {part.get_filename()}, {size:,} bytes]"))
            continue
        if len(entities) > 1:
            click.echo(f"[{part.get_content_type()}]")
        for line in part.get_content().splitlines():
            click.echo(escape(line))
