"""Read a directory from CSV files: which columns they have, and what their rows mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.directory.address_map import AddressMap
from ratelimit_mail.directory.aliases import add_alias, first_invalid_alias
from ratelimit_mail.directory.csv_table import Table
from ratelimit_mail.directory.mailing_lists import MailingList
from ratelimit_mail.directory.nesting import cycle_text, first_cycle

__all__ = ["read_directory"]

ALIAS_COLUMNS: Final = {"alias": ("alias", "proxy_address"), "owner": ("owner", "primary")}

WORD_COLUMNS: Final = ("subscription", "posting", "exempt")
ADDRESS_COLUMNS: Final = ("members", "posters", "moderators")
LIST_COLUMNS: Final = {name: (name,) for name in ("list", *WORD_COLUMNS, *ADDRESS_COLUMNS)}

_FLAGS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_SEPARATOR: Final = re.compile(r"[\s;,]+")

FilePath = str | PathLike[str]


def read_directory(
    path: FilePath | None, lists_path: FilePath | None, lists: tuple[MailingList, ...]
) -> tuple[dict[str, str], tuple[MailingList, ...]]:
    """Return the aliases in the file `path`, and `lists` with those in the file `lists_path`.

    An error that only shows when several rows are read together names file and line too.
    """
    if path is None and lists_path is None:
        raise TypeError("from_csv: a file of aliases or one of lists is needed")
    by_address = {mailing_list.address: mailing_list for mailing_list in lists}
    if lists_path is not None:
        _read_lists(Table(lists_path, LIST_COLUMNS, ("list",)), by_address)
    aliases: dict[str, str] = {}
    if path is not None:
        _read_aliases(Table(path, ALIAS_COLUMNS, ("alias", "owner")), aliases, by_address)
    return aliases, tuple(by_address.values())


def _read_aliases(table: Table, aliases: dict[str, str], lists: Mapping[str, MailingList]) -> None:
    """Add the aliases of a file to `aliases`."""
    lines: dict[str, int] = {}
    for line, cells in table.rows():
        try:
            alias = add_alias(aliases, cells["alias"], cells["owner"])
        except ValueError as error:
            raise table.error(line, error) from None
        lines.setdefault(alias, line)
    if invalid := first_invalid_alias(aliases, lists):
        alias, why = invalid
        raise table.error(lines[alias], why)


def _read_lists(table: Table, lists: dict[str, MailingList]) -> None:
    """Add the lists of a file to `lists`."""
    lines: dict[str, int] = {}
    drafts: dict[str, dict[str, Any]] = {}
    for line, cells in table.rows():
        try:
            fields = _fields(cells)
            # Checks this row alone; the rows of one list are put together below, once.
            address = MailingList(cells["list"], **fields).address
            if address in lists:
                raise ValueError(f"there are two lists of the address {show(address)}")
            if address not in drafts:
                drafts[address], lines[address] = fields, line
                continue
            if any(name in fields for name in WORD_COLUMNS):
                raise ValueError(
                    f"the list {show(address)} is in line {lines[address]} already; a row that"
                    f" adds to it leaves {', '.join(WORD_COLUMNS)} empty"
                )
        except ValueError as error:
            raise table.error(line, error) from None
        for name, values in fields.items():
            drafts[address].setdefault(name, []).extend(values)
    lists.update((address, MailingList(address, **fields)) for address, fields in drafts.items())
    if cycle := first_cycle(AddressMap(lists)):
        first = next((address for address in cycle if address in lines), None)
        if first is not None:
            raise table.error(
                lines[first], f"{show(cycle[0])} contains itself: {cycle_text(cycle)}"
            )


def _fields(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a list that a row states; an empty cell states nothing."""
    fields: dict[str, Any] = {}
    for name in WORD_COLUMNS:
        if cell := cells.get(name, "").lower():
            fields[name] = _flag(cell) if name == "exempt" else cell
    for name in ADDRESS_COLUMNS:
        if addresses := [value for value in _SEPARATOR.split(cells.get(name, "")) if value]:
            fields[name] = addresses
    return fields


def _flag(cell: str) -> bool:
    if cell not in _FLAGS:
        raise ValueError(f"exempt: {show(cell)} is neither yes nor no")
    return _FLAGS[cell]
