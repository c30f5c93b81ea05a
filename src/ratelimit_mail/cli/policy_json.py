"""A policy for JSON: its limits, tiers, exemptions and settings, also in words."""

from __future__ import annotations

from typing import Any

from ratelimit_mail.cli.describe import concession_in_words, condition_in_words, limit_in_words
from ratelimit_mail.limits import Limit, MessageSizeLimit, RecipientLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import Figure, Source

__all__ = ["figure_as_json", "policy_as_json"]


def policy_as_json(policy: Policy, source: Source | None = None) -> dict[str, Any]:
    """Return the rules of a policy for JSON. The keys are stable.

    source: of a preset; each limit then says how its figure is documented.
    """
    return {
        "name": policy.name,
        "limits": [_limit_as_json(limit, source) for limit in policy.limits],
        "tiers": [
            {
                "name": tier.name,
                "when": condition_in_words(tier.when),
                "limits": [_limit_as_json(limit, source) for limit in tier.limits],
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


def figure_as_json(figure: Figure) -> dict[str, Any]:
    """Return a documented figure for JSON."""
    return {
        "figure": figure.value,
        "unit": figure.unit,
        "sources": [
            {
                "title": page.title,
                "address": page.address,
                "read": page.read.isoformat(),
                "second_hand": page.second_hand,
            }
            for page in figure.pages
        ],
        "refusal": figure.refusal,
        "note": figure.note,
    }


def _limit_as_json(limit: Limit, source: Source | None) -> dict[str, Any]:
    common: dict[str, Any] = {
        "name": limit.name,
        "words": limit_in_words(limit),
        "limit": limit.limit,
        "count": limit.count,
        "reply": limit.reply,
    }
    if source is not None:
        figure = source.of_limit(limit.name, limit.limit)
        common["documented"] = None if figure is None else figure_as_json(figure)
    if isinstance(limit, MessageSizeLimit):
        return {**common, "unit": "bytes of one message"}
    if isinstance(limit, RecipientLimit):
        return {**common, "unit": "recipients of one message"}
    return {
        **common,
        "unit": limit.unit,
        "unique": limit.is_unique,
        "seconds": limit.window / 1000,
        **({} if limit.calendar is None else {"calendar": str(limit.calendar)}),
        "scope": list(limit.scope),
        "direction": limit.direction,
        "on_excess": limit.on_excess,
        "on_oversize": limit.on_oversize,
        "denied": limit.denied,
    }
