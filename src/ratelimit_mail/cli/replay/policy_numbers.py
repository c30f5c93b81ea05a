"""The same policy with other numbers, to learn what each of its limits does alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.rates import MOST

__all__ = ["alone", "opened", "own_limits", "with_number"]


def own_limits(policy: Policy) -> list[tuple[str | None, Limit]]:
    """The limits of `policy` without those of its overrides, each with its tier's name."""
    limits: list[tuple[str | None, Limit]] = [(None, limit) for limit in policy.limits]
    return limits + [(tier.name, limit) for tier in policy.tiers for limit in tier.limits]


def with_number(limit: Limit, number: int) -> Limit:
    """`limit` with another number, in its own window, scope and count, and enforced."""
    if isinstance(limit, RateLimit):
        rate = type(limit.rate)(number, limit.rate.multiples)
        return attrs.evolve(limit, rate=rate, share=None, enforce=True)
    return attrs.evolve(limit, limit=number, enforce=True)


def opened(policy: Policy) -> tuple[Policy, dict[int, int]]:
    """`policy` with numbers that nobody reaches, and which limit each of them stands for.

    All is counted as before: the history that a limit sees may come from other tiers.
    Limits are told by their place in `own_limits`.
    """
    limits = [limit for _, limit in own_limits(policy)]
    numbers = [MOST - place for place in range(len(limits))]
    changed = [with_number(x, n) for x, n in zip(limits, numbers, strict=True)]
    open_ = _with_limits(policy, changed, overrides=())
    return open_, {number: place for place, number in enumerate(numbers)}


def alone(policy: Policy, place: int, number: int) -> Policy:
    """`policy` where only its limit at `place` can refuse anything, above `number`.

    An override of that limit holds for its senders, whatever the number.
    """
    changed = []
    for at, (_, limit) in enumerate(own_limits(policy)):
        if at == place:
            changed.append(with_number(limit, number))
        else:
            changed.append(attrs.evolve(with_number(limit, MOST), name=None))
    # The other limits have no name now: what is conceded of them goes.
    name = changed[place].name
    return _with_limits(
        policy,
        changed,
        overrides=[
            attrs.evolve(each, limits={name: each.limits[name]})
            for each in policy.overrides
            if name is not None and name in each.limits
        ],
        exemptions=[
            each if each.limits is None else attrs.evolve(each, limits=[name])
            for each in policy.exemptions
            if each.limits is None or name in each.limits
        ],
    )


def _with_limits(policy: Policy, limits: Sequence[Limit], **changes: Any) -> Policy:
    """`policy` with each of `own_limits` replaced."""
    left = iter(limits)
    common = [next(left) for _ in policy.limits]
    tiers = [attrs.evolve(tier, limits=[next(left) for _ in tier.limits]) for tier in policy.tiers]
    return policy.evolve(limits=common, tiers=tiers, **changes)
