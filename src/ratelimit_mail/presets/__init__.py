"""Policies with the limits of real institutions; each states its numbers, source and date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import (
    amazon,
    google,
    leeds,
    microsoft,
    named_by_western,
    relay,
    western,
)
from ratelimit_mail.presets.amazon import amazon_ses
from ratelimit_mail.presets.google import gmail, google_workspace
from ratelimit_mail.presets.leeds import leeds_office365, leeds_smtp
from ratelimit_mail.presets.microsoft import exchange_online, tenant_external_recipients
from ratelimit_mail.presets.named_by_western import (
    comcast,
    earthlink,
    gmail_webmail,
    hotmail,
    roadrunner,
    yahoo,
)
from ratelimit_mail.presets.relay import campus_relay
from ratelimit_mail.presets.source import Source
from ratelimit_mail.presets.western import western_convergence, western_office365

__all__ = [
    "PRESETS",
    "SOURCES",
    "Source",
    "amazon_ses",
    "campus_relay",
    "comcast",
    "earthlink",
    "exchange_online",
    "gmail",
    "gmail_webmail",
    "google_workspace",
    "hotmail",
    "leeds_office365",
    "leeds_smtp",
    "roadrunner",
    "tenant_external_recipients",
    "western_convergence",
    "western_office365",
    "yahoo",
]

PRESETS: Final[Mapping[str, Callable[[], Policy]]] = MappingProxyType(
    {
        "leeds-office365": leeds_office365,
        "leeds-smtp": leeds_smtp,
        "western-convergence": western_convergence,
        "western-office365": western_office365,
        "campus-relay": campus_relay,
        "exchange-online": exchange_online,
        "google-workspace": google_workspace,
        "gmail": gmail,
        "amazon-ses": amazon_ses,
        "comcast": comcast,
        "earthlink": earthlink,
        "roadrunner": roadrunner,
        "gmail-webmail": gmail_webmail,
        "hotmail": hotmail,
        "yahoo": yahoo,
    }
)
"""The presets by the name of their policy, which is also their name on the command line."""

SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        "leeds-office365": leeds.OFFICE365,
        "leeds-smtp": leeds.SMTP,
        "western-convergence": western.CONVERGENCE,
        "western-office365": western.OFFICE365,
        "campus-relay": relay.RELAY,
        "exchange-online": microsoft.EXCHANGE_ONLINE,
        "google-workspace": google.WORKSPACE,
        "gmail": google.GMAIL,
        "amazon-ses": amazon.SES,
        "comcast": named_by_western.ISP,
        "earthlink": named_by_western.ISP,
        "roadrunner": named_by_western.ISP,
        "gmail-webmail": named_by_western.WEBMAIL,
        "hotmail": named_by_western.WEBMAIL,
        "yahoo": named_by_western.WEBMAIL,
    }
)
"""The sources of each preset's figures, by the same names."""
