"""Decides whether an e-mail may go now, later or never, and counts what went."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ratelimit_mail._util.lazy_names import lazy_names

if TYPE_CHECKING:
    from ratelimit_mail import presets
    from ratelimit_mail.decision import Action, Decision
    from ratelimit_mail.directory import Directory, MailingList
    from ratelimit_mail.envelope import Client, Envelope
    from ratelimit_mail.exceptions import RateLimitExceeded
    from ratelimit_mail.limiter import AsyncLimiter, Limiter
    from ratelimit_mail.limits import (
        ByteRateLimit,
        MessageRateLimit,
        MessageSizeLimit,
        RecipientLimit,
        RecipientRateLimit,
    )
    from ratelimit_mail.overrides import Exemption, Grant, Override
    from ratelimit_mail.policy import Policy, Tier

__all__ = [
    "Action",
    "AsyncLimiter",
    "ByteRateLimit",
    "Client",
    "Decision",
    "Directory",
    "Envelope",
    "Exemption",
    "Grant",
    "Limiter",
    "MailingList",
    "MessageRateLimit",
    "MessageSizeLimit",
    "Override",
    "Policy",
    "RateLimitExceeded",
    "RecipientLimit",
    "RecipientRateLimit",
    "Tier",
    "presets",
]

# Each name is loaded when it is first asked for: few programs need all of them.
_imported = lazy_names(
    __name__,
    {
        "Action": "decision",
        "AsyncLimiter": "limiter.aio",
        "ByteRateLimit": "limits",
        "Client": "envelope",
        "Decision": "decision",
        "Directory": "directory",
        "Envelope": "envelope",
        "Exemption": "overrides",
        "Grant": "overrides",
        "Limiter": "limiter.sync",
        "MailingList": "directory",
        "MessageRateLimit": "limits",
        "MessageSizeLimit": "limits",
        "Override": "overrides",
        "Policy": "policy",
        "RateLimitExceeded": "exceptions",
        "RecipientLimit": "limits",
        "RecipientRateLimit": "limits",
        "Tier": "policy",
    },
)


def __getattr__(name: str) -> object:
    if name == "presets":
        return import_module("ratelimit_mail.presets")
    if name == "__version__":
        return import_module("importlib.metadata").version("ratelimit-mail")
    return _imported(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
