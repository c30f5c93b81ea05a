"""The University of Leeds: Office 365, and the University's own SMTP servers.

Source: University of Leeds IT, "Mass or bulk emailing using Office 365", as read on 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.limits import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.overrides import Grant, Override
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.grants import concessions
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = ["OFFICE365", "SMTP", "leeds_office365", "leeds_smtp"]

_PAGE: Final = Page(
    title="Mass or bulk emailing using Office 365",
    address=(
        "http://it.leeds.ac.uk/info/215/managing_your_email/893/mass_or_bulk_mailing_with_office_365"
    ),
    read=date(2026, 11, 22),
)

OFFICE365: Final = Source(
    institution="University of Leeds",
    figures=(
        Figure(
            limit="recipients a message", value=100, unit="recipients a message", pages=(_PAGE,)
        ),
        Figure(
            limit="messages a minute",
            value=30,
            unit="messages a minute, for each sender",
            pages=(_PAGE,),
        ),
        Figure(
            limit="recipients a day",
            value=10_000,
            unit="recipients in 24 hours, for each sender",
            pages=(_PAGE,),
        ),
        Figure(
            value=500,
            unit="recipients a message, by the IT Service Desk on request",
            pages=(_PAGE,),
            note="an override of `recipients a message`",
        ),
        Figure(
            value=100,
            unit="external recipients an hour",
            pages=(
                Page(
                    title="Mass or bulk emailing using Office 365",
                    address="https://it.leeds.ac.uk/it?id=kb_article&sysparm_article=KB0011069",
                    read=date(2026, 11, 27),
                ),
            ),
            note="a later version of the page, which no longer has the other figures",
        ),
    ),
)

SMTP: Final = Source(
    institution="University of Leeds",
    figures=(
        Figure(
            limit="recipients a message", value=400, unit="recipients a message", pages=(_PAGE,)
        ),
    ),
    unconfirmed=(
        "The page says that the address is granted an increased limit, but not how high it is; the"
        " preset only limits the recipients of one message."
    ),
)


def leeds_office365(
    *,
    recipient_limit: int = 100,
    message_rate: str = "30/minute",
    recipient_rate: str = "10000/day",
    overrides: Iterable[Override] = (),
    directory: DirectoryLike | None = None,
) -> Policy:
    """Return the limits of the University of Leeds's Office 365.

    - 100 recipients a message; a message with more is not sent; the IT Service Desk raises
      the limit to 500 on request
    - 30 messages a minute per sender; more are queued and released gradually
    - 10,000 recipients in 24 hours per sender; after that, the sender has to wait

    overrides: different limits that the Service Desk gave some senders, by the names
        `"recipients a message"`, `"messages a minute"` and `"recipients a day"`. Each must
        have a `reason` and `expected_recipients`, for which the Service Desk asks.
    directory: the mailing lists, each of which is one recipient.

    Source: "Mass or bulk emailing using Office 365", University of Leeds, read on
    2026-11-22.
    """
    return Policy(
        name="leeds-office365",
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            MessageRateLimit(message_rate, name="messages a minute"),
            RecipientRateLimit(recipient_rate, name="recipients a day"),
        ],
        overrides=overrides,
        override_requires=("reason", "expected_recipients"),
        directory=directory,
    )


def leeds_smtp(
    *,
    recipient_limit: int = 400,
    grants: Iterable[Grant | str] = (),
    directory: DirectoryLike | None = None,
) -> Policy:
    """Return the limits of the University of Leeds's own SMTP servers, without Office 365's.

    - 400 recipients a message
    - no other limit
    - the IT Service Desk must have granted the sender address, once; mail from all other
      senders is rejected, so without grants all mail is rejected
    - `kim+shop@leeds.ac.uk` is `kim@leeds.ac.uk`

    grants: the granted addresses, or `Grant` objects that state the purpose.
    directory: the mailing lists, each of which is one recipient.

    Source: "Mass or bulk emailing using Office 365", University of Leeds, read on
    2026-11-22.
    """
    return Policy(
        name="leeds-smtp",
        subaddress="+",
        limits=[RecipientLimit(recipient_limit, name="recipients a message")],
        grants=concessions(Grant, grants, "mass mailing"),
        directory=directory,
    )
