"""LimitSelector: selects the limits of a message, by tier, overrides and exemptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.concessions import TargetIndex, apply_concessions
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits, counts_size
from ratelimit_mail.policy.ledger_keys import Retentions, one_of_each_count
from ratelimit_mail.policy.tier_table import TierTable
from ratelimit_mail.scopes import Comparison, subject_getter

if TYPE_CHECKING:
    from ratelimit_mail.overrides import Exemption, Grant, Override
    from ratelimit_mail.policy.tiers import Tier

__all__ = ["MOST_BUILT", "LimitSelector"]

MOST_SELECTED: Final = 4096

MOST_BUILT: Final = 256
"""Fewer than selected, because each EffectiveLimits caches the charges for many domains."""

Conceded = tuple[tuple[int, ...], tuple[int, ...]]
"""The positions of the overrides and of the exemptions that hold."""

NOTHING: Final[Conceded] = ((), ())

TierName = str | None


class LimitSelector:
    """The limits of a policy, and for which clients and senders they have which numbers.

    name: the name under which the policy's messages are counted.
    limits: the limits of all clients.
    tiers: the tiers with their limits.
    overrides, exemptions, grants: what is conceded; grants is None if all may send.
    internal: the domains that are not external.
    retentions: how long each count is remembered.
    shard: the scope by which a cluster spreads the counts.
    comparison: how addresses and clients are compared.

    by_tier: the limits of each tier before anything is conceded; the default is the limits of a
        client that is not in a tier.
    counts_bytes: whether any limit needs the size of a message. Known once: each message asks.
    """

    def __init__(
        self,
        name: str,
        limits: tuple[Limit, ...],
        tiers: tuple[Tier, ...],
        *,
        overrides: TargetIndex[Override],
        exemptions: TargetIndex[Exemption],
        grants: TargetIndex[Grant] | None,
        internal: DomainSet,
        retentions: Retentions,
        shard: str | None,
        comparison: Comparison,
    ) -> None:
        self.name = name
        self.overrides = overrides
        self.exemptions = exemptions
        self.grants = grants
        self.internal = internal
        self.retentions = retentions
        self.shard = shard
        self.comparison = comparison
        self._sender_of = subject_getter(("sender",), comparison)
        self._limits_of_tier: dict[TierName, tuple[Limit, ...]] = {None: limits}
        self._limits_of_tier.update((tier.name, limits + tier.limits) for tier in tiers)
        self._all_limits = limits + tuple(limit for tier in tiers for limit in tier.limits)
        """Those of every tier: what they count is recorded in every tier."""
        self.counts_bytes = any(map(counts_size, self._all_limits))
        self._selected: dict[tuple[TierName, Conceded], EffectiveLimits] = {}
        self._built: dict[
            tuple[TierName, tuple[Limit, ...], tuple[Limit, ...]], EffectiveLimits
        ] = {}
        """By the limits themselves: senders with the same numbers share one EffectiveLimits."""
        recorded = one_of_each_count(self._all_limits)
        self.by_tier = TierTable(
            ((tier, self._build(tier.name, limits + tier.limits, recorded)) for tier in tiers),
            self._build(None, limits, recorded),
        )

    @property
    def has_dates(self) -> bool:
        """Whether the selection depends on the time."""
        indexes = (self.overrides, self.exemptions, self.grants or TargetIndex(()))
        return any(each.has_dates for index in indexes for each in index.all)

    @property
    def concedes(self) -> bool:
        """Whether the selection depends on anything but the client's tier."""
        return bool(self.overrides.all or self.exemptions.all or self.grants is not None)

    @property
    def concedes_by_sender(self) -> bool:
        """Whether what is conceded depends on the sender first, if anything is."""
        return self.grants is None and self.overrides.is_by_sender and self.exemptions.is_by_sender

    def names_sender(self, envelope: Envelope) -> bool:
        """Return whether anything that depends on the sender may be conceded to `envelope`."""
        sender, domain = self._sender_of(envelope), envelope.sender_domain
        return self.overrides.names(sender, domain) or self.exemptions.names(sender, domain)

    @property
    def has_shadow(self) -> bool:
        """Whether there are limits that only report."""
        return any(effective.shadow is not None for effective in self.by_tier.values())

    def plan_by_tier(self, envelope: Envelope) -> ChargePlan:
        """Return the plan of `envelope`, if nothing is conceded and no limit only reports."""
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        return self.by_tier.choose(envelope.client).plan(envelope)

    def select(self, client: Client, senders: Sequence[str], now: int) -> EffectiveLimits:
        """Return the limits of a client that sends at `now` under any of `senders`."""
        effective = self.by_tier.choose(client)
        conceded = (
            self.overrides.holding(senders, client, now),
            self.exemptions.holding(senders, client, now),
        )
        if conceded == NOTHING:
            return effective
        key = (effective.tier, conceded)
        selected = self._selected.get(key)
        if selected is None:
            selected = self._concede(effective.tier, conceded)
            if len(self._selected) >= MOST_SELECTED:
                self._selected.clear()
            self._selected[key] = selected
        return selected

    def may_send(self, client: Client, senders: Sequence[str], now: int) -> bool:
        """Return whether a client has a grant, or the policy does not require one."""
        return self.grants is None or bool(self.grants.holding(senders, client, now))

    def expecting_overrides(
        self, client: Client, senders: Sequence[str], now: int
    ) -> dict[int, Override]:
        """Return the overrides with an expected number of recipients that change a limit.

        They are returned by position. An override changes nothing if earlier ones or exemptions
        take precedence for each of its limits, or if these are limits of other tiers.
        """
        tier = self.by_tier.choose(client).tier
        names = {limit.name for limit in self._limits_of_tier[tier]}
        for position in self.exemptions.holding(senders, client, now):
            exempt = self.exemptions.all[position].limits
            names = set() if exempt is None else names.difference(exempt)
        expecting: dict[int, Override] = {}
        for position in self.overrides.holding(senders, client, now):
            override = self.overrides.all[position]
            if override.expected_recipients is not None and not names.isdisjoint(override.limits):
                expecting[position] = override
            names.difference_update(override.limits)
        return expecting

    def _concede(self, tier: TierName, conceded: Conceded) -> EffectiveLimits:
        """Return the limits of a tier after what is conceded.

        What only exempted limits count is not recorded either.
        """
        overrides = [self.overrides.all[position] for position in conceded[0]]
        exemptions = [self.exemptions.all[position] for position in conceded[1]]
        limits = apply_concessions(self._limits_of_tier[tier], overrides, exemptions)
        recorded = one_of_each_count(apply_concessions(self._all_limits, (), exemptions))
        key = (tier, limits, recorded)
        built = self._built.get(key)
        if built is None:
            if len(self._built) >= MOST_BUILT:
                self._selected.clear()
                self._built.clear()
            built = self._built[key] = self._build(tier, limits, recorded)
        return built

    def _build(
        self, tier: TierName, limits: Iterable[Limit], recorded: Iterable[Limit]
    ) -> EffectiveLimits:
        return EffectiveLimits(
            self.name,
            tier,
            limits,
            self.internal,
            self.retentions,
            self.shard,
            recorded=recorded,
            comparison=self.comparison,
        )
