"""What a text may mean that is not a rate: an abbreviation, or a mistake to point out."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Guess", "guess_of"]

# The pieces of a text that may be a rate: numbers, words, and any other character by itself.
_PIECES: Final = re.compile(r"[0-9][0-9,_']*+|[a-z]++|\S", re.IGNORECASE)

_UNITS: Final = ("second", "minute", "hour", "day", "month", "year")

# What is written for a unit, and the unit with its factor.
_ABBREVIATIONS: Final = {
    **dict.fromkeys(("s", "sec", "secs"), ("second", 1)),
    **dict.fromkeys(("min", "mins"), ("minute", 1)),
    **dict.fromkeys(("h", "hr", "hrs"), ("hour", 1)),
    **dict.fromkeys(("d",), ("day", 1)),
    **dict.fromkeys(("w", "wk", "week", "weeks"), ("day", 7)),
    **dict.fromkeys(("y", "yr", "yrs"), ("year", 1)),
    **{each: (each, 1) for each in _UNITS},
    **{f"{each}s": (each, 1) for each in _UNITS},
}

_DIGITS: Final = frozenset("0123456789")

_GROUPING: Final = {ord(each): None for each in ",_'"}

_COUNTED: Final = frozenset(
    noun + ending
    for noun in ("email", "letter", "mail", "message", "msg", "recipient")
    for ending in ("", "s")
)


class Guess(NamedTuple):
    """What a text that `limits` does not read may mean: one rate, or several; in its notation.

    is_certain: whether the text is an abbreviation with one meaning.
    """

    rates: tuple[str, ...]
    is_certain: bool


def guess_of(text: str, longest: int) -> Guess | None:
    """Return what `text` may mean; None if that is not known.

    longest: the most characters of a number or word.
    """
    pieces = [each.lower() for each in _PIECES.findall(text)][::-1]
    if not pieces or pieces[-1][0] not in _DIGITS or max(map(len, pieces)) > longest:
        return None
    number = pieces.pop()
    amount = number.translate(_GROUPING)
    is_certain = amount == number
    if pieces and pieces[-1] == "k":
        pieces.pop()
        amount += "000"
    if pieces and pieces[-1] in _COUNTED:
        pieces.pop()
        is_certain = False
    if not pieces:
        return Guess(tuple(f"{amount}/{unit}" for unit in ("minute", "hour", "day")), False)
    separator = pieces.pop()
    is_certain &= separator in ("/", "per")
    if separator not in ("/", "per", "a", "an", "each", "every", "in"):
        return None
    multiple = int(pieces.pop()) if pieces and set(pieces[-1]) <= _DIGITS else 1
    if len(pieces) != 1:
        return None
    [unit] = pieces
    units = [_ABBREVIATIONS[unit]] if unit in _ABBREVIATIONS else _near(unit)
    is_certain &= unit in _ABBREVIATIONS
    rates = [_rate_text(amount, multiple * factor, word) for word, factor in units]
    return Guess(tuple(rates), is_certain) if rates else None


def _near(unit: str) -> list[tuple[str, int]]:
    """Return the units that a mistyped or ambiguous unit may mean."""
    if unit == "m":
        return [("minute", 1), ("month", 1)]
    import difflib  # slow to import, and needed for an error alone

    return [_ABBREVIATIONS[each] for each in difflib.get_close_matches(unit, _ABBREVIATIONS, n=1)]


def _rate_text(amount: str, multiple: int, unit: str) -> str:
    return f"{amount}/{unit}" if multiple == 1 else f"{amount} per {multiple} {unit}s"
