"""From a policy to the tables of its file: only what is not as it would be by default."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn_from_attrs, override

from ratelimit_mail._util.text import show
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.policy.files import conditions
from ratelimit_mail.policy.files.errors import Misplaced, under
from ratelimit_mail.policy.files.schema import KINDS, fields_of
from ratelimit_mail.policy.tiers import Tier
from ratelimit_mail.rates import in_words, parse_rate, window_of
from ratelimit_mail.scopes import normal_scope

__all__ = ["table_of"]

Table = dict[str, Any]
Hook = Callable[[Any], Any]
"""From a value of the library to one of a file."""

FIRST: Final = ("kind", "name", "senders", "when", "limits", "reason", "granted_by")
"""The keys that a table begins with, as one reads it; the others follow in the classes' order."""

UNITS: Final = ("second", "minute", "hour", "day", "month", "year")
"""Those of the notation; others, which a program may have made, no other program reads."""


def table_of(policy: Any) -> Table:
    """The tables of `policy`. Raises Misplaced for what no file can hold."""
    write = _writer(
        type(policy),
        limits=_several("limits", _limit),
        tiers=_several("tiers", _only(Tier, when=_when, limits=_several("limits", _limit))),
        overrides=_several("overrides", _concession(Override, limits=dict)),
        exemptions=_several("exemptions", _concession(Exemption)),
        grants=_several("grants", _concession(Grant)),
        directory=_directory,
    )
    return write(policy)


def _writer(kind: type[Any], **hooks: Hook) -> Callable[[Any], Table]:
    """What makes a table of one `kind`; a field without a hook is taken as it is."""
    fields = fields_of(kind)
    overrides: dict[str, Any] = {
        f.name: override(unstruct_hook=hooks.get(f.name, _as_it_is)) for f in fields
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


def _only(kind: type[Any], **hooks: Hook) -> Callable[[Any], Table]:
    """The same, for nothing but just this class: a subclass may mean anything."""
    write = _writer(kind, **hooks)

    def hook(value: Any) -> Table:
        if type(value) is not kind:
            raise _of_ones_own(value, kind.__name__)
        return write(value)

    return hook


def _concession(kind: type[Any], **hooks: Hook) -> Callable[[Any], Table]:
    return _only(kind, when=_when, starts=_moment, ends=_moment, **hooks)


def _several(name: str, write: Callable[[Any], Table]) -> Hook:
    def hook(values: Iterable[Any]) -> list[Table]:
        tables = []
        for i, value in enumerate(values):
            with under(f"{name}[{i}]"):
                tables.append(write(value))
        return tables

    return hook


def _in_order(table: Table) -> Table:
    return {key: table[key] for key in sorted(table, key=_place)}


def _place(key: str) -> int:
    return FIRST.index(key) if key in FIRST else len(FIRST)


def _as_it_is(value: Any) -> Any:
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
    """`rate` so that it is read the same."""
    texts = [f"{rate.amount}/{window_of(rate) // 1000} seconds"]
    if rate.GRANULARITY.name in UNITS:
        texts.insert(0, f"{rate.amount}/{in_words(rate)}")
    for each in texts:
        try:
            again = parse_rate(each)
        except ValueError:
            continue
        if (again.amount, window_of(again)) == (rate.amount, window_of(rate)):
            return each
    raise Misplaced("rate", f"{show(rate)} has no notation such as '30/minute'")


_LIMITS: Final = {kind: (word, _writer(kind, rate=_rate)) for word, kind in KINDS.items()}
_LIST: Final = _only(MailingList)


def _limit(limit: Any) -> Table:
    if type(limit) not in _LIMITS:
        raise _of_ones_own(limit, "limit")
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
    if type(directory) is not Directory:
        raise Misplaced("directory", f"{show(directory)} is no Directory, so no file can hold it")
    aliases: dict[str, list[str]] = {}
    for alias, owner in directory.aliases.items():
        aliases.setdefault(owner, []).append(alias)
    with under("directory"):
        lists = _several("lists", _LIST)(directory.lists)
    return {key: value for key, value in (("aliases", aliases), ("lists", lists)) if value}


def _of_ones_own(value: object, kind: str) -> Misplaced:
    return Misplaced("", f"{show(value)} is a {kind} of your own class, which no file can hold")
