"""What a policy's limits are counted in: which ledgers, by which names, and how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ratelimit_mail.counting.charge import UNITS, Count, Ledger, retention_for
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.scopes import Scope, tag_getter

__all__ = ["LedgerKey", "Retentions", "by_ledger_key", "queue_of", "retentions_of", "window_of"]


class LedgerKey(NamedTuple):
    """What a ledger is of: limits that are enforced or not, of one direction and scope."""

    enforce: bool
    direction: str
    scope: Scope

    def ledger_name(self, policy: str) -> str:
        """The name of the ledger: no part holds a colon, so no two are the same."""
        shadow = "" if self.enforce else ":shadow"
        direction = "" if self.direction == "outbound" else f":{self.direction}"
        return f"{policy}{shadow}{direction}:{'+'.join(self.scope)}"


Retentions = Mapping[LedgerKey, Mapping[int, Retention]]
"""How the logs of each place and unit are kept, to serve every tier of a policy."""


def retentions_of(limits: Iterable[Limit]) -> Retentions:
    """How each count must be kept to serve every one of `limits`."""
    return {
        place: {unit: retention_for(list(map(window_of, found))) for unit, found in units.items()}
        for place, units in by_ledger_key(limits).items()
    }


def queue_of(policy: str, retentions: Retentions, shard: str | None = None) -> Ledger:
    """The ledger of each sender's bookings: no limit reads it, but it keeps their order."""
    spans = [retention.span for units in retentions.values() for retention in units.values()]
    span = max(spans, default=1)
    tag_of = tag_getter(("sender",), shard)
    return Ledger(f"{policy}:bookings", (Count(0, (), Retention(span)),), span, tag_of)


def by_ledger_key(limits: Iterable[Limit]) -> dict[LedgerKey, dict[int, list[RateLimit]]]:
    """The rate limits among `limits`, by the ledger and the unit that they are counted in."""
    found: dict[LedgerKey, dict[int, list[RateLimit]]] = {}
    for limit in limits:
        if isinstance(limit, RateLimit):
            unit = UNITS.index(
                f"external {limit.unit}" if limit.count == "external" else limit.unit
            )
            place = LedgerKey(limit.enforce, limit.direction, limit.scope)
            found.setdefault(place, {}).setdefault(unit, []).append(limit)
    return found


def window_of(limit: RateLimit) -> Window:
    """The window that a backend keeps `limit` by."""
    return Window(
        limit.limit,
        limit.window,
        limit.slot,
        limit.denied == "count",
        limit.on_oversize == "spread",
    )
