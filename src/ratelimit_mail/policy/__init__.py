"""Policies: the limits of one institution or provider, and which of them apply to a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratelimit_mail.policy.policy import Policy

if TYPE_CHECKING:
    from ratelimit_mail.policy.tiers import Tier

__all__ = ["Policy", "Tier"]


def __getattr__(name: str) -> Any:
    if name == "Tier":
        # Imported here, because many policies have no tiers.
        from ratelimit_mail.policy.tiers import Tier

        return Tier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
