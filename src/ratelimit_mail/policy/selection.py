"""Which sheet a message meets: by the client's tier, and by what is conceded to its sender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Exemption, Grant, Override, TargetIndex
from ratelimit_mail.policy.charges import EffectiveLimits, Plan
from ratelimit_mail.policy.ledger_keys import Retentions
from ratelimit_mail.policy.tiers import Tier

__all__ = ["LimitSelector"]

MOST_CHOSEN: Final = 4096

MOST_SHEETS: Final = 256
"""Fewer, because each sheet keeps what messages to many domains are charged."""

Conceded = tuple[tuple[int, ...], tuple[int, ...]]
"""The numbers of the overrides and of the exemptions that hold."""

NOTHING: Final[Conceded] = ((), ())


@attrs.frozen
class LimitSelector:
    """A policy's limits, and for whom which of them hold with which numbers."""

    name: str
    limits: tuple[Limit, ...]
    tiers: tuple[Tier, ...]
    overrides: TargetIndex[Override]
    exemptions: TargetIndex[Exemption]
    grants: TargetIndex[Grant] | None
    internal: DomainSet
    retentions: Retentions
    shard: str | None
    common: EffectiveLimits = attrs.field(init=False)
    of_tiers: tuple[tuple[Tier, EffectiveLimits], ...] = attrs.field(init=False)
    _chosen: dict[tuple[str | None, Conceded], EffectiveLimits] = attrs.field(
        init=False, factory=dict
    )
    _made: dict[tuple[str | None, tuple[Limit, ...]], EffectiveLimits] = attrs.field(
        init=False, factory=dict
    )
    """What is conceded to many is often the same, so they share a sheet."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "common", self._limits_for(None, self.limits))
        of_tiers = tuple(
            (tier, self._limits_for(tier, self.limits + tier.limits)) for tier in self.tiers
        )
        object.__setattr__(self, "of_tiers", of_tiers)

    @property
    def has_dates(self) -> bool:
        """Whether the time matters to which sheet it is."""
        registers = (self.overrides, self.exemptions, self.grants or TargetIndex(()))
        return any(each.has_dates for register in registers for each in register.all)

    @property
    def concedes(self) -> bool:
        """Whether anything but the client's tier matters."""
        return bool(self.overrides.all or self.exemptions.all or self.grants is not None)

    @property
    def shadows(self) -> bool:
        """Whether there are limits that only report."""
        sheets = (self.common, *(sheet for _, sheet in self.of_tiers))
        return any(sheet.shadow is not None for sheet in sheets)

    def plan_by_tier(self, envelope: Envelope) -> Plan:
        """The plan of `envelope` where nothing is conceded and no limit only reports."""
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        return self.by_tier(envelope.client)[1].plan(envelope)

    def by_tier(self, client: Client) -> tuple[Tier | None, EffectiveLimits]:
        """The client's tier and its sheet, before anything is conceded."""
        for tier, sheet in self.of_tiers:
            if tier.holds(client):
                return tier, sheet
        return None, self.common

    def sheet(self, client: Client, senders: Sequence[str], now: int) -> EffectiveLimits:
        """What a client meets that sends at `now` under any of `senders`."""
        tier, sheet = self.by_tier(client)
        conceded = (
            self.overrides.holding(senders, client, now),
            self.exemptions.holding(senders, client, now),
        )
        if conceded == NOTHING:
            return sheet
        key = (tier.name if tier else None, conceded)
        found = self._chosen.get(key)
        if found is None:
            found = self._make(tier, conceded)
            if len(self._chosen) >= MOST_CHOSEN:
                self._chosen.clear()
            self._chosen[key] = found
        return found

    def _make(self, tier: Tier | None, conceded: Conceded) -> EffectiveLimits:
        limits = self._conceded(self.limits + (tier.limits if tier else ()), conceded)
        key = (tier.name if tier else None, limits)
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= MOST_SHEETS:
                self._chosen.clear()
                self._made.clear()
            found = self._made[key] = self._limits_for(tier, limits)
        return found

    def may_send(self, client: Client, senders: Sequence[str], now: int) -> bool:
        """Whether a client has the grant that the policy may ask for."""
        return self.grants is None or bool(self.grants.holding(senders, client, now))

    def _conceded(self, limits: Iterable[Limit], conceded: Conceded) -> tuple[Limit, ...]:
        """`limits` without those exempted from, and with the numbers of the first override."""
        overrides = [self.overrides.all[number] for number in conceded[0]]
        exemptions = [self.exemptions.all[number] for number in conceded[1]]
        kept = []
        for limit in limits:
            if any(each.limits is None or limit.name in each.limits for each in exemptions):
                continue
            found = next((each for each in overrides if limit.name in each.limits), None)
            kept.append(limit if found is None else found.applied_to(limit))
        return tuple(kept)

    def _limits_for(self, tier: Tier | None, limits: Iterable[Limit]) -> EffectiveLimits:
        name = tier.name if tier else None
        return EffectiveLimits(self.name, name, limits, self.internal, self.retentions, self.shard)
