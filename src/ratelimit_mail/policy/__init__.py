"""Policies: the limits of one institution or provider, and which of them apply to a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratelimit_mail._util.lazy_names import lazy_names
from ratelimit_mail.policy.policy import Policy

if TYPE_CHECKING:
    from ratelimit_mail.policy.tiers import Tier

__all__ = ["Policy", "Tier"]

__getattr__ = lazy_names(__name__, {"Tier": "tiers"})  # many policies have no tiers
