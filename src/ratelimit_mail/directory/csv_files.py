"""A directory in CSV files: which columns they have, and what their rows say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.directory.aliases import add_alias, first_wrong_alias
from ratelimit_mail.directory.csv_table import Table
from ratelimit_mail.directory.mailing_lists import MailingList
from ratelimit_mail.directory.nesting import first_way_round, in_words

__all__ = ["read_directory"]

ALIAS_COLUMNS: Final = {"alias": ("alias", "proxy_address"), "owner": ("owner", "primary")}

WORDS: Final = ("subscription", "posting", "exempt")
SEVERAL: Final = ("members", "posters", "moderators")
LIST_COLUMNS: Final = {name: (name,) for name in ("list", *WORDS, *SEVERAL)}

_FLAGS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_BETWEEN: Final = re.compile(r"[\s;,]+")

FilePath = str | PathLike[str]


def read_directory(
    path: FilePath | None, lists_path: FilePath | None, lists: tuple[MailingList, ...]
) -> tuple[dict[str, str], tuple[MailingList, ...]]:
    """The aliases of one file, and `lists` with those of the other.

    What is wrong with a row only beside others is said with its file and line too.
    """
    if path is None and lists_path is None:
        raise TypeError("from_csv: a file of aliases or one of lists is needed")
    by_address = {one.address: one for one in lists}
    if lists_path is not None:
        _read_lists(Table(lists_path, LIST_COLUMNS, ("list",)), by_address)
    aliases: dict[str, str] = {}
    if path is not None:
        _read_aliases(Table(path, ALIAS_COLUMNS, ("alias", "owner")), aliases, by_address)
    return aliases, tuple(by_address.values())


def _read_aliases(table: Table, aliases: dict[str, str], lists: Mapping[str, MailingList]) -> None:
    lines: dict[str, int] = {}
    for line, cells in table.rows():
        try:
            alias = add_alias(aliases, cells["alias"], cells["owner"])
        except ValueError as error:
            raise table.wrong(line, error) from None
        lines.setdefault(alias, line)
    if wrong := first_wrong_alias(aliases, lists):
        alias, why = wrong
        raise table.wrong(lines[alias], why)


def _read_lists(table: Table, lists: dict[str, MailingList]) -> None:
    """Adds the lists of a file to `lists`."""
    lines: dict[str, int] = {}
    drafts: dict[str, dict[str, Any]] = {}
    for line, cells in table.rows():
        try:
            fields = _fields(cells)
            # Its own row already tells whether it can be; many rows are put together once.
            address = MailingList(cells["list"], **fields).address
            if address in lists:
                raise ValueError(f"there are two lists of the address {show(address)}")
            if address not in drafts:
                drafts[address], lines[address] = fields, line
                continue
            if any(name in fields for name in WORDS):
                raise ValueError(
                    f"the list {show(address)} is in line {lines[address]} already; a row that"
                    f" adds to it leaves {', '.join(WORDS)} empty"
                )
        except ValueError as error:
            raise table.wrong(line, error) from None
        for name, values in fields.items():
            drafts[address].setdefault(name, []).extend(values)
    lists.update((address, MailingList(address, **fields)) for address, fields in drafts.items())
    if way := first_way_round(lists):
        first = next((address for address in way if address in lines), None)
        if first is not None:
            raise table.wrong(lines[first], f"{show(way[0])} contains itself: {in_words(way)}")


def _fields(cells: Mapping[str, str]) -> dict[str, Any]:
    """What a row says of its list; nothing of an empty cell."""
    fields: dict[str, Any] = {}
    for name in WORDS:
        if cell := cells.get(name, "").lower():
            fields[name] = _flag(cell) if name == "exempt" else cell
    for name in SEVERAL:
        if values := [value for value in _BETWEEN.split(cells.get(name, "")) if value]:
            fields[name] = values
    return fields


def _flag(cell: str) -> bool:
    if cell not in _FLAGS:
        raise ValueError(f"exempt: {show(cell)} is neither yes nor no")
    return _FLAGS[cell]
