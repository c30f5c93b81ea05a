"""A policy for JSON: its limits, tiers, exemptions and settings, also in words."""

from __future__ import annotations

from typing import Any

from ratelimit_mail.cli.describe import concession_in_words, condition_in_words, limit_in_words
from ratelimit_mail.limits import Limit, MessageSizeLimit, RecipientLimit
from ratelimit_mail.policy import Policy

__all__ = ["policy_as_json"]


def policy_as_json(policy: Policy) -> dict[str, Any]:
    """Return the rules of a policy for JSON. The keys are stable."""
    return {
        "name": policy.name,
        "limits": list(map(_limit_as_json, policy.limits)),
        "tiers": [
            {
                "name": tier.name,
                "when": condition_in_words(tier.when),
                "limits": list(map(_limit_as_json, tier.limits)),
            }
            for tier in policy.tiers
        ],
        "grants": None if policy.grants is None else list(map(concession_in_words, policy.grants)),
        "exemptions": list(map(concession_in_words, policy.exemptions)),
        "internal_domains": list(policy.internal_domains),
        "case_sensitive": policy.case_sensitive,
        "subaddress": policy.subaddress,
        "ipv4_prefix": policy.ipv4_prefix,
        "ipv6_prefix": policy.ipv6_prefix,
        "proxy_address_limit": policy.proxy_address_limit,
        "partial": policy.partial,
        "per_node": policy.per_node,
    }


def _limit_as_json(limit: Limit) -> dict[str, Any]:
    common = {
        "name": limit.name,
        "words": limit_in_words(limit),
        "limit": limit.limit,
        "count": limit.count,
    }
    if isinstance(limit, MessageSizeLimit):
        return {**common, "unit": "bytes of one message"}
    if isinstance(limit, RecipientLimit):
        return {**common, "unit": "recipients of one message"}
    return {
        **common,
        "unit": limit.unit,
        "seconds": limit.window / 1000,
        "scope": list(limit.scope),
        "direction": limit.direction,
        "on_excess": limit.on_excess,
        "denied": limit.denied,
    }
