"""Tier: a class of clients with limits of its own; and whether each of several can be reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import name
from ratelimit_mail.conditions import Condition
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit, RateLimit, RecipientLimit
from ratelimit_mail.policy.reachability import first_unreachable

__all__ = ["Tier", "check_tiers", "limits_from"]


def limits_from(value: object) -> tuple[Limit, ...]:
    """`value` as limits. Raises TypeError for what is none."""
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


@attrs.frozen
class Tier:
    """A class of clients with limits of its own.

    name: how decisions and tables call it.
    when: the condition on the client; left out: every client that no earlier tier took.
    limits: what its clients meet beside the policy's common limits.
    """

    name: str = attrs.field(validator=name)
    when: Condition | None = attrs.field(default=None, kw_only=True)
    limits: tuple[Limit, ...] = attrs.field(default=(), kw_only=True, converter=limits_from)

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


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raises ValueError for two tiers of one name, and for one that can never be reached."""
    names = [tier.name for tier in tiers]
    for each in names:
        if names.count(each) > 1:
            raise ValueError(f"tiers: two of them are named {each!r}")
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
