"""Directory: aliases and mailing lists in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import normal_address
from ratelimit_mail.directory.aliases import first_wrong_alias, flattened, normal_aliases
from ratelimit_mail.directory.mailing_lists import MailingList
from ratelimit_mail.directory.nesting import first_way_round, in_words, people_of

__all__ = ["Directory"]


def _lists(values: object) -> tuple[MailingList, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"lists: some of MailingList are needed, not {show(values)}")
    lists = tuple(values)
    addresses: set[str] = set()
    for one in lists:
        if not isinstance(one, MailingList):
            raise TypeError(f"lists: {show(one)} is no MailingList")
        if one.address in addresses:
            raise ValueError(f"lists: there are two of the address {show(one.address)}")
        addresses.add(one.address)
    return lists


@attrs.frozen
class Directory:
    """The aliases and mailing lists of one institution.

    aliases: the owner's primary address by alias, `{"a.smith@uwo.ca": "ann@uwo.ca"}`.
    lists: the mailing lists.

    `owner` and `mailing_list` take addresses as `addresses.normal_address` writes them.

    Raises TypeError or ValueError that names the address, for an alias with two owners, of
    itself or of another alias, an address that is a list and an alias or owner, two lists of
    one address, and a list that contains itself, also through others.
    """

    # A mapping has no hash; equal directories have equal lists, and so equal hashes.
    aliases: Mapping[str, str] = attrs.field(factory=dict, converter=normal_aliases, hash=False)
    lists: tuple[MailingList, ...] = attrs.field(default=(), converter=_lists, eq=frozenset)
    _list_of: dict[str, MailingList] = attrs.field(init=False, repr=False, eq=False)
    _aliases_of: dict[str, list[str]] = attrs.field(init=False, repr=False, eq=False)

    @_list_of.default
    def _lists_by_address(self) -> dict[str, MailingList]:
        return {one.address: self._with_owners(one) for one in self.lists}

    @_aliases_of.default
    def _aliases_by_owner(self) -> dict[str, list[str]]:
        aliases: dict[str, list[str]] = {}
        for alias, owner in self.aliases.items():
            aliases.setdefault(owner, []).append(alias)
        return aliases

    def __attrs_post_init__(self) -> None:
        if wrong := first_wrong_alias(self.aliases, self._list_of):
            raise ValueError(f"aliases: {wrong[1]}")
        if way := first_way_round(self._list_of):
            raise ValueError(f"lists: {show(way[0])} contains itself: {in_words(way)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Directory, (dict(self.aliases), self.lists)

    def __repr__(self) -> str:
        return f"<Directory: aliases={len(self.aliases):,} lists={len(self.lists):,}>"

    @classmethod
    def from_dict(
        cls, aliases: Mapping[str, Iterable[str]], *, lists: Iterable[MailingList] = ()
    ) -> Directory:
        """A directory from the aliases by owner, `{"ann@uwo.ca": ["a.smith@uwo.ca"]}`."""
        return cls(flattened(aliases), lists)

    @classmethod
    def from_csv(
        cls,
        path: str | PathLike[str] | None = None,
        lists_path: str | PathLike[str] | None = None,
        *,
        lists: Iterable[MailingList] = (),
    ) -> Directory:
        """A directory from a CSV file of aliases, one of mailing lists, or both.

        path: its columns are `alias` (or `proxy_address`) and `owner` (or `primary`).
        lists_path: its columns are `list` and, where wanted, `members`, `subscription`,
            `posting`, `posters`, `moderators` and `exempt` (`yes` or `no`). Addresses in one
            cell have spaces, semicolons or commas between them. More rows of one list add to
            its members, posters and moderators, and leave the rest empty.
        lists: more mailing lists.

        The first row names the columns, in any order and case; others are ignored. The
        files are UTF-8.

        Raises ValueError that names file and line, and OSError where a file cannot be read.
        """
        # Here, because few read files.
        from ratelimit_mail.directory.csv_files import read_directory

        return cls(*read_directory(path, lists_path, _lists(lists)))

    def owner(self, address: str) -> str:
        """The primary address that `address` is an alias of; `address` itself where it is none."""
        return self.aliases.get(address, address)

    def mailing_list(self, address: str) -> MailingList | None:
        """The mailing list of that address; None where it is none.

        Where an alias is among its posters or moderators, so is the alias's owner.
        """
        return self._list_of.get(address)

    def aliases_of(self, owner: str) -> tuple[str, ...]:
        """The aliases of that primary address."""
        return tuple(self._aliases_of.get(normal_address(owner)[0], ()))

    def most_aliases(self) -> tuple[str, int]:
        """Who has the most aliases, and how many; `("", 0)` where nobody has any."""
        most = max(self._aliases_of, key=lambda owner: len(self._aliases_of[owner]), default="")
        return most, len(self._aliases_of.get(most, ()))

    def members_of(self, address: str) -> frozenset[str]:
        """Everybody on the list of that address, by primary address, with those of nested lists.

        Raises ValueError where there is no such list.
        """
        normal = normal_address(address)[0]
        if normal not in self._list_of:
            raise ValueError(f"{show(address)} is no mailing list of this directory")
        return frozenset(map(self.owner, people_of(normal, self._list_of)))

    def with_list(self, mailing_list: MailingList) -> Directory:
        """This directory with one list more, or with it in the place of the one of its address."""
        (new,) = _lists((mailing_list,))
        lists = {one.address: one for one in self.lists}
        lists[new.address] = new
        return attrs.evolve(self, lists=lists.values())

    def _with_owners(self, one: MailingList) -> MailingList:
        # An alias is its owner: whoever may post under one may under the other.
        posters = [self.aliases[poster] for poster in one.posters if poster in self.aliases]
        moderators = [self.aliases[name] for name in one.moderators if name in self.aliases]
        if not posters and not moderators:
            return one
        return attrs.evolve(
            one,
            posters=(*one.posters, *posters),
            moderators=(*one.moderators, *moderators),
        )
