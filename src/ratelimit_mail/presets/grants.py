"""Convert plain addresses to the grants and exemptions that a policy takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ratelimit_mail._util.text import show
from ratelimit_mail.overrides import Concession

__all__ = ["conceded"]

Kind = TypeVar("Kind", bound=Concession)


def conceded(kind: type[Kind], given: Iterable[Kind | str], reason: str) -> list[Kind]:
    """Return the objects in `given`, and one `kind` for all its addresses, with `reason`."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        name = kind.__name__
        raise TypeError(
            f"{name.lower()}s: a list of addresses, domains or {name} objects is needed,"
            f" not {show(given)}"
        )
    whole: list[Kind] = []
    plain: list[str] = []
    for each in given:
        if isinstance(each, str):
            plain.append(each)
        else:
            whole.append(each)
    return [*whole, kind(senders=plain, reason=reason)] if plain else whole
