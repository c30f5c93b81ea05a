"""Convert plain addresses to the grants or exemptions that a policy takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ratelimit_mail._util.text import show
from ratelimit_mail.overrides import Concession

__all__ = ["concessions"]

Kind = TypeVar("Kind", bound=Concession)


def concessions(kind: type[Kind], items: Iterable[Kind | str], reason: str) -> list[Kind]:
    """Return the objects in `items`, and one `kind` for all its addresses, with `reason`."""
    if isinstance(items, str) or not isinstance(items, Iterable):
        name = kind.__name__
        raise TypeError(
            f"{name.lower()}s: a list of addresses, domains or {name} objects is needed,"
            f" not {show(items)}"
        )
    objects: list[Kind] = []
    addresses: list[str] = []
    for item in items:
        if isinstance(item, str):
            addresses.append(item)
        else:
            objects.append(item)
    return [*objects, kind(senders=addresses, reason=reason)] if addresses else objects
