"""Providers of mailboxes: iCloud Mail, IONOS, Proton Mail and Zoho Mail.

Sources: Apple, "Mailbox size and message sending limits in iCloud"; IONOS, "What are the mass
mailing limits?"; Proton, "Proton Mail sending limits"; Zoho, "Zoho Mail limits and policies"; all
as read on 2026-11-27.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = [
    "ICLOUD_MAIL",
    "IONOS",
    "PROTON_MAIL",
    "PROTON_MAIL_FREE",
    "ZOHO_MAIL",
    "ZOHO_MAIL_FREE",
    "icloud_mail",
    "ionos",
    "proton_mail",
    "proton_mail_free",
    "zoho_mail",
    "zoho_mail_free",
]

_READ: Final = date(2026, 11, 27)
_SIZE: Final = "not enforced: a limit on the size of messages needs the size of each envelope"

_APPLE: Final = Page(
    title="Mailbox size and message sending limits in iCloud",
    address="https://support.apple.com/en-ca/102198",
    read=_READ,
)

ICLOUD_MAIL: Final = Source(
    institution="Apple",
    figures=(
        Figure(
            limit="recipients a message", value=500, unit="recipients a message", pages=(_APPLE,)
        ),
        Figure(
            limit="messages a day",
            value=1_000,
            unit="messages a day, for each account",
            pages=(_APPLE,),
        ),
        Figure(
            limit="recipients a day",
            value=1_000,
            unit="recipients a day, for each account",
            pages=(_APPLE,),
        ),
        Figure(value=20, unit="MB, the largest message", pages=(_APPLE,), note=_SIZE),
    ),
    unconfirmed=(
        "The page does not say that its day is a sliding window. Older versions of it say 200"
        " messages and 100 recipients a message."
    ),
)


def icloud_mail(
    *,
    recipient_limit: int = 500,
    message_rate: str = "1000/day",
    recipient_rate: str = "1000/day",
) -> Policy:
    """Return the limits of iCloud Mail.

    - 500 recipients a message
    - 1,000 messages a day per sender
    - 1,000 recipients a day per sender; both here in 24 hours, sliding, which is never more

    Source: "Mailbox size and message sending limits in iCloud", Apple, read on 2026-11-27.
    """
    return Policy(
        name="icloud-mail",
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            MessageRateLimit(message_rate, name="messages a day"),
            RecipientRateLimit(recipient_rate, name="recipients a day"),
        ],
    )


_IONOS: Final = Page(
    title="What are the mass mailing limits?",
    address="https://www.ionos.co.uk/help/index.php?id=17026",
    read=_READ,
)
_IONOS_REFUSAL: Final = "450 Mail send limit exceeded."

IONOS: Final = Source(
    institution="IONOS",
    figures=(
        Figure(
            limit="messages an hour",
            value=500,
            unit="messages an hour, for each account, from the 31st day of the contract",
            pages=(_IONOS,),
            refusal=_IONOS_REFUSAL,
        ),
        *(
            Figure(
                value=value,
                unit=f"messages an hour, for each account, from day {days} of the contract",
                pages=(_IONOS,),
                refusal=_IONOS_REFUSAL,
                note=f'`message_rate="{value}/hour"`',
            )
            for value, days in ((50, "0 to 7"), (100, "8 to 14"), (400, "15 to 30"))
        ),
    ),
    unconfirmed=(
        "The page does not say that its hour is a sliding window. Older pages of IONOS in other"
        " countries say 5,000 an hour, and 200 recipients a message. The status 4.7.0 of the reply"
        " is not on the page."
    ),
    left_out="The limits of IONOS's Microsoft Exchange.",
)


def ionos(*, message_rate: str = "500/hour") -> Policy:
    """Return the limit of IONOS Mail Basic and Mail Business.

    - 500 messages an hour per sender; a contract in its first week has 50, in its second 100, and
      from the 15th to the 30th day 400

    Excess is deferred with the reply of IONOS, 450.

    Source: "What are the mass mailing limits?", IONOS, read on 2026-11-27.
    """
    return Policy(
        name="ionos",
        limits=[
            MessageRateLimit(
                message_rate, name="messages an hour", reply="450 4.7.0 Mail send limit exceeded."
            )
        ],
    )


_PROTON: Final = Page(
    title="Proton Mail sending limits",
    address="https://proton.me/support/email-sending-limits",
    read=_READ,
)

PROTON_MAIL: Final = Source(
    institution="Proton",
    figures=(
        Figure(
            limit="recipients a message",
            value=100,
            unit="recipients a message, on a paid plan",
            pages=(_PROTON,),
        ),
    ),
    unconfirmed=(
        "The hourly and the daily limit of a paid plan, which also hold for SMTP submission: they"
        " change with the reputation of the account, and no page states them."
    ),
)

PROTON_MAIL_FREE: Final = Source(
    institution="Proton",
    figures=(
        Figure(
            limit="recipients an hour",
            value=50,
            unit="messages an hour, for each account; each recipient counts as one",
            pages=(_PROTON,),
        ),
        Figure(
            limit="recipients a day",
            value=150,
            unit="messages a day, for each account; each recipient counts as one",
            pages=(_PROTON,),
        ),
    ),
    unconfirmed="The page does not say that its hour and day are sliding windows.",
)


def proton_mail(
    *,
    recipient_limit: int = 100,
    hourly_rate: str | None = None,
    daily_rate: str | None = None,
) -> Policy:
    """Return the limits of Proton Mail on a paid plan, also for SMTP submission.

    - 100 recipients a message

    hourly_rate, daily_rate: the recipients an hour and a day that the account may have, such as
        `"500/hour"`. Proton sets them by the reputation of the account, and does not publish them.

    Source: "Proton Mail sending limits", Proton, read on 2026-11-27.
    """
    limits: list[Limit] = [RecipientLimit(recipient_limit, name="recipients a message")]
    if hourly_rate is not None:
        limits.append(RecipientRateLimit(hourly_rate, name="recipients an hour"))
    if daily_rate is not None:
        limits.append(RecipientRateLimit(daily_rate, name="recipients a day"))
    return Policy(name="proton-mail", limits=limits)


def proton_mail_free(*, hourly_rate: str = "50/hour", daily_rate: str = "150/day") -> Policy:
    """Return the limits of Proton Mail's free plan, which has no SMTP submission.

    - 50 recipients an hour and 150 a day per sender; Proton counts each recipient as a message

    Source: "Proton Mail sending limits", Proton, read on 2026-11-27.
    """
    return Policy(
        name="proton-mail-free",
        limits=[
            RecipientRateLimit(hourly_rate, name="recipients an hour"),
            RecipientRateLimit(daily_rate, name="recipients a day"),
        ],
    )


_ZOHO: Final = Page(
    title="Zoho Mail limits and policies",
    address="https://www.zoho.com/mail/help/adminconsole/rates-and-limits.html",
    read=_READ,
)
_ZOHO_SHARED: Final = (
    Figure(
        limit="external messages an hour",
        value=500,
        unit="external messages an hour, sliding, for each account, the upper end of a range",
        pages=(_ZOHO,),
    ),
    Figure(
        value=50,
        unit="external messages an hour, sliding, for each account, the lower end of the range",
        pages=(_ZOHO,),
        note='set by reputation: `message_rate="50/hour"`',
    ),
    Figure(
        value=1_000,
        unit="internal messages an hour, sliding, for each account",
        pages=(_ZOHO,),
        note="not enforced: a limit counts all messages or the external ones",
    ),
    Figure(
        value=500,
        unit="internal recipients a message",
        pages=(_ZOHO,),
        note="not enforced: a limit counts all recipients or the external ones",
    ),
    Figure(
        value=100,
        unit="messages received a minute",
        pages=(_ZOHO,),
        note="not enforced: the page does not say what it is counted per",
    ),
)
_ZOHO_UNCONFIRMED: Final = (
    "Within which range an account is depends on its reputation, and no page says how."
)

ZOHO_MAIL: Final = Source(
    institution="Zoho",
    figures=(
        Figure(
            limit="external recipients a message",
            value=150,
            unit="external recipients a message, on a paid plan",
            pages=(_ZOHO,),
        ),
        *_ZOHO_SHARED,
    ),
    unconfirmed=_ZOHO_UNCONFIRMED,
)

ZOHO_MAIL_FREE: Final = Source(
    institution="Zoho",
    figures=(
        Figure(
            limit="external recipients a message",
            value=100,
            unit="external recipients a message, on the free plan",
            pages=(_ZOHO,),
        ),
        *_ZOHO_SHARED,
    ),
    unconfirmed=_ZOHO_UNCONFIRMED,
)


def zoho_mail(
    *,
    recipient_limit: int = 150,
    message_rate: str = "500/hour",
    internal_domains: Sequence[str] = (),
) -> Policy:
    """Return the limits of Zoho Mail on a paid plan.

    - 150 external recipients a message
    - 500 messages to external recipients an hour, sliding, per sender: the upper end of a range

    message_rate: Zoho sets it by the reputation of the account; `"50/hour"` is the lower end.
    internal_domains: the domains of the organization. Without them, all recipients are external.

    Source: "Zoho Mail limits and policies", Zoho, read on 2026-11-27.
    """
    return _zoho("zoho-mail", recipient_limit, message_rate, internal_domains)


def zoho_mail_free(
    *,
    recipient_limit: int = 100,
    message_rate: str = "500/hour",
    internal_domains: Sequence[str] = (),
) -> Policy:
    """Return the limits of Zoho Mail's free plan: as `zoho_mail`, with 100 external recipients.

    Source: "Zoho Mail limits and policies", Zoho, read on 2026-11-27.
    """
    return _zoho("zoho-mail-free", recipient_limit, message_rate, internal_domains)


def _zoho(name: str, most: int, message_rate: str, internal_domains: Sequence[str]) -> Policy:
    return Policy(
        name=name,
        internal_domains=internal_domains,
        limits=[
            RecipientLimit(most, name="external recipients a message", count="external"),
            MessageRateLimit(message_rate, name="external messages an hour", count="external"),
        ],
    )
