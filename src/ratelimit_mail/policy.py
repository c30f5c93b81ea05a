"""Policy and Tier: the limits of one institution or provider, and who meets which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ratelimit_mail.charge import Ledger
from ratelimit_mail.conditions import Condition
from ratelimit_mail.domains import DomainSet, normal_pattern
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.planning import Plan, Sheet, keepings_of
from ratelimit_mail.reachability import first_unreachable
from ratelimit_mail.sharding import common_shard
from ratelimit_mail.showing import show
from ratelimit_mail.subjects import SCOPES

__all__ = ["Policy", "Tier"]

_NAME: Final = re.compile(r"[A-Za-z0-9._ -]{1,64}")


def _name(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{attribute.name}: a name is a string, not {show(value)}")
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{attribute.name}: {show(value)} is no name of 1 to 64 letters, digits,"
            " dots, dashes, underscores and spaces"
        )


def _limits(value: object) -> tuple[Limit, ...]:
    if not isinstance(value, Iterable):
        raise TypeError(f"limits: a list of limits is needed, not {show(value)}")
    limits = tuple(value)
    for limit in limits:
        if not isinstance(limit, RecipientLimit | RateLimit) or type(limit) is RateLimit:
            raise TypeError(
                f"limits: {show(limit)} is no RecipientLimit, MessageRateLimit"
                " or RecipientRateLimit"
            )
    return limits


def _domains(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"internal_domains: a list of domains is needed, not {show(value)}")
    try:
        return tuple(map(normal_pattern, value))
    except (TypeError, ValueError) as error:
        raise type(error)(f"internal_domains: {error}") from None


def _shard(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    if value is not None and value not in SCOPES:
        raise ValueError(f"{attribute.name}: {show(value)} is none of {', '.join(SCOPES)}")


@attrs.frozen
class Tier:
    """A class of clients with limits of its own.

    name: how decisions and tables call it.
    when: the condition on the client; left out: every client that no earlier tier took.
    limits: what its clients meet beside the policy's common limits.
    """

    name: str = attrs.field(validator=_name)
    when: Condition | None = attrs.field(default=None, kw_only=True)
    limits: tuple[Limit, ...] = attrs.field(default=(), kw_only=True, converter=_limits)

    @when.validator
    def _callable(self, _: object, value: object) -> None:
        if value is not None and not callable(value):
            raise TypeError(
                f"tier {self.name!r}: when: {show(value)} is no condition"
                " such as has_tag('wireless')"
            )

    def holds(self, client: Client) -> bool:
        """Whether `client` belongs here, if no earlier tier took it."""
        return self.when is None or self.when(client)


def _tiers(value: object) -> tuple[Tier, ...]:
    if not isinstance(value, Iterable):
        raise TypeError(f"tiers: a list of tiers is needed, not {show(value)}")
    tiers = tuple(value)
    for tier in tiers:
        if not isinstance(tier, Tier):
            raise TypeError(f"tiers: {show(tier)} is no Tier")
    return tiers


@attrs.frozen(kw_only=True)
class Policy:
    """The limits of one institution or provider.

    name: what its counts are kept under; two policies of one name share their counts.
    limits: what everybody meets.
    tiers: classes of clients with limits of their own; the first that holds is the one.
    internal_domains: what is not external; `".uwo.ca"` stands for all subdomains of `uwo.ca`.
    shard_by: for a Redis Cluster, the scope by which counts are spread over its nodes, such as
        `"sender"`; counts whose scope tells it stand together, and `"global"` keeps all of them
        together. Left out: the narrowest that every limit's scope tells, if there is one.

    Raises ValueError or TypeError for what could not work, a tier that can never be
    reached included.
    """

    name: str = attrs.field(validator=_name)
    limits: tuple[Limit, ...] = attrs.field(default=(), converter=_limits)
    tiers: tuple[Tier, ...] = attrs.field(default=(), converter=_tiers)
    internal_domains: tuple[str, ...] = attrs.field(default=(), converter=_domains)
    shard_by: str | None = attrs.field(default=None, validator=_shard)
    _common: Sheet = attrs.field(init=False, repr=False, eq=False)
    _sheets: tuple[tuple[Tier, Sheet], ...] = attrs.field(init=False, repr=False, eq=False)

    @tiers.validator
    def _reachable(self, _: object, tiers: tuple[Tier, ...]) -> None:
        names = [tier.name for tier in tiers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tiers: two of them are named {name!r}")
        found = first_unreachable([tier.when for tier in tiers])
        if found is None:
            return
        tier, takers = found
        if not takers:
            why = "no client meets its condition"
        elif len(takers) == 1:
            why = f"{names[takers[0]]!r} before it takes every such client"
        else:
            before = " and ".join(repr(names[i]) for i in takers)
            why = f"{before} before it take every such client"
        raise ValueError(f"tiers: {names[tier]!r} can never be reached, because {why}")

    def __attrs_post_init__(self) -> None:
        internal = DomainSet(self.internal_domains)
        keepings = keepings_of(self.all_limits)

        def sheet(tier: Tier | None) -> Sheet:
            limits = self.limits + (tier.limits if tier else ())
            name = tier.name if tier else None
            return Sheet(self.name, name, limits, internal, keepings, self.shard)

        object.__setattr__(self, "_common", sheet(None))
        object.__setattr__(self, "_sheets", tuple((tier, sheet(tier)) for tier in self.tiers))

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """The common limits and those of every tier."""
        return self.limits + tuple(limit for tier in self.tiers for limit in tier.limits)

    @property
    def shard(self) -> str | None:
        """The scope by which a cluster spreads the counts; None where each stands on its own."""
        scopes = {limit.scope for limit in self.all_limits if isinstance(limit, RateLimit)}
        return self.shard_by or common_shard(scopes)

    def sheet(self, client: Client) -> Sheet:
        """What `client` meets: the common limits and those of its tier."""
        for tier, sheet in self._sheets:
            if tier.holds(client):
                return sheet
        return self._common

    def ledgers_of(self, scope: tuple[str, ...]) -> list[Ledger]:
        """What the policy counts per `scope`, in whatever tier."""
        sheets = [self._common, *(sheet for _, sheet in self._sheets)]
        by_name = {ledger.name: ledger for sheet in sheets if (ledger := sheet.ledger_of(scope))}
        return list(by_name.values())

    def plan(self, envelope: Envelope) -> Plan:
        """The charges of `envelope`, or the limit that it can never meet.

        Pure: the same envelope always has the same plan. Raises TypeError for anything
        but an Envelope.
        """
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        return self.sheet(envelope.client).plan(envelope)

    def planner(self) -> Callable[[Envelope], Plan]:
        """What `plan` does, by the shortest way."""
        return self.plan if self.tiers else self._common.plan
