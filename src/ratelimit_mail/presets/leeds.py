"""The University of Leeds: Office 365.

Source: University of Leeds IT, "Mass or bulk emailing using Office 365", as read on 2026-11-22.
"""

from __future__ import annotations

from ratelimit_mail.limits import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy

__all__ = ["leeds_office365"]


def leeds_office365(
    *,
    recipient_limit: int = 100,
    message_rate: str = "30/minute",
    recipient_rate: str = "10000/day",
) -> Policy:
    """The University of Leeds's Office 365.

    - 100 recipients a message, or it is not sent; the IT Service Desk raises it to 500
    - 30 messages a minute per sender; more are queued and released gradually
    - 10,000 recipients in 24 hours per sender; then one has to wait

    Source: "Mass or bulk emailing using Office 365", University of Leeds, read on
    2026-11-22.
    """
    return Policy(
        name="leeds-office365",
        limits=[
            RecipientLimit(recipient_limit),
            MessageRateLimit(message_rate),
            RecipientRateLimit(recipient_rate),
        ],
    )
