"""Amazon Simple Email Service (SES).

Source: Amazon Web Services, "Service quotas in Amazon SES" and "Managing your Amazon SES
sending limits", as read on 2026-11-22.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from ratelimit_mail.limits import RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Source

__all__ = ["SES", "amazon_ses"]

SES: Final = Source(
    institution="Amazon Web Services",
    pages=("Service quotas in Amazon SES", "Managing your Amazon SES sending limits"),
    read=date(2026, 11, 22),
    unconfirmed=(
        "SES allows short bursts above the sending rate, and no page says how large they may be:"
        " the preset allows none."
    ),
)


def amazon_ses(
    *,
    recipient_limit: int = 50,
    sending_rate: str = "1/second",
    sending_quota: str | None = "200/day",
) -> Policy:
    """Return the limits of one Amazon SES account in one region; the defaults are the sandbox's.

    - 50 recipients a message
    - a sending rate per second, and a sending quota in 24 hours, sliding; both count
      recipients, and all senders of the account together
    - in the sandbox, 1 a second and 200 in 24 hours; outside, the values of the account

    sending_rate: `MaxSendRate` of the account, such as `"14/second"`. A message to more
        recipients than this never fits and is rejected. SES allows short bursts:
        `"50/50 seconds"` is the same rate as the sandbox's and allows a message to 50
        recipients at once, but also 50 messages to one each, which SES may refuse.
    sending_quota: `Max24HourSend` of the account, such as `"50000/day"`; None if it is -1,
        which means unlimited.

    Source: "Service quotas in Amazon SES", Amazon Web Services, read on 2026-11-22.
    """
    limits = [
        RecipientLimit(recipient_limit, name="recipients a message"),
        RecipientRateLimit(sending_rate, name="recipients a second", scope="global"),
    ]
    if sending_quota is not None:
        limits.append(RecipientRateLimit(sending_quota, name="recipients a day", scope="global"))
    return Policy(name="amazon-ses", limits=limits)
