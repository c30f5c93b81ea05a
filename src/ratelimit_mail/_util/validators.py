"""Validators of fields: one of several words, a name, a whole number, or True and False."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs

from ratelimit_mail._util.text import show

__all__ = ["flag", "name", "name_or_none", "one_of", "prefix_errors", "whole_number"]

_NAME: Final = re.compile(r"[A-Za-z0-9._ -]{1,64}")


def one_of(*words: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a validator that raises ValueError if the value is not one of `words`."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name}: {show(value)} is not one of {', '.join(words)}")

    return check


def name(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raise TypeError or ValueError if the value is not a name."""
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a name is a string, not {show(value)}")
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{attribute.name}: {show(value)} is not a name of 1 to 64 letters, digits,"
            " dots, dashes, underscores and spaces"
        )


def name_or_none(self: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raise TypeError or ValueError if the value is neither a name nor None."""
    if value is not None:
        name(self, attribute, value)


def flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raise TypeError if the value is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name}: True or False is needed, not {show(value)}")


def whole_number(field: str, value: object) -> int:
    """Return `value`. Raise TypeError that names `field` if it is not an int; a bool is not."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{field}: a whole number is needed, not {show(value)}")
    return value


@contextmanager
def prefix_errors(field: str) -> Iterator[None]:
    """Put `field` before the text of a TypeError or ValueError that the block raises."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{field}: {error}") from None
