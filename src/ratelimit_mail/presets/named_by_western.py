"""Other providers that Western University's page lists: historical limits, not current ones.

Source: Western Technology Services, "Sending Rate Limits", section "Comparison to other ESPs",
as read on 2026-11-22. The figures are those of that page, which gives no date. For
Google's current limits, see `presets.gmail`.
"""

from __future__ import annotations

from typing import Final

from ratelimit_mail.limits import MessageRateLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Figure, Source
from ratelimit_mail.presets.western import SENDING_RATE_LIMITS

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

_HISTORY: Final = (
    "History: the page gives no date, and was not compared with the provider's own page."
)


ISP: Final = Source(
    institution="Western University",
    figures=(
        Figure(
            limit="messages a day", value=1_000, unit="messages a day", pages=(SENDING_RATE_LIMITS,)
        ),
    ),
    unconfirmed=_HISTORY,
)

WEBMAIL: Final = Source(
    institution="Western University",
    figures=(
        Figure(
            limit="recipients a day",
            value=500,
            unit="recipients a day, the upper end of a range",
            pages=(SENDING_RATE_LIMITS,),
        ),
        Figure(
            value=100,
            unit="recipients a day, the lower end of the range",
            pages=(SENDING_RATE_LIMITS,),
            note='`recipient_rate="100/day"`',
        ),
    ),
    unconfirmed=f"{_HISTORY} It says 100 to 500 for all three; 500 is the upper end.",
)


def comcast(*, message_rate: str = "1000/day") -> Policy:
    """Return Comcast's historical limit, listed by Western: 1,000 messages a day per sender."""
    return _isp("comcast", message_rate)


def earthlink(*, message_rate: str = "1000/day") -> Policy:
    """Return EarthLink's historical limit, listed by Western: 1,000 messages a day per sender."""
    return _isp("earthlink", message_rate)


def roadrunner(*, message_rate: str = "1000/day") -> Policy:
    """Return Roadrunner's historical limit, listed by Western: 1,000 messages a day per sender."""
    return _isp("roadrunner", message_rate)


def gmail_webmail(*, recipient_rate: str = "500/day") -> Policy:
    """Return Gmail's historical limit, listed by Western: 100 to 500 recipients a day per sender.

    recipient_rate: the upper end of the range; `"100/day"` is the lower end.
    """
    return _webmail("gmail-webmail", recipient_rate)


def hotmail(*, recipient_rate: str = "500/day") -> Policy:
    """Return Hotmail's historical limit, listed by Western: 100 to 500 recipients a day per sender.

    recipient_rate: the upper end of the range; `"100/day"` is the lower end.
    """
    return _webmail("hotmail", recipient_rate)


def yahoo(*, recipient_rate: str = "500/day") -> Policy:
    """Return Yahoo!'s historical limit, listed by Western: 100 to 500 recipients a day per sender.

    recipient_rate: the upper end of the range; `"100/day"` is the lower end.
    """
    return _webmail("yahoo", recipient_rate)


def _isp(name: str, rate: str) -> Policy:
    return Policy(name=name, limits=[MessageRateLimit(rate, name="messages a day")])


def _webmail(name: str, rate: str) -> Policy:
    return Policy(name=name, limits=[RecipientRateLimit(rate, name="recipients a day")])
