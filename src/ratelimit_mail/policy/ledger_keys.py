"""LedgerKey: which ledger a limit is counted in, the ledger's name, and how long it is retained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ratelimit_mail.counting.charge import UNITS, Count, Ledger, retention_for
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.scopes import Scope, tag_getter

__all__ = [
    "LedgerKey",
    "Retentions",
    "by_ledger_key",
    "one_of_each_count",
    "queue_of",
    "retentions_of",
    "window_of",
]


class LedgerKey(NamedTuple):
    """The limits that share a ledger: enforced or not, of one direction and scope.

    spread: the limits that spread a message that costs more than they hold. They count it over the
        time that it takes, while the other limits count all of it at once.
    """

    enforce: bool
    direction: str
    spread: bool
    scope: Scope

    def ledger_name(self, policy: str) -> str:
        """Return the name of the ledger. No component has a colon, so each key has its own name."""
        shadow = "" if self.enforce else ":shadow"
        direction = "" if self.direction == "outbound" else f":{self.direction}"
        spread = ":spread" if self.spread else ""
        return f"{policy}{shadow}{direction}{spread}:{'+'.join(self.scope)}"


Retentions = Mapping[LedgerKey, Mapping[int, Retention]]
"""The retention of the log of each ledger and unit, long enough for every tier of a policy."""


def retentions_of(limits: Iterable[Limit]) -> Retentions:
    """Return the retention of each count that is long enough for all of `limits`."""
    return {
        key: {unit: retention_for(list(map(window_of, group))) for unit, group in units.items()}
        for key, units in by_ledger_key(limits).items()
    }


def queue_of(policy: str, retentions: Retentions, shard: str | None = None) -> Ledger:
    """Return the ledger of each sender's bookings: no limit reads it, but it holds their order."""
    spans = [retention.span for units in retentions.values() for retention in units.values()]
    span = max(spans, default=1)
    tag_of = tag_getter(("sender",), shard)
    return Ledger(f"{policy}:bookings", (Count(0, (), Retention(span)),), span, tag_of)


def by_ledger_key(limits: Iterable[Limit]) -> dict[LedgerKey, dict[int, list[RateLimit]]]:
    """Return the rate limits among `limits`, by the ledger and the unit they are counted in."""
    groups: dict[LedgerKey, dict[int, list[RateLimit]]] = {}
    for limit in limits:
        if isinstance(limit, RateLimit):
            groups.setdefault(_key(limit), {}).setdefault(_unit(limit), []).append(limit)
    return groups


def one_of_each_count(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """Return the first of those `limits` that count the same in the same ledger.

    The result has a bounded length: each tier records what all tiers count.
    """
    first: dict[tuple[object, ...], Limit] = {}
    for limit in limits:
        if isinstance(limit, RateLimit):
            first.setdefault((_key(limit), _unit(limit)), limit)
        else:
            first.setdefault((limit.enforce, type(limit), limit.count), limit)
    return tuple(first.values())


def _key(limit: RateLimit) -> LedgerKey:
    return LedgerKey(limit.enforce, limit.direction, limit.on_oversize == "spread", limit.scope)


def _unit(limit: RateLimit) -> int:
    unit = f"external {limit.unit}" if limit.count == "external" else limit.unit
    return UNITS.index(f"unique {unit}" if limit.is_unique else unit)


def window_of(limit: RateLimit) -> Window:
    """Return the window by which a backend checks `limit`."""
    calendar = limit.calendar
    if calendar is not None:
        from ratelimit_mail.counting.calendar_window import CalendarWindow  # few limits need it

        return CalendarWindow(
            limit.limit, calendar.longest, limit.slot, limit.denied == "count", calendar=calendar
        )
    return Window(
        limit.limit,
        limit.window,
        limit.slot,
        limit.denied == "count",
        limit.on_oversize == "spread",
    )
