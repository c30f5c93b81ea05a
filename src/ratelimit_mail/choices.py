"""The validator of a field that holds one of a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ratelimit_mail.showing import show

__all__ = ["one_of"]


def one_of(*words: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Raises ValueError where the field holds none of `words`."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name}: {show(value)} is none of {', '.join(words)}")

    return check
