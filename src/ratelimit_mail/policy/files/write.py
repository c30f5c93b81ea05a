"""Write a policy as the tables of its file, leaving out default values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn_from_attrs, override

from ratelimit_mail._util.text import show
from ratelimit_mail.directory import Directory, ListFile, MailingList
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.policy.files import conditions
from ratelimit_mail.policy.files.errors import Misplaced, under
from ratelimit_mail.policy.files.schema import KINDS, fields_of
from ratelimit_mail.policy.tiers import Tier
from ratelimit_mail.rates import CalendarRate, parse_rate, window_ms, window_text
from ratelimit_mail.scopes import normal_scope

__all__ = ["table_of"]

Table = dict[str, Any]
Hook = Callable[[Any], Any]
"""Converts a value of the library to one of a file."""

FIRST: Final = ("kind", "name", "senders", "when", "limits", "reason", "granted_by")
"""The keys that a table begins with; the others follow in the order of the class's fields."""

UNITS: Final = ("second", "minute", "hour", "day", "month", "year")
"""The units of the notation. A program may define others, but no other program can read them."""


def table_of(policy: Any) -> Table:
    """Return the tables of `policy`. Raises Misplaced for what a file cannot hold."""
    write = _writer(
        type(policy),
        limits=_list_of("limits", _limit),
        tiers=_list_of("tiers", _exactly(Tier, when=_when, limits=_list_of("limits", _limit))),
        overrides=_list_of("overrides", _concession(Override, limits=dict)),
        exemptions=_list_of("exemptions", _concession(Exemption)),
        grants=_list_of("grants", _concession(Grant)),
        directory=_directory,
    )
    return write(policy)


def _writer(kind: type[Any], **hooks: Hook) -> Callable[[Any], Table]:
    """Return the function that makes a table of a `kind`. `hooks` convert the fields they name."""
    fields = fields_of(kind)
    overrides: dict[str, Any] = {
        f.name: override(unstruct_hook=hooks.get(f.name, _unchanged)) for f in fields
    }
    write = make_dict_unstructure_fn_from_attrs(
        fields,
        kind,
        Converter(),
        _cattrs_omit_if_default=True,
        _cattrs_use_linecache=False,
        **overrides,
    )
    return lambda value: _in_order(write(value))


def _exactly(kind: type[Any], **hooks: Hook) -> Callable[[Any], Table]:
    """Return the same for exactly this class: what a subclass means is unknown."""
    write = _writer(kind, **hooks)

    def hook(value: Any) -> Table:
        if type(value) is not kind:
            raise _own_class(value, kind.__name__)
        return write(value)

    return hook


def _concession(kind: type[Any], **hooks: Hook) -> Callable[[Any], Table]:
    return _exactly(kind, when=_when, starts=_moment, ends=_moment, **hooks)


def _list_of(name: str, write: Callable[[Any], Table]) -> Hook:
    def hook(values: Iterable[Any]) -> list[Table]:
        tables = []
        for i, value in enumerate(values):
            with under(f"{name}[{i}]"):
                tables.append(write(value))
        return tables

    return hook


def _in_order(table: Table) -> Table:
    return {key: table[key] for key in sorted(table, key=_rank)}


def _rank(key: str) -> int:
    return FIRST.index(key) if key in FIRST else len(FIRST)


def _unchanged(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _when(condition: Any) -> Table:
    with under("when"):
        return conditions.table_of(condition)


def _moment(value: Any) -> Any:
    # TOML has no seconds in an offset.
    if isinstance(value, datetime) and (value.utcoffset() or timedelta()) % timedelta(minutes=1):
        return value.astimezone(UTC)
    return value


def _rate(rate: Any) -> str:
    """Return a notation of `rate` that is read as the same rate."""
    if isinstance(rate, CalendarRate):
        return f"{rate.amount}/{window_text(rate)}"
    texts = [f"{rate.amount}/{window_ms(rate) // 1000} seconds"]
    if rate.GRANULARITY.name in UNITS:
        texts.insert(0, f"{rate.amount}/{window_text(rate)}")
    for each in texts:
        try:
            again = parse_rate(each)
        except ValueError:
            continue
        if (again.amount, window_ms(again)) == (rate.amount, window_ms(rate)):
            return each
    raise Misplaced("rate", f"{show(rate)} has no notation such as '30/minute'")


_LIMITS: Final = {kind: (word, _writer(kind, rate=_rate)) for word, kind in KINDS.items()}
_LIST: Final = _exactly(MailingList)


def _limit(limit: Any) -> Table:
    if type(limit) not in _LIMITS:
        raise _own_class(limit, "limit")
    word, write = _LIMITS[type(limit)]
    table = write(limit)
    if isinstance(limit, RateLimit):
        default: Any = attrs.fields(type(limit)).scope.default
        if limit.scope == normal_scope(default.factory(limit)):
            table.pop("scope", None)
        elif len(limit.scope) == 1:
            table["scope"] = limit.scope[0]
    return _in_order({"kind": word, **table})


def _directory(directory: Any) -> Table:
    if type(directory) is ListFile:
        # Absolute, because the folder of the policy file is not known here.
        return {**_directory(directory.base), "lists_file": os.path.abspath(directory.path)}
    if type(directory) is not Directory:
        raise Misplaced(
            "directory", f"{show(directory)} is not a Directory, so a file cannot hold it"
        )
    aliases: dict[str, list[str]] = {}
    for alias, owner in directory.aliases.items():
        aliases.setdefault(owner, []).append(alias)
    with under("directory"):
        lists = _list_of("lists", _LIST)(directory.lists)
    return {key: value for key, value in (("aliases", aliases), ("lists", lists)) if value}


def _own_class(value: object, kind: str) -> Misplaced:
    return Misplaced("", f"{show(value)} is a {kind} of your own class, which a file cannot hold")
