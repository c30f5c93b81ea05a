"""What an envelope meets under one tier, worked out beforehand so that planning is quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final, NamedTuple

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.counting.charge import Charge, Costs, Count, Ledger
from ratelimit_mail.counting.window import Retention
from ratelimit_mail.decision import Rule
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.policy.ledger_keys import LedgerKey, Retentions, by_ledger_key, window_of
from ratelimit_mail.scopes import (
    Scope,
    is_per_recipient,
    known_parts,
    subject_getter,
    subject_of,
    tag_getter,
)

__all__ = ["EffectiveLimits", "Plan"]

NO_BOUND: Final = 1 << 62

NOBODY_FREE: Final[frozenset[str]] = frozenset()

_Recipient = tuple[str, str]
"""An address and its domain."""

Charging = tuple[Ledger, Callable[[Envelope], str], Costs]
"""A charge whose subject the envelope tells."""

_new = tuple.__new__  # builds a named tuple in half the time


class Plan(NamedTuple):
    """The charges of one envelope.

    never: the limit that it could not meet even if nothing had been sent, or the rule that turns
        it away; the charges are then those that a refused attempt adds.
    shadow: its plan under the limits that only report.
    """

    sheet: EffectiveLimits
    charges: list[Charge]
    never: Limit | Rule | None = None
    shadow: Plan | None = None


class EffectiveLimits:
    """What a message meets: the limits of one tier and of everybody, as ledgers and charges.

    name: what the counts are kept under.
    enforce: False makes a sheet of the limits that only report.
    """

    def __init__(
        self,
        name: str,
        tier: str | None,
        limits: Iterable[Limit],
        internal: DomainSet,
        retentions: Retentions,
        shard: str | None = None,
        *,
        enforce: bool = True,
    ) -> None:
        self.tier = tier
        limits = tuple(limits)
        self.limits = tuple(limit for limit in limits if limit.enforce is enforce)
        self.shadow: EffectiveLimits | None = None
        if enforce and len(self.limits) < len(limits):
            self.shadow = EffectiveLimits(
                name, tier, limits, internal, retentions, shard, enforce=False
            )
        self._shard = shard
        self._internal = internal
        self._is_internal = internal.__getitem__
        self._limits_of: dict[Count, list[RateLimit]] = {}
        self._ledgers = {
            place: self._ledger(name, place, units, retentions[place])
            for place, units in by_ledger_key(self.limits).items()
        }
        self._quick = [
            (ledger, subject_getter(scope))
            for (_, direction, scope), ledger in self._ledgers.items()
            if direction == "outbound" and not is_per_recipient(scope)
        ]
        self._spread = [
            (ledger, scope)
            for (_, direction, scope), ledger in self._ledgers.items()
            if direction == "outbound" and is_per_recipient(scope)
        ]
        self._arriving = [
            (ledger, scope)
            for (_, direction, scope), ledger in self._ledgers.items()
            if direction == "inbound"
        ]
        self._tells_external = any(limit.count == "external" for limit in self.limits)
        self._most = self._bound("all")
        self._most_external = self._bound("external")
        self.known = BoundedCache(self._charges_for, most=512)
        self._looks_closely = bool(self._spread or (self._arriving and internal.patterns))

    def _ledger(
        self,
        name: str,
        place: LedgerKey,
        units: Mapping[int, list[RateLimit]],
        retentions: Mapping[int, Retention],
    ) -> Ledger:
        counts = []
        for unit, limits in units.items():
            counts.append(Count(unit, tuple(map(window_of, limits)), retentions[unit]))
            self._limits_of[counts[-1]] = limits
        span = max(retention.span for retention in retentions.values())
        tag_of = tag_getter(place.scope, self._shard)
        return Ledger(place.ledger_name(name), tuple(counts), span, tag_of)

    def _bound(self, counted: str) -> int:
        """The most recipients that no limit on one subject's message forbids for ever."""
        return min(
            (
                limit.limit
                for limit in self.limits
                if limit.count == counted
                and not (
                    isinstance(limit, RateLimit)
                    and (
                        limit.unit == "messages"
                        or limit.on_oversize == "spread"
                        or _needs_a_close_look(limit)
                    )
                )
            ),
            default=NO_BOUND,
        )

    def plan(self, envelope: Envelope, free: Set[str] = NOBODY_FREE) -> Plan:
        """The charges of `envelope`, or the limit that it can never meet.

        free: recipients that no rate limit counts.
        """
        try:
            known = self.known[envelope.domains]
            if known is None or free or envelope.direction == "inbound":
                return self._plan_closely(envelope, free)
        except AttributeError:
            raise TypeError(f"an Envelope is needed, not {show(envelope)}") from None
        charges = [(ledger, subject(envelope), costs) for ledger, subject, costs in known]
        return _new(Plan, (self, charges, None, None))

    def _charges_for(self, domains: tuple[str, ...]) -> list[Charging] | None:
        """What a message to such domains is charged, whoever sends it.

        None where its recipients must be looked at one by one.
        """
        costs = self._costs(domains)
        _, total, _, external = costs
        if self._looks_closely or total > self._most or external > self._most_external:
            return None
        return self._charging(costs)

    def _charging(self, costs: Costs) -> list[Charging]:
        """What is charged once for a message, whoever its recipients are."""
        return [
            (ledger, subject, costs) for ledger, subject in self._quick if ledger.charges(costs)
        ]

    def _plan_closely(self, envelope: Envelope, free: Set[str]) -> Plan:
        """The plan of a message whose recipients must be looked at one by one."""
        counted = [
            (recipient, domain)
            for recipient, domain in zip(envelope.recipients, envelope.domains, strict=True)
            if recipient not in free
        ]
        charges: list[Charge] = []
        if envelope.direction == "outbound":
            if (never := self._too_many(envelope)) is not None:
                return Plan(self, [], never)
            costs = self._costs([domain for _, domain in counted])
            for ledger, subject, _ in self._charging(costs):
                charges.append((ledger, subject(envelope), costs))
            for ledger, scope in self._spread:
                charges += self._spread_out(ledger, scope, envelope, counted)
        if self._arriving:
            ours = self._ours(envelope, counted)
            for ledger, scope in self._arriving:
                charges += self._spread_out(ledger, scope, envelope, ours)
        return Plan(self, *self._possible(charges))

    def _ours(self, envelope: Envelope, counted: list[_Recipient]) -> list[_Recipient]:
        """Those whose mailboxes are the policy's own: of mail that arrives all, unless it says."""
        if self._internal.patterns:
            return [each for each in counted if self._internal[each[1]]]
        return counted if envelope.direction == "inbound" else []

    def _costs(self, domains: Sequence[str]) -> Costs:
        """What a message costs with recipients of such domains."""
        total = external = len(domains)
        if self._tells_external:
            external -= sum(map(self._is_internal, domains))
        return (1 if total else 0, total, 1 if external else 0, external)

    def _spread_out(
        self, ledger: Ledger, scope: Scope, envelope: Envelope, counted: list[_Recipient]
    ) -> list[Charge]:
        """One charge for each subject among the recipients that count, and their domains."""
        fixed = known_parts(scope, envelope)
        domains_of: dict[str, list[str]] = {}
        for recipient, domain in counted:
            parts = {**fixed, "recipient": recipient, "recipient_domain": domain}
            domains_of.setdefault(subject_of(scope, parts), []).append(domain)
        charges: list[Charge] = []
        for subject, domains in domains_of.items():
            costs = self._costs(domains)
            if ledger.charges(costs):
                charges.append((ledger, subject, costs))
        return charges

    def _too_many(self, envelope: Envelope) -> RecipientLimit | None:
        """The recipient limit that one message is above."""
        _, total, _, external = self._costs(envelope.domains)
        for limit in self.limits:
            recipients = total if limit.count == "all" else external
            if isinstance(limit, RecipientLimit) and recipients > limit.limit:
                return limit
        return None

    def _possible(self, charges: list[Charge]) -> tuple[list[Charge], Limit | None]:
        """The charges, or those of a refused attempt and the limit that refuses for ever."""
        for ledger, _, costs in charges:
            for count in ledger.counts:
                if costs[count.unit] > count.most:
                    limits = self._limits_of[count]
                    never = next(
                        limit
                        for limit in limits
                        if limit.limit == count.most
                        and not (isinstance(limit, RateLimit) and limit.on_oversize == "spread")
                    )
                    return [charge for charge in charges if charge[0].counts_denied], never
        return charges, None

    def limit_of(self, count: Count, window: int) -> RateLimit:
        """The limit that window number `window` of a count stands for."""
        return self._limits_of[count][window]

    def ledgers_of(self, scope: Scope) -> list[Ledger]:
        """What is counted per `scope`: what goes out, then what arrives."""
        return [ledger for place, ledger in self._ledgers.items() if place.scope == scope]


def _needs_a_close_look(limit: RateLimit) -> bool:
    """Whether what a message costs of it depends on which recipients it has."""
    return limit.direction == "inbound" or is_per_recipient(limit.scope)
