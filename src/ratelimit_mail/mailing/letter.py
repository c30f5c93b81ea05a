"""Letter: the template of a mailing, which makes a message for each row of a CSV file.

The file is as mailmerge has it: headers, an empty line, and the text, all with values in braces.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from os import PathLike
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import folded
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.mailing.address_header import AddressHeader, check_line
from ratelimit_mail.mailing.attachments import Attachment, AttachmentFolder
from ratelimit_mail.mailing.templates import Template, context_of, extra_merge

__all__ = ["Letter"]

LARGEST: Final = 10 << 20

ADDRESS_HEADERS: Final = ("From", "Sender", "Reply-To", "To", "Cc", "Bcc")
ONCE: Final = ("From", "Sender", "Reply-To", "Subject", "Content-Type")
RESERVED: Final = ("Message-Id", "Mime-Version", "Content-Transfer-Encoding", "Received")
TEXT, MARKDOWN, HTML = "text/plain", "text/markdown", "text/html"
TYPES: Final = (TEXT, MARKDOWN, HTML, "multipart/alternative")

_HEADER: Final = re.compile(r"([!-9;-~]{1,100}):[ \t]*(.*)")
_IMAGE: Final = re.compile(
    r"""(<img\b[^<>]*?\bsrc\s*=\s*)(["'])([^"'<>]{1,1000})\2""", re.IGNORECASE
)


class Letter:
    """The template of a letter.

    source: headers, an empty line and the text, in the language of Jinja2: `TO: {{ email }}`.
        `CONTENT-TYPE: text/markdown` makes an HTML part of the text, and `text/html` says that the
        text is HTML. Each header `ATTACHMENT` names a file, or several with `;` between them.
    html: the template of an HTML part beside a plain text.
    name: the name of the mailing, of which its messages' keys are made.
    attach: columns of the CSV file that name files to attach.

    Values are escaped in HTML. A value in a header cannot add a header or an address to it. The
    templates run in a sandbox: they read no files and call nothing of Python.

    Raises ValueError for what is not a letter, and ModuleNotFoundError without the extra
    `ratelimit-mail[merge]`.
    """

    def __init__(
        self,
        source: str,
        *,
        html: str | None = None,
        name: str = "letter",
        attach: Sequence[str] = (),
    ) -> None:
        if not isinstance(name, str) or not (0 < len(name) <= 200 and name.isprintable()):
            raise ValueError(f"name: {show(name)} is not a name of 1 to 200 characters")
        self.name = name
        self._attach = tuple(attach)
        headers, body = _parsed(source.removeprefix("\ufeff"))
        self._addresses: dict[str, AddressHeader] = {}
        self._attachments: list[Template] = []
        self._others: list[tuple[str, Template]] = []
        content_type = TEXT
        for header, value in headers:
            if header == "Content-Type":
                content_type = value
            elif header == "Attachment":
                self._attachments.append(Template(value, header))
            elif header in ADDRESS_HEADERS:
                self._addresses[header] = AddressHeader(value, header)
            else:
                self._others.append((header, Template(value, header)))
        for needed in ("From", "To"):
            if needed not in self._addresses:
                raise ValueError(f"the letter has no header {needed.upper()}:")
        self._text: Template | None = None
        self._html: Template | None = None
        self._markdown: Template | None = None
        self._set_body(content_type, body, html)

    def _set_body(self, content_type: str, body: str, html: str | None) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        if kind not in TYPES:
            raise ValueError(f"Content-Type: {show(kind)} is not one of {', '.join(TYPES)}")
        if kind == "multipart/alternative":
            kind, body, html = TEXT, *_alternatives(content_type, body, html)
        if html is not None and kind != TEXT:
            raise ValueError(f"Content-Type: {kind} and an HTML part exclude each other")
        if kind == HTML:
            self._html = Template(body, "text", "html")
            return
        self._text = Template(body, "text")
        if html is not None:
            self._html = Template(html, "HTML part", "html")
        if kind == MARKDOWN:
            with extra_merge():
                import markdown  # noqa: F401 - a missing module is found before the first letter
            self._markdown = Template(body, "text", "markdown")

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        html: str | PathLike[str] | None = None,
        name: str | None = None,
        attach: Sequence[str] = (),
    ) -> Letter:
        """Return the letter in a file; its name is that of the file unless there is another.

        path: of the file. attach: the columns that name files to attach.
        html: the file of the HTML part.

        Raises ValueError that names the file, and OSError if it cannot be read.
        """
        base = os.path.basename(os.fspath(path))
        source = _read(path)
        part = None if html is None else _read(html)
        try:
            return cls(source, html=part, name=name or base, attach=attach)
        except ValueError as error:
            raise ValueError(f"{show(base)}: {error}") from None

    @property
    def names(self) -> frozenset[str]:
        """The names that the templates need a value for."""
        templates = [*self._attachments, *(template for _, template in self._others)]
        templates += [each for each in (self._text, self._html, self._markdown) if each is not None]
        of_addresses = (header.names for header in self._addresses.values())
        return frozenset().union(*of_addresses, *(each.names for each in templates))

    def missing_columns(self, columns: Iterable[str]) -> list[str]:
        """Return what the templates and `attach` need that is not among `columns`."""
        present = set(context_of(dict.fromkeys(columns, "")))
        attach = set(self._attach) - set(columns)
        return sorted((self.names - present) | attach)

    def addresses(self, values: Mapping[str, str]) -> dict[str, list[Address]]:
        """Return the addresses of each address header for the values of a row.

        Raises ValueError that names the header.
        """
        context = context_of(values)
        return {name: header.fill(context) for name, header in self._addresses.items()}

    def message(
        self,
        values: Mapping[str, str],
        attachments: AttachmentFolder | None = None,
        *,
        test_to: str | None = None,
        message_id: str | None = None,
        addresses: Mapping[str, list[Address]] | None = None,
    ) -> EmailMessage:
        """Return the message for the values of a row.

        attachments: the folders that attachments may be in; without it a letter has none.
        test_to: the only recipient, instead of those of the row.
        message_id: the header Message-ID. addresses: what `addresses` returned for these values.

        Raises ValueError that says which header or text is wrong.
        """
        from email.policy import SMTP

        context = context_of(values)
        message = EmailMessage(policy=SMTP)
        intended: list[str] = []
        by_header = self.addresses(values) if addresses is None else addresses
        for name, each in by_header.items():
            if name in ("To", "Cc", "Bcc"):
                if test_to is not None:
                    each = [Address(addr_spec=test_to)] if name == "To" else []
                intended += [address.addr_spec for address in each]
            if name in ("From", "Sender") and len(each) != 1:
                raise ValueError(f"{name}: {len(each)} addresses; one is needed")
            if each:
                _set(message, name, tuple(each))
        if not intended:
            raise ValueError("To: no recipient")
        if test_to is not None:
            original = ", ".join(address.addr_spec for address in by_header["To"])
            _set(message, "X-Test-Of", original)
        for name, template in self._others:
            if text := check_line(template.fill(context), name):
                _set(message, name, text)
        if message_id is not None:
            _set(message, "Message-ID", message_id)
        self._add_body(message, context, self._read_attachments(values, context, attachments))
        _check_recipients(message, intended)
        return message

    def _read_attachments(
        self,
        values: Mapping[str, str],
        context: Mapping[str, object],
        folder: AttachmentFolder | None,
    ) -> list[Attachment]:
        texts = [template.fill(context) for template in self._attachments]
        texts += [values[column] for column in self._attach]
        names = [name.strip() for text in texts for name in text.split(";") if name.strip()]
        return (folder or AttachmentFolder(None)).read(dict.fromkeys(names))

    def _add_body(
        self,
        message: EmailMessage,
        context: Mapping[str, object],
        attachments: Sequence[Attachment],
    ) -> None:
        page = None if self._html is None else self._html.fill(context)
        if self._markdown is not None:
            page = _html_of(self._markdown.fill(context))
        images: dict[str, Attachment] = {}
        if page is not None:
            page, images = _with_inline_images(page, attachments)
        if self._text is not None:
            message.set_content(self._text.fill(context))
            if page is not None:
                message.add_alternative(page, subtype="html")
                part: Any = message.get_payload(1)
        else:
            message.set_content(page, subtype="html")
            part = message
        for content_id, image in images.items():
            maintype, subtype = image.media_type
            part.add_related(
                image.content,
                maintype,
                subtype,
                cid=f"<{content_id}>",
                filename=image.name,
                disposition="inline",
            )
        for each in attachments:
            if each not in images.values():
                maintype, subtype = each.media_type
                message.add_attachment(each.content, maintype, subtype, filename=each.name)


