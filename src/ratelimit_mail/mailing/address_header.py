"""Fill in an address header, so that a value never becomes another address or another header.

The commas of the template separate mailboxes; those of a value do not. The name and the address of
a mailbox are filled in separately.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.headerregistry import Address
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail.directory import parse_addresses
from ratelimit_mail.mailing.templates import Template

__all__ = ["AddressHeader", "check_line"]

# What has no end goes on to the end of the text: a second look at it would take quadratic time.
_JINJA: Final = "|".join(
    rf"\{{{start}(?:(?!{end}\}}).)*+(?:{end}\}}|\Z)"
    for start, end in ((r"\{", r"\}"), ("%", "%"), (r"\#", r"\#"))
)
_MAILBOX: Final = re.compile(rf'(?:{_JINJA}|"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z)|[^,;"])*+', re.DOTALL)
_NAME_AND_ADDRESS: Final = re.compile(
    rf"(?P<name>(?:{_JINJA}|[^<])*+)<(?P<address>(?:{_JINJA}|[^>])*+)>\s*", re.DOTALL
)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9_+-]+)*@[a-z0-9.-]+")
"""An address that need not be read by the parser of `email`, which is slow."""

LONGEST: Final = 998
"""In characters, of one header: the longest line of RFC 5322."""

LONGEST_LIST: Final = 100_000
"""In characters, of addresses, which are written in several lines."""


def check_line(text: str, where: str, longest: int = LONGEST) -> str:
    """Return a header's text without blanks around it; raise ValueError if it is not one line."""
    text = text.strip()
    if _CONTROL.search(text):
        raise ValueError(f"{where}: {show(text)} has a line break or another control character")
    if len(text) > longest:
        raise ValueError(f"{where}: {len(text):,} characters; at most {longest:,} are possible")
    return text


class AddressHeader:
    """The template of one header with addresses, such as `To`."""

    def __init__(self, source: str, name: str) -> None:
        self._name = name
        self._mailboxes: list[tuple[Template | None, Template]] = []
        self._is_fixed = "{" not in source
        self._fixed: list[Address] | None = None
        # With a statement, the commas of the template may be those of a name or a loop.
        pieces = [source] if "{%" in source else _split(source)
        for piece in pieces:
            match = None if "{%" in source else _NAME_AND_ADDRESS.fullmatch(piece)
            if match is None:
                self._mailboxes.append((None, Template(piece, name)))
                continue
            display = match["name"].strip()
            if len(display) >= 2 and display[0] == '"' == display[-1]:
                display = display[1:-1]
            self._mailboxes.append((Template(display, name), Template(match["address"], name)))

    @property
    def names(self) -> frozenset[str]:
        """The names that need a value."""
        templates = (each for mailbox in self._mailboxes for each in mailbox if each is not None)
        return frozenset().union(*(each.names for each in templates))

    def fill(self, context: Mapping[str, object]) -> list[Address]:
        """Return the addresses; a mailbox whose address is empty is left out.

        Raises ValueError for what is not an address.
        """
        if self._is_fixed:
            if self._fixed is None:
                self._fixed = self._fill(context)
            return self._fixed
        return self._fill(context)

    def _fill(self, context: Mapping[str, object]) -> list[Address]:
        addresses: list[Address] = []
        for display, template in self._mailboxes:
            text = check_line(template.fill(context), self._name, LONGEST_LIST)
            name = "" if display is None else check_line(display.fill(context), self._name)
            pasted = parse_addresses(text)
            if pasted.unreadable:
                raise ValueError(f"{self._name}: {pasted.unreadable[0].reason}")
            if display is not None and len(pasted.addresses) > 1:
                raise ValueError(f"{self._name}: {show(text)} is more than one address")
            addresses += (
                _address(self._name, name or each.name, each.address) for each in pasted.addresses
            )
        return addresses


def _address(header: str, name: str, address: str) -> Address:
    if _PLAIN.fullmatch(address):
        local, _, domain = address.rpartition("@")
        return Address(name, local, domain)
    try:
        return Address(display_name=name, addr_spec=address)
    except Exception as error:  # defects of the parser of `email` are exceptions of many classes
        raise ValueError(f"{header}: {show(address)} cannot stand in a header: {error}") from None


def _split(source: str) -> list[str]:
    """Return the mailboxes of a header's template."""
    pieces: list[str] = []
    position = 0
    while position < len(source):
        match = _MAILBOX.match(source, position)
        end = position if match is None else match.end()
        pieces.append(source[position:end].strip())
        position = end + 1
    return [piece for piece in pieces if piece]
