"""Read addresses from pasted text: one a line, or separated by commas, semicolons or blanks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import attrs

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.addresses import folded, normal_address

__all__ = ["LONGEST_TEXT", "PastedAddress", "PastedText", "UnreadableText", "parse_addresses"]

LONGEST_TEXT: Final = 16 * 1024 * 1024
"""In characters: some 400,000 addresses with names."""

LONGEST_NAME: Final = 200

_LINE: Final = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""Characters that a copy from a web page or a spreadsheet brings along, and nobody sees."""
_BLANKS: Final = re.compile(r"\s+")
# Each alternative begins with another character, and the repetitions are possessive.
_PIECE: Final = re.compile(r'(?:[^",;<]|"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z)|<[^>]*+(?:>|\Z))*+')
"""All up to a comma or semicolon that stands neither in quotes nor in angle brackets."""
_WITH_NAME: Final = re.compile(
    r'(?P<name>(?:[^"<]|"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z))*+)<(?P<address>[^<>]*+)>', re.DOTALL
)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)

Piece = tuple[str, str | None, str]
"""A name, the address or None if there is none, and the text of both."""


@attrs.frozen
class PastedAddress:
    """An address of the text. line: counted from 1. name: the name before it; may be empty."""

    line: int
    address: str
    name: str = ""


@attrs.frozen
class UnreadableText:
    """A piece of the text that is not an address: its line, the text and the reason."""

    line: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.reason}"


@attrs.frozen
class PastedText:
    """What a text holds, in its order.

    addresses: each address once; of several spellings, the first.
    repeated: the further times that an address stands in the text.
    unreadable: what is not an address.
    """

    addresses: tuple[PastedAddress, ...]
    repeated: tuple[PastedAddress, ...]
    unreadable: tuple[UnreadableText, ...]


def parse_addresses(text: str) -> PastedText:
    """Return the addresses of a text that a person pasted.

    An address is bare, or stands in angle brackets after a name: `Ann Smith <ann@uwo.ca>`, also
    `"Smith, Ann" <ann@uwo.ca>` and `Smith, Ann <ann@uwo.ca>`. Line breaks, commas and semicolons
    separate addresses, and so do blanks between bare ones. A line that begins with `#` is a
    comment. Characters that are not visible are ignored.

    Nothing is dropped silently: what is not an address is in `unreadable`. Takes linear time.
    Raises TypeError if `text` is not a string, and ValueError if it is longer than LONGEST_TEXT.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: a string is needed, not {show(text)}")
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"text: {len(text):,} characters are too many; at most {LONGEST_TEXT:,} are possible"
        )
    addresses: dict[str, PastedAddress] = {}
    repeated: list[PastedAddress] = []
    unreadable: list[UnreadableText] = []
    for number, line in enumerate(_LINE.split(text), 1):
        for name, address, piece in _addresses_in(_INVISIBLE.sub("", line)):
            try:
                if address is None:
                    raise ValueError(f"{show(piece)} is not an address such as 'bob@example.com'")
                pasted = PastedAddress(number, normal_address(address)[0], name)
            except ValueError as error:
                unreadable.append(UnreadableText(number, piece, str(error)))
                continue
            if addresses.setdefault(folded(pasted.address), pasted) is not pasted:
                repeated.append(pasted)
    return PastedText(tuple(addresses.values()), tuple(repeated), tuple(unreadable))


def _addresses_in(line: str) -> Iterator[Piece]:
    """Yield the pieces of a line."""
    if line.lstrip().startswith("#"):
        return
    surname = ""  # a piece without an address: perhaps the surname in `Smith, Ann <ann@uwo.ca>`
    for text, separator in _separated(line):
        named = _WITH_NAME.match(text)
        if surname and not (named and named["name"].strip()):
            yield "", None, surname
            surname = ""
        if named is not None:
            yield from _named_addresses(text, surname)
            surname = ""
        elif "@" in text:
            yield from _bare_addresses(text)
        elif separator == ",":
            surname = text
        else:
            yield "", None, text
    if surname:
        yield "", None, surname


def _separated(line: str) -> Iterator[tuple[str, str]]:
    """Yield what stands between separators, without blanks around it, and what ends it."""
    position = 0
    while position <= len(line):
        match = _PIECE.match(line, position)
        end = position if match is None else match.end()
        piece = line[position:end].strip()
        if piece:
            yield piece, line[end : end + 1]
        position = end + 1


def _named_addresses(text: str, surname: str) -> Iterator[Piece]:
    """Yield addresses with their names, and what follows the last without a separator."""
    position = 0
    while named := _WITH_NAME.match(text, position):
        name = _unquoted(named["name"].strip())
        full_name = f"{surname}, {name}" if surname else name
        yield _name(full_name), _bare(named["address"]), named[0].strip()
        surname = ""
        position = named.end()
    rest = text[position:].strip()
    if "@" in rest:
        yield from _bare_addresses(rest)
    elif rest:
        yield "", None, rest


def _bare_addresses(text: str) -> Iterator[Piece]:
    """Yield bare addresses with blanks between them, or the whole text as one."""
    words = text.split()
    if '"' in text or not all("@" in word for word in words):
        words = [text]
    for word in words:
        yield "", _bare(word), word


def _bare(address: str) -> str:
    address = address.strip()
    return address[7:] if address[:7].lower() == "mailto:" else address


def _unquoted(name: str) -> str:
    if len(name) >= 2 and name[0] == '"' == name[-1]:
        return _QUOTED_PAIR.sub(r"\1", name[1:-1])
    return name


def _name(text: str) -> str:
    return escape(_BLANKS.sub(" ", text).strip())[:LONGEST_NAME]
