"""BackendTransport: lets an outbox send with a Django e-mail backend."""

from __future__ import annotations

import email.message
import email.policy
import smtplib
from collections.abc import Callable
from email import message_from_bytes
from functools import partial
from typing import Any, Final, Self, TypeVar

from django.core.mail import EmailMultiAlternatives

from ratelimit_mail.adapters.django.configuration import MailerOptions
from ratelimit_mail.adapters.django.inner_backend import InnerBackend, NothingSent, Refused
from ratelimit_mail.adapters.options import NotSent
from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.exceptions import TransportUnavailable
from ratelimit_mail.outbox import OutgoingMessage

__all__ = ["BackendTransport", "StoredMessage"]

T = TypeVar("T")

_REPLIES: Final = (
    smtplib.SMTPResponseException,
    smtplib.SMTPRecipientsRefused,
    smtplib.SMTPNotSupportedError,
)
"""Errors that are about the message or the login, and that the outbox understands."""

_OWN_HEADERS: Final = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "mime-version", "content-type"}
    | {"content-transfer-encoding", "content-disposition"}
)


class _Content(email.message.EmailMessage):
    """A parsed message whose bytes are those that are stored."""

    content = b""

    def as_bytes(self, *_: Any, **__: Any) -> bytes:
        """Return the stored bytes, whatever their form is to be."""
        return self.content

    def __deepcopy__(self, _: Any) -> Self:
        return self


class StoredMessage(EmailMultiAlternatives):
    """A message of an outbox as Django's class.

    An SMTP backend sends its stored text and its envelope. Subject, body, alternatives, attachments
    and headers are there for backends that send through an API.
    """

    def __init__(self, outgoing: OutgoingMessage) -> None:
        parsed: Any = message_from_bytes(outgoing.content, _Content, policy=email.policy.SMTP)
        parsed.content = outgoing.content
        self._parsed = parsed
        self._recipients = [*outgoing.recipients]
        to, cc = _addresses(parsed, "To"), _addresses(parsed, "Cc")
        open_recipients, named = {*outgoing.recipients}, {*to, *cc}
        super().__init__(
            subject=_parsed_or(lambda: str(parsed.get("Subject", "")), ""),
            from_email="" if outgoing.sender == NULL_SENDER else outgoing.sender,
            to=[each for each in to if each in open_recipients],
            cc=[each for each in cc if each in open_recipients],
            bcc=[each for each in outgoing.recipients if each not in named],
            reply_to=_addresses(parsed, "Reply-To"),
            headers={
                name: _parsed_or(partial(_header_text, parsed, name, value), str(value))
                for name, value in parsed.raw_items()
                if name.lower() not in _OWN_HEADERS
            },
        )
        self._add_content(parsed)

    def _add_content(self, parsed: email.message.EmailMessage) -> None:
        for part in parsed.walk():
            if part.is_multipart():
                continue
            kind = _parsed_or(part.get_content_type, "application/octet-stream")
            name = _parsed_or(part.get_filename, None)
            payload: Any = _parsed_or(partial(part.get_payload, decode=True), None) or b""
            is_attachment = _parsed_or(part.is_attachment, True)
            is_text = kind in ("text/plain", "text/html") and not is_attachment
            if not is_text or name is not None:
                self.attach(name or "attachment", payload, "application/octet-stream")
                self.attachments[-1] = (name or "attachment", payload, kind)
                continue
            text = _decoded(payload, _parsed_or(part.get_content_charset, None))
            if kind == "text/plain" and not self.body:
                self.body = text
            else:
                self.attach_alternative(text, kind)

    def recipients(self) -> list[str]:
        """Return the recipients that have not got the message yet."""
        return self._recipients

    def message(self, **_: Any) -> Any:
        """Return the stored message."""
        return self._parsed


def _parsed_or(parse: Callable[[], T], default: T) -> T:
    """Return what `parse` returns; `default` for a header that Python's parser fails at.

    An SMTP backend sends the stored text all the same, and one message must not hold up the others.
    """
    try:
        return parse()
    except Exception:  # the parser raises IndexError, AttributeError and more
        return default


def _header_text(parsed: email.message.EmailMessage, name: str, value: str) -> str:
    return str(parsed.policy.header_fetch_parse(name, value))


def _decoded(payload: bytes, charset: str | None) -> str:
    try:
        return payload.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):  # such as the charsets undefined and idna
        return payload.decode("utf-8", "replace")


def _addresses(parsed: email.message.EmailMessage, name: str) -> list[str]:
    def parse() -> list[str]:
        header: Any = parsed.get(name)
        return [each.addr_spec for each in getattr(header, "addresses", ())]

    return _parsed_or(parse, [])


class BackendTransport:
    """Sends the messages of an outbox with the inner backend of a mailer."""

    max_connections = 1

    def __init__(self, options: MailerOptions, alias: str | None = None) -> None:
        self._backend = InnerBackend(options, alias)

    def __repr__(self) -> str:
        return f"<BackendTransport of {self._backend!r}>"

    def send(self, message: OutgoingMessage, begin_sending: Callable[[], None]) -> Refused:
        """See `Transport.send`."""
        try:
            return self._backend.send(StoredMessage(message), begin_sending)
        except NotSent as not_sent:
            error = not_sent.error
        try:
            if isinstance(error, ValueError | TypeError):
                # Such as an address or a header that the backend does not take: it never will.
                text = f"5.6.0 the e-mail backend refuses the message ({type(error).__name__})"
                raise smtplib.SMTPDataError(550, text) from error
            if isinstance(error, NothingSent):
                raise TransportUnavailable("the e-mail backend returned that it sent nothing")
            if isinstance(error, OSError) and not isinstance(error, _REPLIES):
                raise TransportUnavailable(
                    f"the e-mail backend cannot send ({type(error).__name__})"
                ) from error
            raise error
        finally:
            del error  # its traceback holds this frame

    def close(self) -> None:
        """Close the connection."""
        self._backend.close()
