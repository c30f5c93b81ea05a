"""Decides whether an e-mail may go now, later or never, and counts what went."""

from ratelimit_mail import presets
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import RateLimitExceeded
from ratelimit_mail.limiter import AsyncLimiter, Limiter
from ratelimit_mail.limits import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy, Tier

__all__ = [
    "Action",
    "AsyncLimiter",
    "Client",
    "Decision",
    "Envelope",
    "Limiter",
    "MessageRateLimit",
    "Policy",
    "RateLimitExceeded",
    "RecipientLimit",
    "RecipientRateLimit",
    "Tier",
    "presets",
]
