"""Policies: the limits of one institution or provider, and which of them apply to a message."""

from __future__ import annotations

from ratelimit_mail.policy.policy import Policy
from ratelimit_mail.policy.tiers import Tier

__all__ = ["Policy", "Tier"]
