"""Amazon Simple Email Service (SES).

Source: Amazon Web Services, "Service quotas in Amazon SES", "Managing your Amazon SES sending
limits" and "Errors related to the sending quotas for your Amazon SES account", as read on
2026-11-27.
"""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

from ratelimit_mail.limits import Limit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = ["SES", "amazon_ses"]

_READ: Final = date(2026, 11, 27)
_GUIDE: Final = "https://docs.aws.amazon.com/ses/latest/dg"
_QUOTAS: Final = Page(
    title="Service quotas in Amazon SES", address=f"{_GUIDE}/quotas.html", read=_READ
)
_MANAGING: Final = Page(
    title="Managing your Amazon SES sending limits",
    address=f"{_GUIDE}/manage-sending-quotas.html",
    read=_READ,
)
_ERRORS: Final = Page(
    title="Errors related to the sending quotas for your Amazon SES account",
    address=f"{_GUIDE}/manage-sending-quotas-errors.html",
    read=_READ,
)

SES: Final = Source(
    institution="Amazon Web Services",
    figures=(
        Figure(
            limit="recipients a message", value=50, unit="recipients a message", pages=(_QUOTAS,)
        ),
        Figure(
            limit="recipients a second",
            value=1,
            unit="recipient a second, for the whole account in the sandbox",
            pages=(_QUOTAS, _MANAGING, _ERRORS),
            refusal="454 Throttling failure: Maximum sending rate exceeded",
        ),
        Figure(
            limit="recipients a day",
            value=200,
            unit="recipients in 24 hours, sliding, for the whole account in the sandbox",
            pages=(_QUOTAS, _MANAGING, _ERRORS),
            refusal="454 Throttling failure: Daily message quota exceeded",
        ),
    ),
    unconfirmed=(
        "SES allows short bursts above the sending rate, and no page says how large they may be:"
        " the preset allows none. That a message to more recipients than the rate is sent, and then"
        " holds the rate, is from an answer of the service's staff. The status 4.7.0 of the replies"
        " is not on the page."
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

    A message to more recipients than the rate is accepted when nothing is counted, and then uses up
    the rate for as many seconds as it takes. It counts towards the quota at once. A quota below
    `recipient_limit` is used up in the same way. The reply is that of SES, 454.

    sending_rate: `MaxSendRate` of the account, such as `"14/second"`.
    sending_quota: `Max24HourSend` of the account, such as `"50000/day"`; None if it is -1,
        which means unlimited.

    Source: "Service quotas in Amazon SES" and "Errors related to the sending quotas for your
    Amazon SES account", Amazon Web Services, read on 2026-11-27.
    """
    limits: list[Limit] = [
        RecipientLimit(recipient_limit, name="recipients a message"),
        RecipientRateLimit(
            sending_rate,
            name="recipients a second",
            scope="global",
            on_oversize="spread",
            reply="454 4.7.0 Throttling failure: Maximum sending rate exceeded",
        ),
    ]
    if sending_quota is not None:
        quota = _quota(sending_quota, "reject")
        # Only a quota below the most recipients needs to spread a message. Any other counts it as a
        # whole, as SES does.
        limits.append(quota if quota.limit >= recipient_limit else _quota(sending_quota, "spread"))
    return Policy(name="amazon-ses", limits=limits)


def _quota(rate: str, on_oversize: Literal["reject", "spread"]) -> RecipientRateLimit:
    return RecipientRateLimit(
        rate,
        name="recipients a day",
        scope="global",
        on_oversize=on_oversize,
        reply="454 4.7.0 Throttling failure: Daily message quota exceeded",
    )
