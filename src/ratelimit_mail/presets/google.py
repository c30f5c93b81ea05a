"""Google: Gmail for consumers, and Gmail in Google Workspace.

Sources: Google, "Gmail sending limits in Google Workspace", as read on 2026-11-27, and "Limits for
sending & getting mail" (Gmail Help), as read on 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from ratelimit_mail.conditions import any_of, protocol
from ratelimit_mail.limits import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = ["GMAIL", "WORKSPACE", "gmail", "google_workspace"]

_WORKSPACE: Final = Page(
    title="Gmail sending limits in Google Workspace",
    address="https://support.google.com/a/answer/166852?hl=en",
    read=date(2026, 11, 27),
)
_WORKSPACE_COPY: Final = Page(
    title="What are the mass mailing limits? (Google Workspace, IONOS)",
    address="https://www.ionos.co.uk/help/index.php?id=17026",
    read=date(2026, 11, 27),
    second_hand=True,
)
_UNIQUE_COPY: Final = Page(
    title="Gmail sending limits (University of North Carolina at Charlotte)",
    address="https://spaces.charlotte.edu/pages/diffpagesbyversion.action?pageId=5309994",
    read=date(2026, 11, 27),
    second_hand=True,
)
_GMAIL: Final = Page(
    title="Limits for sending & getting mail",
    address="https://support.google.com/mail/answer/22839",
    read=date(2026, 11, 22),
    second_hand=True,
)

WORKSPACE: Final = Source(
    institution="Google",
    figures=(
        Figure(
            limit="recipients a message",
            value=2_000,
            unit="recipients a message",
            pages=(_WORKSPACE,),
        ),
        Figure(
            limit="external recipients a message",
            value=500,
            unit="external recipients a message",
            pages=(_WORKSPACE,),
        ),
        Figure(
            limit="recipients through smtp",
            value=100,
            unit="recipients a message by SMTP or the Gmail API",
            pages=(_WORKSPACE,),
        ),
        Figure(
            limit="messages a day",
            value=2_000,
            unit="messages in 24 hours, sliding, for each user",
            pages=(_WORKSPACE,),
        ),
        Figure(
            limit="recipients a day",
            value=10_000,
            unit="recipients in 24 hours, sliding, for each user",
            pages=(_WORKSPACE,),
        ),
        Figure(
            limit="external recipients a day",
            value=3_000,
            unit="external recipients in 24 hours, sliding, for each user",
            pages=(_WORKSPACE_COPY, _WORKSPACE),
        ),
        Figure(
            limit="unique recipients a day",
            value=3_000,
            unit="unique recipients in 24 hours, for each user",
            pages=(_WORKSPACE_COPY, _UNIQUE_COPY),
        ),
        Figure(
            limit="unique external recipients a day",
            value=2_000,
            unit="unique external recipients in 24 hours, for each user",
            pages=(_UNIQUE_COPY,),
        ),
        Figure(
            value=500,
            unit="messages in 24 hours, for each user of a trial account",
            pages=(_WORKSPACE,),
            note='`message_rate="500/day"`',
        ),
        Figure(
            value=10_000,
            unit="automatically forwarded messages in 24 hours, for each user",
            pages=(_WORKSPACE,),
            note="Google counts them apart; no limiter sees them",
        ),
    ),
    unconfirmed=(
        "The 3,000 external, the 3,000 unique and the 2,000 unique external recipients were seen in"
        " copies of the page."
    ),
    left_out=(
        "Trial accounts, which have lower limits; the SMTP relay service and Apps Script, which"
        " have their own limits."
    ),
)

GMAIL: Final = Source(
    institution="Google",
    figures=(
        Figure(
            limit="recipients a message", value=500, unit="recipients a message", pages=(_GMAIL,)
        ),
        Figure(
            limit="messages a day",
            value=500,
            unit="messages in 24 hours, for each sender",
            pages=(_GMAIL,),
        ),
    ),
    unconfirmed=(
        "Seen in a copy from 2024. The page counts e-mails, not recipients, and does not say that"
        " its day is a sliding window."
    ),
)


def google_workspace(
    *,
    recipient_limit: int = 2_000,
    external_recipient_limit: int = 500,
    smtp_recipient_limit: int = 100,
    message_rate: str = "2000/day",
    recipient_rate: str = "10000/day",
    external_recipient_rate: str = "3000/day",
    unique_recipient_rate: str = "3000/day",
    unique_external_recipient_rate: str = "2000/day",
    internal_domains: Sequence[str] = (),
) -> Policy:
    """Return the limits of Gmail in Google Workspace, for one user of a paid account.

    - 2,000 recipients a message, of which 500 external; 100 through SMTP or the Gmail API,
      for a client whose `protocol` is `smtp` or `api`
    - 2,000 messages in 24 hours, sliding
    - 10,000 recipients in 24 hours, of which 3,000 external; a recipient of two messages
      counts twice
    - 3,000 unique recipients in 24 hours, of which 2,000 external; a recipient counts once

    internal_domains: the primary domain; Google counts the account's other domains as
        external. Without it, all recipients are external.

    Source: "Gmail sending limits in Google Workspace", Google, read on 2026-11-27.
    """
    return Policy(
        name="google-workspace",
        internal_domains=internal_domains,
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            RecipientLimit(
                external_recipient_limit, name="external recipients a message", count="external"
            ),
            MessageRateLimit(message_rate, name="messages a day"),
            RecipientRateLimit(recipient_rate, name="recipients a day"),
            RecipientRateLimit(
                external_recipient_rate, name="external recipients a day", count="external"
            ),
            RecipientRateLimit(unique_recipient_rate, name="unique recipients a day", unique=True),
            RecipientRateLimit(
                unique_external_recipient_rate,
                name="unique external recipients a day",
                count="external",
                unique=True,
            ),
        ],
        tiers=[
            Tier(
                "smtp and api",
                when=any_of(protocol("smtp"), protocol("api")),
                limits=[RecipientLimit(smtp_recipient_limit, name="recipients through smtp")],
            )
        ],
    )


def gmail(*, recipient_limit: int = 500, message_rate: str = "500/day") -> Policy:
    """Return the limits of Gmail for consumers.

    - 500 recipients a message
    - 500 messages in 24 hours per sender

    Source: "Limits for sending & getting mail", Gmail Help, Google, as seen on 2026-11-22 in
    a copy from 2024. It counts e-mails.
    """
    return Policy(
        name="gmail",
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            MessageRateLimit(message_rate, name="messages a day"),
        ],
    )
