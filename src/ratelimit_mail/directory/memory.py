"""Directory: the aliases and mailing lists of one institution, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import folded, normal_address
from ratelimit_mail.directory.address_map import AddressMap
from ratelimit_mail.directory.aliases import first_invalid_alias, invert_aliases, normal_aliases
from ratelimit_mail.directory.mailing_lists import MailingList
from ratelimit_mail.directory.nesting import cycle_text, first_cycle, people_on

__all__ = ["Directory"]

_SAME: Final = (
    "that differ in case alone; under Policy(case_sensitive=True) they are different addresses"
)


def _checked_lists(values: Iterable[MailingList]) -> tuple[MailingList, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"lists: a list of MailingList objects is needed, not {show(values)}")
    lists = tuple(values)
    addresses: set[str] = set()
    for each in lists:
        if not isinstance(each, MailingList):
            raise TypeError(f"lists: {show(each)} is not a MailingList")
        if each.address in addresses:
            raise ValueError(f"lists: there are two of the address {show(each.address)}")
        addresses.add(each.address)
    return lists


@attrs.frozen
class Directory:
    """The aliases and mailing lists of one institution.

    aliases: the owner's primary address by alias, `{"a.smith@uwo.ca": "ann@uwo.ca"}`.
    lists: the mailing lists.

    `owner` and `mailing_list` take addresses as `addresses.normal_address` writes them, and find
    them in any case of their letters. A policy looks them up as it compares them.

    Raises TypeError or ValueError that names the address, for an alias that has two owners, is
    its own owner or has an alias as its owner, for an address that is a list and also an alias
    or an owner, for two lists of one address, and for a list that contains itself, directly or
    through other lists.
    """

    # A mapping cannot be hashed; equal directories have equal lists, and so equal hashes.
    aliases: Mapping[str, str] = attrs.field(factory=dict, converter=normal_aliases, hash=False)
    lists: tuple[MailingList, ...] = attrs.field(default=(), converter=_checked_lists, eq=frozenset)
    _owner_at: AddressMap[str] = attrs.field(init=False, repr=False, eq=False)
    _list_at: AddressMap[MailingList] = attrs.field(init=False, repr=False, eq=False)
    _aliases_of: dict[str, tuple[str, list[str]]] = attrs.field(init=False, repr=False, eq=False)
    """Each owner as written first, and the owner's aliases, by the owner's folded address."""

    @_owner_at.default
    def _owners_by_alias(self) -> AddressMap[str]:
        return AddressMap(self.aliases)

    @_list_at.default
    def _lists_by_address(self) -> AddressMap[MailingList]:
        return AddressMap({each.address: self._with_owners(each) for each in self.lists})

    @_aliases_of.default
    def _aliases_by_owner(self) -> dict[str, tuple[str, list[str]]]:
        aliases: dict[str, tuple[str, list[str]]] = {}
        for alias, owner in self.aliases.items():
            aliases.setdefault(folded(owner), (owner, []))[1].append(alias)
        return aliases

    def __attrs_post_init__(self) -> None:
        if invalid := first_invalid_alias(self.aliases, self._list_at.as_written):
            _, why = invalid
            raise ValueError(f"aliases: {why}")
        if cycle := first_cycle(self._list_at):
            raise ValueError(f"lists: {show(cycle[0])} contains itself: {cycle_text(cycle)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Directory, (dict(self.aliases), self.lists)

    def __repr__(self) -> str:
        return f"<Directory: aliases={len(self.aliases):,} lists={len(self.lists):,}>"

    @classmethod
    def from_dict(
        cls, aliases: Mapping[str, Iterable[str]], *, lists: Iterable[MailingList] = ()
    ) -> Directory:
        """Return a directory from the aliases by owner, `{"ann@uwo.ca": ["a.smith@uwo.ca"]}`.

        lists: the mailing lists.
        """
        return cls(invert_aliases(aliases), lists)

    @classmethod
    def from_csv(
        cls,
        path: str | PathLike[str] | None = None,
        lists_path: str | PathLike[str] | None = None,
        *,
        lists: Iterable[MailingList] = (),
    ) -> Directory:
        """Return a directory from a CSV file of aliases, one of mailing lists, or both.

        path: its columns are `alias` (or `proxy_address`) and `owner` (or `primary`).
        lists_path: its columns are `list` and, each optional, `members`, `subscription`,
            `posting`, `posters`, `moderators` and `exempt` (`yes` or `no`). Addresses in one
            cell are separated by spaces, semicolons or commas. Further rows of a list add to
            its members, posters and moderators, and leave the other columns empty.
        lists: more mailing lists.

        The first row names the columns, in any order and case; unknown columns are ignored. The
        files are UTF-8.

        Raises ValueError that names file and line, and OSError if a file cannot be read.
        """
        # Imported here, because few programs read CSV files.
        from ratelimit_mail.directory.csv_files import read_directory

        return cls(*read_directory(path, lists_path, _checked_lists(lists)))

    def owner(self, address: str) -> str:
        """Return the primary address of the alias `address`; `address` if it is not an alias."""
        return self._owner_at.get(address, address)

    def owner_as_written(self, address: str) -> str:
        """Return the same as `owner`, for an alias in this very spelling alone.

        address: as an envelope has it, with its capitals.
        """
        return self.aliases.get(address, address)

    def mailing_list(self, address: str) -> MailingList | None:
        """Return the mailing list at `address`; None if there is none.

        If an alias is among its posters or moderators, so is the alias's owner.
        """
        return self._list_at.get(address)

    def mailing_list_as_written(self, address: str) -> MailingList | None:
        """Return the same as `mailing_list`, for a list in this very spelling alone.

        address: as an envelope has it, with its capitals.
        """
        return self._list_at.as_written.get(address)

    def check_spellings(self) -> None:
        """Raise ValueError if entries that differ in the case of letters alone contradict another.

        A policy that compares without case could not choose between them.
        """
        aliases: dict[str, str] = {}
        for alias, owner in self.aliases.items():
            key, of_owner = folded(alias), folded(owner)
            first_owner = aliases.setdefault(key, of_owner) if key != of_owner else of_owner
            if first_owner != of_owner:
                raise ValueError(
                    f"directory: {show(key)} has two owners, {show(first_owner)} and"
                    f" {show(of_owner)}, by aliases {_SAME}"
                )
        lists: set[str] = set()
        for each in self.lists:
            if (key := folded(each.address)) in lists:
                raise ValueError(f"directory: {show(key)} is the address of two lists {_SAME}")
            lists.add(key)
        if invalid := first_invalid_alias(aliases, lists):
            _, why = invalid
            raise ValueError(f"directory: {why}")

    def aliases_of(self, owner: str) -> tuple[str, ...]:
        """Return the aliases of the primary address `owner`."""
        _, aliases = self._aliases_of.get(folded(normal_address(owner)[0]), ("", ()))
        return tuple(aliases)

    def most_aliases(self) -> tuple[str, int]:
        """Return the owner with the most aliases, and how many; `("", 0)` if there are none."""
        most = max(self._aliases_of.values(), key=lambda each: len(each[1]), default=("", ()))
        return most[0], len(most[1])

    def members_of(self, address: str) -> frozenset[str]:
        """Return the primary addresses of all people on a list, those on nested lists included.

        Raises ValueError if `address` is not a mailing list.
        """
        normal = normal_address(address)[0]
        if normal not in self._list_at:
            raise ValueError(f"{show(address)} is not a mailing list of this directory")
        owners = sorted(map(self.owner, people_on(normal, self._list_at)))
        people = {folded(owner): owner for owner in owners}
        return frozenset(people.values())

    def with_list(self, mailing_list: MailingList) -> Directory:
        """Return this directory with `mailing_list`, in place of any list at the same address."""
        (new,) = _checked_lists((mailing_list,))
        replaced = self._list_at.spelling(new.address)
        lists = [new if each.address == replaced else each for each in self.lists]
        return attrs.evolve(self, lists=lists if replaced in self._list_at else [*lists, new])

    def _with_owners(self, mailing_list: MailingList) -> MailingList:
        # An alias is its owner: a person who may post under one may post under the other.
        posters = _owners(mailing_list.posters, self._owner_at)
        moderators = _owners(mailing_list.moderators, self._owner_at)
        if not posters and not moderators:
            return mailing_list
        return attrs.evolve(
            mailing_list,
            posters=(*mailing_list.posters, *posters),
            moderators=(*mailing_list.moderators, *moderators),
        )


def _owners(addresses: Iterable[str], aliases: Mapping[str, str]) -> list[str]:
    return [aliases[address] for address in addresses if address in aliases]
