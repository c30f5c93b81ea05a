"""Variants of a policy with different numbers, to find out what each limit does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.rates import MOST, with_amount

__all__ = ["own_limits", "unlimited", "with_number", "with_only_limit"]


def own_limits(policy: Policy) -> list[tuple[str | None, Limit]]:
    """Return the limits of `policy`, each with the name of its tier.

    The limits of its overrides are not included. Other functions identify a limit by its index
    in this list.
    """
    limits: list[tuple[str | None, Limit]] = [(None, limit) for limit in policy.limits]
    return limits + [(tier.name, limit) for tier in policy.tiers for limit in tier.limits]


def with_number(limit: Limit, number: int) -> Limit:
    """Return `limit` with another number and enforced; window, scope and count stay."""
    if isinstance(limit, RateLimit):
        rate = with_amount(limit.rate, number)
        return attrs.evolve(limit, rate=rate, share=None, enforce=True)
    return attrs.evolve(limit, limit=number, enforce=True)


def unlimited(policy: Policy) -> tuple[Policy, dict[int, int]]:
    """Return `policy` with numbers that no sender reaches, and the index of each number's limit.

    It counts the same as before, because the history of a limit may come from other tiers.
    """
    limits = [limit for _, limit in own_limits(policy)]
    numbers = [MOST - index for index in range(len(limits))]
    changed = [with_number(x, n) for x, n in zip(limits, numbers, strict=True)]
    variant = _with_limits(policy, changed, overrides=())
    return variant, {number: index for index, number in enumerate(numbers)}


def with_only_limit(policy: Policy, index: int, number: int) -> Policy:
    """Return `policy` so that only its limit at `index` can refuse a message, above `number`.

    Overrides of that limit stay in force for their senders.
    """
    changed = []
    for i, (_, limit) in enumerate(own_limits(policy)):
        if i == index:
            changed.append(with_number(limit, number))
        else:
            changed.append(attrs.evolve(with_number(limit, MOST), name=None))
    # The other limits have no name now, so overrides and exemptions of them are dropped.
    name = changed[index].name
    return _with_limits(
        policy,
        changed,
        overrides=[
            attrs.evolve(each, limits={name: each.limits[name]})
            for each in policy.overrides
            if name is not None and name in each.limits
        ],
        exemptions=[
            each if each.limits is None or name is None else attrs.evolve(each, limits=[name])
            for each in policy.exemptions
            if each.limits is None or (name is not None and name in each.limits)
        ],
    )


def _with_limits(policy: Policy, limits: Sequence[Limit], **changes: Any) -> Policy:
    """Return `policy` with each of `own_limits` replaced."""
    remaining = iter(limits)
    common = [next(remaining) for _ in policy.limits]
    tiers = [
        attrs.evolve(tier, limits=[next(remaining) for _ in tier.limits]) for tier in policy.tiers
    ]
    return policy.evolve(limits=common, tiers=tiers, **changes)
