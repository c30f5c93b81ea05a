"""The validators of fields that hold one of a few words, a name, or yes and no."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from ratelimit_mail._util.text import show

__all__ = ["flag", "name", "name_or_none", "one_of"]

_NAME: Final = re.compile(r"[A-Za-z0-9._ -]{1,64}")


def one_of(*words: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Raises ValueError where the field holds none of `words`."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name}: {show(value)} is none of {', '.join(words)}")

    return check


def name(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raises TypeError or ValueError where the field holds no name."""
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a name is a string, not {show(value)}")
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{attribute.name}: {show(value)} is no name of 1 to 64 letters, digits,"
            " dots, dashes, underscores and spaces"
        )


def name_or_none(self: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """The same, where None is as good."""
    if value is not None:
        name(self, attribute, value)


def flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raises TypeError where the field is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name}: True or False is needed, not {show(value)}")