def _parsed(source: str) -> tuple[list[tuple[str, str]], str]:
    """Return the headers of a letter, with names as they are usually written, and its text."""
    headers: list[tuple[str, str]] = []
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        stripped = line.rstrip("\r\n")
        if not stripped.strip():
            return headers, "".join(lines[number:])
        if stripped[0] in " \t" and headers:
            name, value = headers[-1]
            headers[-1] = (name, f"{value} {stripped.strip()}")
            continue
        match = _HEADER.fullmatch(stripped)
        if match is None:
            raise ValueError(
                f"line {number}: {show(stripped)} is not a header such as 'TO: {{{{ email }}}}';"
                " headers end with an empty line"
            )
        name = match[1].title()
        if name in RESERVED:
            raise ValueError(f"line {number}: the header {name} is set for each message")
        if name in (*ONCE, *ADDRESS_HEADERS) and any(name == each for each, _ in headers):
            raise ValueError(f"line {number}: there are two headers {name}")
        headers.append((name, match[2].strip()))
    return headers, ""


def _alternatives(content_type: str, body: str, page: str | None) -> tuple[str, str]:
    """Return the text and the HTML template of a letter that has both in MIME."""
    import email
    import email.policy

    source = f"Content-Type: {content_type}\n\n{body}"
    whole: Any = email.message_from_string(source, EmailMessage, policy=email.policy.default)
    text_of: dict[str, str] = {}
    for part in whole.iter_parts():
        text_of[part.get_content_type()] = part.get_payload()
    if page is not None or set(text_of) != {TEXT, HTML}:
        raise ValueError(
            "Content-Type: multipart/alternative needs a part text/plain and a part text/html"
        )
    return text_of[TEXT], text_of[HTML]


