"""Read the sender and recipients of a message from its headers, as `smtplib` does.

The standard library has several readers of address headers. They differ by class of message, by
version of Python and in what they drop silently. This is one reader for all: RFC 5322 with its
obsolete forms, and a few common mistakes. Either every recipient of a header is read, or
`ValueError` names what is not an address. The time is linear in the length of the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from email.message import Message
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import (
    NULL_SENDER,
    normal_address,
    normal_addresses,
    written_local_part,
)

__all__ = ["read_addresses", "sender_and_recipients"]

Token = tuple[str, str]
"""A kind and the text: the kind is "atom", "quoted", "literal", "junk", or one of `@.,:;<>`."""

# All repetitions are possessive: nothing is matched twice.
_SIMPLE: Final = re.compile(
    r"""
    [ \t\r\n]*+
    (?:
        ([A-Za-z0-9!\#$%&'*+/=?^_`{|}~.-]++@[A-Za-z0-9._-]++)
    |
        (?:[^()<>\[\]:;@\\,"]++|"(?:[^"\\]|\\.)*+")*+
        <([A-Za-z0-9!\#$%&'*+/=?^_`{|}~.-]++@[A-Za-z0-9._-]++)>
    )
    [ \t\r\n]*+
    (?:,|\Z)
    """,
    re.DOTALL | re.VERBOSE,
)
"""Most elements of a header: an address, or a name and an address in angle brackets."""

_TOKEN: Final = re.compile(
    r"""
      (?P<blank>[ \t\r\n]++)
    | (?P<atom>[^ \t\r\n()<>\[\]:;@\\,."]++)
    | "(?P<quoted>(?:[^"\\]|\\.)*+)"
    | (?P<literal>\[[A-Za-z0-9.: \t-]++\])
    | (?P<special>[@.,:;<>])
    | (?P<comment>\()
    | (?P<unterminated>")
    | (?P<junk>[)\[\]\\])
    """,
    re.DOTALL | re.VERBOSE,
)
_IN_COMMENT: Final = re.compile(r"[()]|\\.", re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_LINE_BREAKS: Final = re.compile(r"[\r\n]++")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LOSS: Final = re.compile("invalid address|end of header|missing trailing '>'")
"""Defects with which `email` drops a part of a header that a program sets."""


def sender_and_recipients(message: object) -> tuple[str, list[str]]:
    """Return the addresses that `smtplib.SMTP.send_message` uses for `message`.

    Raises TypeError if `message` is not a message, and ValueError if a header cannot be read.
    """
    if not isinstance(message, Message):
        raise TypeError(f"an EmailMessage is needed, not {show(message)}")
    headers: dict[str, Any] = {}
    blocks = 0
    # The stored values, because `message[name]` parses them anew, and not always the same way.
    for name, value in message.raw_items():
        name = name.lower()
        headers.setdefault(name, value)
        blocks += name == "resent-date"
    if blocks > 1:
        raise ValueError("the message has more than one Resent- block; which one is meant?")
    prefix = "Resent-" if blocks else ""
    sender = f"{prefix}Sender"
    if sender.lower() not in headers:
        sender = f"{prefix}From"
    if sender.lower() not in headers:
        raise ValueError(f"the message has neither {prefix}Sender nor {prefix}From")
    recipients: list[str] = []
    for name in (f"{prefix}To", f"{prefix}Bcc", f"{prefix}Cc"):
        if headers.get(name.lower()) is not None:
            recipients += _recipients(name, headers[name.lower()])
    return _sender(sender, headers[sender.lower()]), recipients


def _sender(name: str, value: object) -> str:
    text = _text(name, value)
    try:
        addresses = read_addresses(text)
        sender = next(addresses, None)
        if sender:
            return normal_address(sender)[0]
        if sender == "" and next(addresses, None) is None:
            return NULL_SENDER
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    raise ValueError(f"{name}: {show(text)} does not begin with an address")


def _recipients(name: str, value: object) -> Iterable[str]:
    text = _text(name, value)
    try:
        # `<>` alone is nobody.
        return normal_addresses(filter(None, read_addresses(text)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _text(name: str, value: object) -> str:
    """Return the text of a stored header; its bytes are read as UTF-8 (RFC 6532)."""
    try:
        text = str(value)
        defects = [str(defect) for defect in getattr(value, "defects", ())]
        if "\ufffd" in text and hasattr(value, "encode") and not isinstance(value, str):
            text = _text_of_chunks(value)
    except Exception as error:
        raise ValueError(f"{name}: not readable as text ({type(error).__name__})") from error
    if any(map(_LOSS.search, defects)):
        raise ValueError(f"{name}: {show(text)} has a recipient that is not an address")
    if _SURROGATE.search(text):
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        except UnicodeError:
            pass
    return text


def _text_of_chunks(header: Any) -> str:
    """Return the text of an `email.header.Header` that was made of raw bytes."""
    from email.header import decode_header

    chunks = decode_header(header)
    if len(chunks) == 1 and chunks[0][1] == "unknown-8bit" and isinstance(chunks[0][0], bytes):
        return chunks[0][0].decode("utf-8", "surrogateescape")
    return str(header)


def read_addresses(text: str) -> Iterator[str]:
    """Yield the addresses of an address header in their order; `<>` is the empty string.

    Semicolons separate addresses as commas do. Empty elements and empty groups yield nothing.
    Raises ValueError at the first element that is not an address.
    """
    start = 0
    in_group = False
    while start < len(text):
        simple = _SIMPLE.match(text, start)
        if simple and "=?" not in (address := simple[1] or simple[2]):
            yield address
            start = simple.end()
            continue
        tokens, separator, end = _element(text, start)
        if separator == ":":
            if in_group or not tokens or any(kind in "@<" for kind, _ in tokens):
                raise ValueError(f"{_shown(text, start, end)} has a colon out of place")
            in_group = True
        else:
            if separator == ";":
                in_group = False
            if tokens:
                odd = _address_of(tokens)
                if odd is None:
                    shown = _shown(text, start, end - len(separator))
                    raise ValueError(f"{shown} is not an address such as 'bob@example.com'")
                yield odd
        start = end


def _shown(text: str, start: int, end: int) -> str:
    return show(text[start:end].strip(" \t\r\n"))


def _element(text: str, start: int) -> tuple[list[Token], str, int]:
    """Return the tokens up to the next separator, the separator, and where it ends.

    The separator is `,`, `;`, `:` or, at the end of the header, the empty string.
    """
    tokens: list[Token] = []
    position = start
    in_angles = False
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # noqa: S101 - each character begins a token
        kind = match.lastgroup or ""
        position = match.end()
        if kind == "special":
            mark = match["special"]
            if not in_angles and mark in ",;:":
                return tokens, mark, position
            if mark in "<>":
                if in_angles == (mark == "<"):
                    break
                in_angles = not in_angles
            tokens.append((mark, mark))
        elif kind == "comment":
            position = _end_of_comment(text, position)
        elif kind == "unterminated":
            raise ValueError(f"{_shown(text, start, len(text))} has an unterminated quote")
        elif kind != "blank":
            tokens.append((kind, match[kind]))
    else:
        if not in_angles:
            return tokens, "", position
    raise ValueError(f"{_shown(text, start, len(text))} has an angle bracket without its twin")


def _end_of_comment(text: str, position: int) -> int:
    """Return where the comment ends whose opening parenthesis is just before `position`."""
    depth = 1
    for match in _IN_COMMENT.finditer(text, position):
        if match[0] == "(":
            depth += 1
        elif match[0] == ")":
            depth -= 1
            if not depth:
                return match.end()
    raise ValueError(f"{show(text)} has an unterminated comment")


def _address_of(tokens: list[Token]) -> str | None:
    """Return the address of an element, the empty string for `<>`, or None if it has none."""
    at = next((i for i, (kind, _) in enumerate(tokens) if kind == "<"), None)
    if at is None:
        return _addr_spec(tokens)
    name, inside = tokens[:at], tokens[at + 1 : -1]
    if tokens[-1][0] != ">" or any(kind in "<>" for kind, _ in inside):
        return None
    if not inside:
        return None if name else ""
    if inside[0][0] in "@,":
        # A source route: RFC 5322 (4.4) says to ignore it.
        colon = next((i for i, (kind, _) in enumerate(inside) if kind == ":"), None)
        if colon is None or any(kind in ("quoted", "junk", ";") for kind, _ in inside[:colon]):
            return None
        inside = inside[colon + 1 :]
    return _addr_spec(inside)


def _addr_spec(tokens: list[Token]) -> str | None:
    """Return the address that the tokens are, or None if they are not one."""
    at = next((i for i, (kind, _) in enumerate(tokens) if kind == "@"), None)
    if at is None:
        return None
    local = _dotted(tokens[:at], ("atom", "quoted"))
    domain = _dotted(tokens[at + 1 :], ("atom",))
    if domain is None and len(tokens) == at + 2 and tokens[-1][0] == "literal":
        domain = "".join(tokens[-1][1].split())
    if local is None or domain is None:
        return None
    address = f"{local}@{domain}"
    # An encoded word is decoded by one class of message and not by the other, and U+FFFD stands
    # for characters that are lost: who the recipient is cannot be said.
    if ("=?" in address and "?=" in address) or "\ufffd" in address:
        return None
    return address


def _dotted(tokens: list[Token], kinds: tuple[str, ...]) -> str | None:
    """Return words with dots between them as one text, or None if the tokens are not that."""
    after_word = has_quotes = False
    words = []
    for kind, word in tokens:
        if kind == ".":
            after_word = False
        elif after_word or kind not in kinds:
            return None
        else:
            after_word = True
            if kind == "quoted":
                has_quotes = True
                word = _QUOTED_PAIR.sub(r"\1", _LINE_BREAKS.sub("", word))
        words.append(word)
    if not words:
        return None
    return written_local_part("".join(words)) if has_quotes else "".join(words)
