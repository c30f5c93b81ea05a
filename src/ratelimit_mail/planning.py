"""What an envelope meets under one tier, worked out beforehand so that planning is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import attrs

from ratelimit_mail.charge import Charge, Count
from ratelimit_mail.domains import DomainSet
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.subjects import is_per_recipient, known_parts, subject_getter, subject_of
from ratelimit_mail.window import Keeping, Window

__all__ = ["Plan", "Sheet", "keeping_of", "queue_of"]

_new = tuple.__new__  # builds a named tuple in half the time

CountKey = tuple[tuple[str, ...], str]
"""Scope and unit: what tells one count of a policy from another."""

UNITS: Final = ("messages", "recipients", "external messages", "external recipients")


class Plan(NamedTuple):
    """The charges of one envelope.

    never: the limit that it could not meet even if nothing had been sent; the charges
        are then those that a refused attempt adds.
    """

    sheet: Sheet
    charges: list[Charge]
    never: Limit | None = None


@attrs.frozen
class _Lane:
    """One count that an envelope is charged to, with the limits that are read from it."""

    count: Count
    limits: tuple[RateLimit, ...]
    scope: tuple[str, ...]
    unit: int
    """The index of its unit in `UNITS`."""


class Sheet:
    """The limits of one tier and of everybody, as counts and charges."""

    def __init__(
        self,
        policy: str,
        tier: str | None,
        limits: Iterable[Limit],
        internal: DomainSet,
        keepings: Mapping[CountKey, Keeping],
    ) -> None:
        self.tier = tier
        self.limits = tuple(limits)
        self._internal = internal
        self._recipient_limits = tuple(x for x in self.limits if isinstance(x, RecipientLimit))
        rates: dict[CountKey, list[RateLimit]] = {}
        for limit in self.limits:
            if isinstance(limit, RateLimit):
                rates.setdefault(_count_key(limit), []).append(limit)
        lanes = [_lane(policy, key, found, keepings[key]) for key, found in rates.items()]
        self._quick = tuple(
            (lane.count, subject_getter(lane.scope), lane.unit)
            for lane in lanes
            if not is_per_recipient(lane.scope)
        )
        self._spread = tuple(lane for lane in lanes if is_per_recipient(lane.scope))
        self._lane_of = {lane.count: lane for lane in lanes}
        self._tells_external = any(limit.count == "external" for limit in self.limits)

    def plan(self, envelope: Envelope) -> Plan:
        """The charges of `envelope`, or the limit that it can never meet."""
        total = external = len(envelope.recipients)
        if self._tells_external:
            external -= sum(map(self._internal.holds, envelope.domains))
        for limit in self._recipient_limits:
            if (total if limit.count == "all" else external) > limit.limit:
                return Plan(self, [], limit)
        costs = (1, total, 1 if external else 0, external)
        charges = []
        fits = True
        for count, subject, unit in self._quick:
            if cost := costs[unit]:
                charges.append((count, subject(envelope), cost))
                if cost > count.smallest:
                    fits = False
        for lane in self._spread:
            spread_out = self._spread_out(lane, envelope)
            charges += spread_out
            fits = fits and all(cost <= lane.count.smallest for _, _, cost in spread_out)
        return _new(Plan, (self, charges, None)) if fits else self._never(charges)

    def _never(self, charges: list[Charge]) -> Plan:
        """The plan for charges of which at least one can never fit."""
        too_much = next(charge for charge in charges if charge[2] > charge[0].smallest)
        count = too_much[0]
        limit = next(x for x in self._lane_of[count].limits if x.limit == count.smallest)
        return Plan(self, [charge for charge in charges if charge[0].counts_denied], limit)

    def _spread_out(self, lane: _Lane, envelope: Envelope) -> list[Charge]:
        """One charge for each recipient, or recipient domain, that counts."""
        counts_external = lane.unit >= 2
        fixed = known_parts(lane.scope, envelope)
        costs: dict[str, int] = {}
        for recipient, domain in zip(envelope.recipients, envelope.domains, strict=True):
            if counts_external and self._internal.holds(domain):
                continue
            parts = {**fixed, "recipient": recipient, "recipient_domain": domain}
            subject = subject_of(lane.scope, parts)
            costs[subject] = costs.get(subject, 0) + 1
        per_recipient = lane.unit % 2
        return [
            (lane.count, subject, cost if per_recipient else 1) for subject, cost in costs.items()
        ]

    def limit_of(self, charge: Charge, window: int) -> RateLimit:
        """The limit that window number `window` of a charge's count stands for."""
        return self._lane_of[charge[0]].limits[window]

    def counts_of(self, scope: tuple[str, ...]) -> dict[Count, tuple[RateLimit, ...]]:
        """The counts kept per `scope`, each with its limits."""
        return {lane.count: lane.limits for lane in self._lane_of.values() if lane.scope == scope}


def _count_key(limit: RateLimit) -> CountKey:
    """The count that `limit` is read from."""
    external = "external " if limit.count == "external" else ""
    return limit.scope, external + limit.unit


def keeping_of(limits: Iterable[Limit]) -> dict[CountKey, Keeping]:
    """What the log of each count must remember to serve every one of `limits`."""
    windows: dict[CountKey, list[Window]] = {}
    for limit in limits:
        if isinstance(limit, RateLimit):
            windows.setdefault(_count_key(limit), []).append(_window(limit))
    return {key: Count.keeping_for(tuple(found)) for key, found in windows.items()}


def queue_of(policy: str, limits: Iterable[Limit]) -> Count:
    """The count of each sender's bookings: no limit reads it, but it keeps their order."""
    span = max((keeping.span for keeping in keeping_of(limits).values()), default=1)
    return Count(_count_name(policy, ("sender",), "bookings"), (), Keeping(span))


def _count_name(policy: str, scope: tuple[str, ...], unit: str) -> str:
    # No part holds a colon: a policy's name may not, the rest are this library's words.
    return f"{policy}:{'+'.join(scope)}:{unit}"


def _window(limit: RateLimit) -> Window:
    return Window(limit.limit, limit.window, limit.slot, limit.denied == "count")


def _lane(policy: str, key: CountKey, limits: list[RateLimit], keeping: Keeping) -> _Lane:
    scope, unit = key
    count = Count(_count_name(policy, scope, unit), tuple(map(_window, limits)), keeping)
    return _Lane(count, tuple(limits), scope, UNITS.index(unit))
