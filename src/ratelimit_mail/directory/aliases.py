"""Aliases and their owners: each alias has one, and an owner is no alias."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import normal_address

__all__ = ["add_alias", "first_wrong_alias", "flattened", "normal_aliases"]


def normal_aliases(value: object) -> Mapping[str, str]:
    """Owner by alias, each address in its one spelling, for reading only."""
    if not isinstance(value, Mapping):
        raise TypeError(
            "aliases: owners by alias such as {'a.smith@uwo.ca': 'ann@uwo.ca'} are needed,"
            f" not {show(value)}"
        )
    aliases: dict[str, str] = {}
    for alias, owner in value.items():
        add_alias(aliases, alias, owner)
    return MappingProxyType(aliases)


def flattened(value: object) -> dict[str, str]:
    """Owner by alias, where `value` has the aliases by owner."""
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


def add_alias(aliases: dict[str, str], alias: object, owner: object) -> str:
    """Adds one alias to `aliases`, and gives it in its one spelling.

    Raises where it has another owner there already.
    """
    its = _normal("alias", alias)
    owners = _normal("owner", owner)
    if its == owners:
        raise ValueError(f"alias: {show(its)} is named as an alias of itself; leave it out")
    known = aliases.setdefault(its, owners)
    if known != owners:
        raise ValueError(f"alias: {show(its)} has two owners, {show(known)} and {show(owners)}")
    return its


def first_wrong_alias(aliases: Mapping[str, str], lists: Container[str]) -> tuple[str, str] | None:
    """The first alias that cannot be, and why; None where all can."""
    for alias, owner in aliases.items():
        if alias in lists:
            return alias, f"{show(alias)} is a mailing list and an alias of {show(owner)} at once"
        if owner in lists:
            return alias, f"{show(alias)} is an alias of {show(owner)}, which is a mailing list"
        if owner in aliases:
            return alias, (
                f"{show(alias)} is an alias of {show(owner)}, which is itself an alias of"
                f" {show(aliases[owner])}; name the owner, an address that is no alias"
            )
    return None


def _normal(what: str, value: object) -> str:
    try:
        return normal_address(value)[0]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None
