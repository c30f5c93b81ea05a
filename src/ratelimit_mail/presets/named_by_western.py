"""Other providers, as Western University's page once compared them: history, not today's limits.

Source: Western Technology Services, "Sending Rate Limits", section "Comparison to other ESPs",
as read on 2026-11-22. The figures are that page's, which gives no date. For what Google asks
today, see `presets.gmail`.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Source

__all__ = [
    "ISP",
    "WEBMAIL",
    "comcast",
    "earthlink",
    "gmail_webmail",
    "hotmail",
    "roadrunner",
    "yahoo",
]

_HISTORY: Final = "History: the page names no date, and was not compared with the provider's own."

ISP: Final = Source(
    institution="Western University",
    pages=("Sending Rate Limits",),
    read=date(2026, 11, 22),
    unconfirmed=_HISTORY,
)

WEBMAIL: Final = Source(
    institution="Western University",
    pages=("Sending Rate Limits",),
    read=date(2026, 11, 22),
    unconfirmed=f"{_HISTORY} It says 100 to 500 for all three; 500 is the upper end.",
)


def comcast(*, message_rate: str = "1000/day") -> Policy:
    """Comcast as Western's page names it: 1,000 messages a day per sender. History."""
    return _isp("comcast", message_rate)


def earthlink(*, message_rate: str = "1000/day") -> Policy:
    """EarthLink as Western's page names it: 1,000 messages a day per sender. History."""
    return _isp("earthlink", message_rate)


def roadrunner(*, message_rate: str = "1000/day") -> Policy:
    """Roadrunner as Western's page names it: 1,000 messages a day per sender. History."""
    return _isp("roadrunner", message_rate)


def gmail_webmail(*, recipient_rate: str = "500/day") -> Policy:
    """Gmail as Western's page names it: 100 to 500 recipients a day per sender. History.

    recipient_rate: the upper end of the range; `"100/day"` is the lower.
    """
    return _webmail("gmail-webmail", recipient_rate)


def hotmail(*, recipient_rate: str = "500/day") -> Policy:
    """Hotmail as Western's page names it: 100 to 500 recipients a day per sender. History.

    recipient_rate: the upper end of the range; `"100/day"` is the lower.
    """
    return _webmail("hotmail", recipient_rate)


def yahoo(*, recipient_rate: str = "500/day") -> Policy:
    """Yahoo! as Western's page names it: 100 to 500 recipients a day per sender. History.

    recipient_rate: the upper end of the range; `"100/day"` is the lower.
    """
    return _webmail("yahoo", recipient_rate)


def _isp(name: str, rate: str) -> Policy:
    return Policy(name=name, limits=[MessageRateLimit(rate, name="messages a day")])


def _webmail(name: str, rate: str) -> Policy:
    return Policy(name=name, limits=[RecipientRateLimit(rate, name="recipients a day")])
