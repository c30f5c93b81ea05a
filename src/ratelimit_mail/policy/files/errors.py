"""What is wrong with a policy file: where it stands, and in words, one line each."""

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

from ratelimit_mail._util.text import show
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.policy.files.schema import EVERY_KEY, keys_of

__all__ = ["Misplaced", "joined", "named", "under"]

MOST_TOLD: Final = 20


class Misplaced(ValueError):
    """Something is wrong at `place`, such as `limits[0].rate`."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(f"{place}: {text}" if place else text)
        self.place = place
        self.text = text


def joined(place: str, more: str) -> str:
    """The place `more`, a key or an index, within `place`."""
    return place + more if not place or not more or more[0] == "[" else f"{place}.{more}"


@contextmanager
def under(place: str) -> Iterator[None]:
    """What is misplaced in here is so within `place`."""
    try:
        yield
    except Misplaced as error:
        raise Misplaced(joined(place, error.place), error.text) from None


@contextmanager
def named(file: str | None) -> Iterator[None]:
    """What goes wrong in here is wrong with that file: all of it, a line each."""
    try:
        yield
    except (ClassValidationError, ValueError, TypeError) as error:
        every = _lines(error, "")
        lines = list(islice(every, MOST_TOLD))
        if rest := sum(1 for _ in every):
            lines.append(f"and {rest:,} more")
        start = "" if file is None else f"{_one_line(file)}: "
        raise PolicyFileError([start + _one_line(line) for line in lines]) from None


def _lines(error: BaseException, place: str) -> Iterator[str]:
    match error:
        case ClassValidationError():
            noted, others = error.group_exceptions()
            for each, note in noted:
                yield from _lines(each, joined(place, note.name))
            for each in others:
                yield from _lines(each, place)
        case IterableValidationError():
            for each, index in error.group_exceptions()[0]:
                yield from _lines(each, joined(place, f"[{index.index}]"))
        case ForbiddenExtraKeysError():
            for key in sorted(error.extra_fields):
                yield f"{joined(place, _key(key))}: {_unknown(key, keys_of(error.cl))}"
        case KeyError():
            yield f"{place}: this key is needed"
        case Misplaced():
            yield _line(joined(place, error.place), error.text)
        case _:
            yield _said(place, str(error))


def _said(place: str, text: str) -> str:
    # The library's own errors begin with the field that is wrong, which is the key.
    key, colon, rest = text.partition(": ")
    return _line(joined(place, key), rest) if colon and key in EVERY_KEY else _line(place, text)


def _line(place: str, text: str) -> str:
    return f"{place}: {text}" if place else text


def _key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 60 else show(key)


def _unknown(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key[:100].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"there is no such key; {hint}"


def _one_line(text: str) -> str:
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)