def _html_of(text: str) -> str:
    import markdown

    page: str = markdown.markdown(text, extensions=["nl2br"])
    return f"<html><body>\n{page}\n</body></html>\n"


def _with_inline_images(
    page: str, attachments: Sequence[Attachment]
) -> tuple[str, dict[str, Attachment]]:
    """Return the page with references to attached images, and these images by their ids."""
    by_name = {each.written: each for each in attachments}
    images: dict[str, Attachment] = {}

    def reference(match: re.Match[str]) -> str:
        image = by_name.get(html.unescape(match[3]))
        if image is None:
            return match[0]
        digest = hashlib.blake2b(image.written.encode() + image.content, digest_size=12)
        content_id = f"{digest.hexdigest()}@image.invalid"
        images[content_id] = image
        return f"{match[1]}{match[2]}cid:{content_id}{match[2]}"

    return _IMAGE.sub(reference, page), images


def _set(message: EmailMessage, name: str, value: object) -> None:
    try:
        message[name] = value
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from None


def _check_recipients(message: EmailMessage, intended: Iterable[str]) -> None:
    """Raise ValueError unless the headers, as they are sent, name exactly these recipients."""
    from email.parser import BytesHeaderParser

    headers = EmailMessage(policy=message.policy)
    for name, value in message.raw_items():
        if name.title() in ADDRESS_HEADERS:
            headers[name] = value
    try:
        sent = Envelope.from_message(BytesHeaderParser().parsebytes(headers.as_bytes()))
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"its headers cannot be sent: {error}") from None
    if set(map(folded, sent.recipients)) != set(map(folded, intended)):
        raise ValueError("To: its recipients cannot be written in headers")


def _read(path: str | PathLike[str]) -> str:
    name = show(os.path.basename(os.fspath(path)))
    with open(path, "rb") as file:
        contents = file.read(LARGEST + 1)
    if len(contents) > LARGEST:
        raise ValueError(f"{name}: larger than {LARGEST >> 20} MiB")
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}: line {line:,}: not UTF-8") from None
