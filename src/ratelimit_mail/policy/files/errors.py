"""Errors in a policy file: the place and the text of each, as one line of a PolicyFileError."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from cattrs.errors import (
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
)

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.policy.files.schema import EVERY_KEY, keys_of

__all__ = ["Misplaced", "as_file_error", "join", "under"]

MOST_LINES: Final = 20

LONGEST_PATH: Final = 400
"""Characters of a path that an error shows whole."""


class Misplaced(ValueError):
    """The error that something at `place`, such as `limits[0].rate`, is wrong."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(f"{place}: {text}" if place else text)
        self.place = place
        self.text = text


def join(place: str, more: str) -> str:
    """Return the place of `more`, a key or an index, within `place`."""
    return place + more if not place or not more or more[0] == "[" else f"{place}.{more}"


@contextmanager
def under(place: str) -> Iterator[None]:
    """Put `place` before the place of a Misplaced that the block raises."""
    try:
        yield
    except Misplaced as error:
        raise Misplaced(join(place, error.place), error.text) from None


@contextmanager
def as_file_error(file: str | None) -> Iterator[None]:
    """Turn the errors that the block raises into one PolicyFileError, with a line for each."""
    try:
        yield
    except (ClassValidationError, ValueError, TypeError) as error:
        all_lines = _lines(error, "")
        lines = list(islice(all_lines, MOST_LINES))
        if more := sum(1 for _ in all_lines):
            lines.append(f"and {more:,} more")
        start = "" if file is None else f"{file if len(file) <= LONGEST_PATH else show(file)}: "
        raise PolicyFileError([escape(start + line) for line in lines]) from None


def _lines(error: BaseException, place: str) -> Iterator[str]:
    match error:
        case ClassValidationError():
            with_note, without_note = error.group_exceptions()
            for each, note in with_note:
                yield from _lines(each, join(place, note.name))
            for each in without_note:
                yield from _lines(each, place)
        case IterableValidationError():
            for each, index in error.group_exceptions()[0]:
                yield from _lines(each, join(place, f"[{index.index}]"))
        case ForbiddenExtraKeysError():
            known = keys_of(error.cl)
            for number, key in enumerate(sorted(error.extra_fields)):
                # Later lines are only counted, and finding a similar key is slow.
                hint = _unknown(key, known) if number < MOST_LINES else ""
                yield f"{join(place, _key(key))}: {hint}"
        case KeyError():
            yield f"{place}: this key is needed"
        case Misplaced():
            yield _line(join(place, error.place), error.text)
        case _:
            yield _text_line(place, str(error))


def _text_line(place: str, text: str) -> str:
    # The library's own errors begin with the field that is wrong, and its name is the key.
    key, colon, rest = text.partition(": ")
    return _line(join(place, key), rest) if colon and key in EVERY_KEY else _line(place, text)


def _line(place: str, text: str) -> str:
    return f"{place}: {text}" if place else text


def _key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 60 else show(key)


def _unknown(key: str, known: Collection[str]) -> str:
    if key in EVERY_KEY:
        return (
            "there is no such key; another kind of limit or another table has it; there are"
            f" {', '.join(known)}"
        )
    near = difflib.get_close_matches(key[:100].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"there is no such key; {hint}"
