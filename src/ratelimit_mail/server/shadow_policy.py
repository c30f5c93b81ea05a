"""A policy whose limits only report, for `--shadow`."""

from __future__ import annotations

from typing import Any

import attrs

from ratelimit_mail.policy import Policy

__all__ = ["in_shadow"]


def in_shadow(policy: Policy) -> Policy:
    """Return the policy with limits that only report."""

    def reported(limits: Any) -> list[Any]:
        return [attrs.evolve(limit, enforce=False) for limit in limits]

    tiers = [attrs.evolve(tier, limits=reported(tier.limits)) for tier in policy.tiers]
    return policy.evolve(limits=reported(policy.limits), tiers=tiers)
