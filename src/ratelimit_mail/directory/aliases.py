"""Aliases and their owners: an alias has one owner, and an owner is not an alias."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import prefix_errors
from ratelimit_mail.addresses import folded, normal_address

__all__ = ["add_alias", "first_invalid_alias", "invert_aliases", "normal_aliases"]


def normal_aliases(value: Mapping[str, str]) -> Mapping[str, str]:
    """Return a read-only copy of a mapping of owner by alias, with normal addresses."""
    if not isinstance(value, Mapping):
        raise TypeError(
            "aliases: owners by alias such as {'a.smith@uwo.ca': 'ann@uwo.ca'} are needed,"
            f" not {show(value)}"
        )
    aliases: dict[str, str] = {}
    for alias, owner in value.items():
        add_alias(aliases, alias, owner)
    return MappingProxyType(aliases)


def invert_aliases(value: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return the owner by alias, from a mapping of the aliases by owner."""
    if not isinstance(value, Mapping):
        raise TypeError(
            "from_dict: aliases by owner such as {'ann@uwo.ca': ['a.smith@uwo.ca']} are needed,"
            f" not {show(value)}"
        )
    aliases: dict[str, str] = {}
    for owner, of_owner in value.items():
        if isinstance(of_owner, str | bytes) or not isinstance(of_owner, Iterable):
            raise TypeError(
                f"from_dict: a list of the aliases of {show(owner)} is needed, not {show(of_owner)}"
            )
        for alias in of_owner:
            add_alias(aliases, alias, owner)
    return aliases


def add_alias(aliases: dict[str, str], alias: str, owner: str) -> str:
    """Add one alias to `aliases`, and return it as a normal address.

    Raises ValueError if the alias already has another owner, or is its own owner.
    """
    with prefix_errors("alias"):
        normal_alias, _ = normal_address(alias)
    with prefix_errors("owner"):
        normal_owner, _ = normal_address(owner)
    if normal_alias == normal_owner:
        raise ValueError(
            f"alias: {show(normal_alias)} is named as an alias of itself; leave it out"
        )
    first_owner = aliases.setdefault(normal_alias, normal_owner)
    if folded(first_owner) != folded(normal_owner):
        raise ValueError(
            f"alias: {show(normal_alias)} has two owners,"
            f" {show(first_owner)} and {show(normal_owner)}"
        )
    return normal_alias


def first_invalid_alias(
    aliases: Mapping[str, str], lists: Container[str]
) -> tuple[str, str] | None:
    """Return the first alias that conflicts with a list or another alias, and why; None if all fit.

    lists: the addresses of the mailing lists.
    """
    for alias, owner in aliases.items():
        if alias in lists:
            return alias, f"{show(alias)} is a mailing list and an alias of {show(owner)} at once"
        if owner in lists:
            return alias, f"{show(alias)} is an alias of {show(owner)}, which is a mailing list"
        if owner in aliases:
            return alias, (
                f"{show(alias)} is an alias of {show(owner)}, which is itself an alias of"
                f" {show(aliases[owner])}; name the owner, an address that is not an alias"
            )
    return None
