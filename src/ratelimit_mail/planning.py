"""What an envelope meets under one tier, worked out beforehand so that planning is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ratelimit_mail.charge import UNITS, Charge, Count, Ledger, keeping_for
from ratelimit_mail.domains import DomainSet
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.sharding import tag_getter
from ratelimit_mail.showing import show
from ratelimit_mail.subjects import is_per_recipient, known_parts, subject_getter, subject_of
from ratelimit_mail.window import Keeping, Window

__all__ = ["Keepings", "Plan", "Sheet", "keepings_of", "queue_of"]

Scope = tuple[str, ...]

Keepings = Mapping[Scope, Mapping[int, Keeping]]
"""How the logs of each scope and unit are kept, to serve every tier of a policy."""

NO_BOUND: Final = 1 << 62

_new = tuple.__new__  # builds a named tuple in half the time


class Plan(NamedTuple):
    """The charges of one envelope.

    never: the limit that it could not meet even if nothing had been sent; the charges
        are then those that a refused attempt adds.
    """

    sheet: Sheet
    charges: list[Charge]
    never: Limit | None = None


class Sheet:
    """The limits of one tier and of everybody, as ledgers and charges."""

    def __init__(
        self,
        policy: str,
        tier: str | None,
        limits: Iterable[Limit],
        internal: DomainSet,
        keepings: Keepings,
        shard: str | None = None,
    ) -> None:
        self.tier = tier
        self.limits = tuple(limits)
        self._shard = shard
        self._internal = internal
        self._is_internal = internal.__getitem__
        self._limits_of: dict[Count, list[RateLimit]] = {}
        self._ledgers = {
            scope: self._ledger(policy, scope, units, keepings[scope])
            for scope, units in _by_scope_and_unit(self.limits).items()
        }
        self._quick = [
            (ledger, subject_getter(scope), all(count.unit >= 2 for count in ledger.counts))
            for scope, ledger in self._ledgers.items()
            if not is_per_recipient(scope)
        ]
        self._spread = [
            (ledger, scope) for scope, ledger in self._ledgers.items() if is_per_recipient(scope)
        ]
        self._tells_external = any(limit.count == "external" for limit in self.limits)
        self._most = self._bound("all")
        self._most_external = self._bound("external")

    def _ledger(
        self,
        policy: str,
        scope: Scope,
        units: Mapping[int, list[RateLimit]],
        keepings: Mapping[int, Keeping],
    ) -> Ledger:
        counts = []
        for unit, limits in units.items():
            counts.append(Count(unit, tuple(map(_window, limits)), keepings[unit]))
            self._limits_of[counts[-1]] = limits
        span = max(keeping.span for keeping in keepings.values())
        tag_of = tag_getter(scope, self._shard)
        return Ledger(_ledger_name(policy, scope), tuple(counts), span, tag_of)

    def _bound(self, counted: str) -> int:
        """The most recipients that no limit on one subject's message forbids for ever."""
        return min(
            (
                limit.limit
                for limit in self.limits
                if limit.count == counted
                and not (isinstance(limit, RateLimit) and is_per_recipient(limit.scope))
                and not (isinstance(limit, RateLimit) and limit.unit == "messages")
            ),
            default=NO_BOUND,
        )

    def plan(self, envelope: Envelope) -> Plan:
        """The charges of `envelope`, or the limit that it can never meet."""
        try:
            planned: Plan | None = envelope.planned
            if planned is not None and planned[0] is self:
                return planned
            total = external = len(envelope.recipients)
        except AttributeError:
            raise TypeError(f"an Envelope is needed, not {show(envelope)}") from None
        if self._tells_external:
            external -= sum(map(self._is_internal, envelope.domains))
        costs = (1, total, 1 if external else 0, external)
        charges = []
        for ledger, subject, external_only in self._quick:
            if external or not external_only:
                charges.append((ledger, subject(envelope), costs))
        for ledger, scope in self._spread:
            charges += self._spread_out(ledger, scope, envelope)
        if total > self._most or external > self._most_external or self._spread:
            return Plan(self, *self._possible(charges, total, external))
        plan = _new(Plan, (self, charges, None))
        object.__setattr__(envelope, "planned", plan)
        return plan

    def _spread_out(self, ledger: Ledger, scope: Scope, envelope: Envelope) -> list[Charge]:
        """One charge for each recipient, or recipient domain."""
        fixed = known_parts(scope, envelope)
        recipients: dict[str, int] = {}
        external: dict[str, int] = {}
        for recipient, domain in zip(envelope.recipients, envelope.domains, strict=True):
            parts = {**fixed, "recipient": recipient, "recipient_domain": domain}
            subject = subject_of(scope, parts)
            recipients[subject] = recipients.get(subject, 0) + 1
            if not (self._tells_external and self._internal[domain]):
                external[subject] = external.get(subject, 0) + 1
        charges: list[Charge] = []
        for subject, total in recipients.items():
            outside = external.get(subject, 0)
            costs = (1, total, 1 if outside else 0, outside)
            if any(costs[count.unit] for count in ledger.counts):
                charges.append((ledger, subject, costs))
        return charges

    def _possible(
        self, charges: list[Charge], total: int, external: int
    ) -> tuple[list[Charge], Limit | None]:
        """The charges, or those of a refused attempt and the limit that refuses for ever."""
        for limit in self.limits:
            counted = total if limit.count == "all" else external
            if isinstance(limit, RecipientLimit) and counted > limit.limit:
                return [], limit
        for ledger, _, costs in charges:
            for count in ledger.counts:
                if costs[count.unit] > count.smallest:
                    limits = self._limits_of[count]
                    never = next(limit for limit in limits if limit.limit == count.smallest)
                    return [charge for charge in charges if charge[0].counts_denied], never
        return charges, None

    def limit_of(self, count: Count, window: int) -> RateLimit:
        """The limit that window number `window` of a count stands for."""
        return self._limits_of[count][window]

    def ledger_of(self, scope: Scope) -> Ledger | None:
        """What is counted per `scope`, if anything is."""
        return self._ledgers.get(scope)


def keepings_of(limits: Iterable[Limit]) -> Keepings:
    """How each count must be kept to serve every one of `limits`."""
    return {
        scope: {unit: keeping_for(list(map(_window, found))) for unit, found in units.items()}
        for scope, units in _by_scope_and_unit(limits).items()
    }


def queue_of(policy: str, keepings: Keepings, shard: str | None = None) -> Ledger:
    """The ledger of each sender's bookings: no limit reads it, but it keeps their order."""
    spans = [keeping.span for units in keepings.values() for keeping in units.values()]
    span = max(spans, default=1)
    tag_of = tag_getter(("sender",), shard)
    return Ledger(f"{policy}:bookings", (Count(0, (), Keeping(span)),), span, tag_of)


def _ledger_name(policy: str, scope: Scope) -> str:
    # No part holds a colon: a policy's name may not, the words of a scope do not.
    return f"{policy}:{'+'.join(scope)}"


def _by_scope_and_unit(limits: Iterable[Limit]) -> dict[Scope, dict[int, list[RateLimit]]]:
    found: dict[Scope, dict[int, list[RateLimit]]] = {}
    for limit in limits:
        if isinstance(limit, RateLimit):
            unit = UNITS.index(
                f"external {limit.unit}" if limit.count == "external" else limit.unit
            )
            found.setdefault(limit.scope, {}).setdefault(unit, []).append(limit)
    return found


def _window(limit: RateLimit) -> Window:
    return Window(limit.limit, limit.window, limit.slot, limit.denied == "count")
