"""Services that send mail for programs: Brevo, Mailgun, Postmark, Resend and SendGrid.

The defaults are the figures of the free or trial plan; paid plans have no fixed figures, and take
None. All senders of an account count together.

Sources: pages of the services, as read on 2026-11-27; each figure of `SOURCES` names its own.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = [
    "BREVO",
    "MAILGUN",
    "POSTMARK",
    "RESEND",
    "SENDGRID",
    "brevo",
    "mailgun",
    "postmark",
    "resend",
    "sendgrid",
]

_READ: Final = date(2026, 11, 27)
_SIZE: Final = "not enforced: a limit on the size of messages needs the size of each envelope"
_TOO_MANY_REQUESTS: Final = "HTTP 429"

BREVO: Final = Source(
    institution="Brevo",
    figures=(
        Figure(
            limit="messages a second",
            value=1_000,
            unit="requests a second that send a message, for each account",
            pages=(
                Page(
                    title="Rate limits",
                    address="https://developers.brevo.com/docs/api-limits",
                    read=_READ,
                ),
            ),
            refusal=_TOO_MANY_REQUESTS,
        ),
        Figure(
            limit="recipients a day",
            value=300,
            unit="e-mails a day, for each account on the free plan",
            pages=(
                Page(
                    title="Add or remove emails from your plan",
                    address="https://help.brevo.com/hc/en-us/articles/8292912279954",
                    read=_READ,
                ),
            ),
        ),
    ),
    unconfirmed=(
        "Whether a message to two recipients is two e-mails; the preset counts recipients. The page"
        " says that the quota resets every day, but not at what time: the preset counts 24 hours,"
        " sliding, which is never more."
    ),
)


def brevo(*, request_rate: str = "1000/second", sending_quota: str | None = "300/day") -> Policy:
    """Return the limits of one account of Brevo; the defaults are those of the free plan.

    - 1,000 messages a second by the API
    - 300 recipients in 24 hours, sliding

    sending_quota: None for a paid plan, which has no daily limit.

    Source: "Rate limits" and "Add or remove emails from your plan", Brevo, read on 2026-11-27.
    """
    limits: list[Limit] = [MessageRateLimit(request_rate, name="messages a second", scope="global")]
    if sending_quota is not None:
        limits.append(RecipientRateLimit(sending_quota, name="recipients a day", scope="global"))
    return Policy(name="brevo", limits=limits)


MAILGUN: Final = Source(
    institution="Mailgun",
    figures=(
        Figure(
            limit="recipients a message",
            value=1_000,
            unit="recipients a request, To, Cc and Bcc together",
            pages=(
                Page(
                    title="mailgun-go, messages.go: MaxNumberOfRecipients",
                    address="https://github.com/mailgun/mailgun-go/blob/master/messages.go",
                    read=_READ,
                ),
            ),
        ),
    ),
    unconfirmed="The sending limits of each plan, and of a new account.",
)


def mailgun(*, recipient_limit: int = 1_000) -> Policy:
    """Return the limit of Mailgun: 1,000 recipients a message.

    Source: the library `mailgun-go` of Mailgun, read on 2026-11-27.
    """
    return Policy(
        name="mailgun", limits=[RecipientLimit(recipient_limit, name="recipients a message")]
    )


_POSTMARK: Final = Page(
    title="Introduction", address="https://postmarkapp.com/developer", read=_READ
)

POSTMARK: Final = Source(
    institution="Postmark",
    figures=(
        Figure(
            limit="recipients a message",
            value=50,
            unit="recipients a message, To, Cc and Bcc together",
            pages=(_POSTMARK,),
        ),
        Figure(value=10, unit="MB, the largest message", pages=(_POSTMARK,), note=_SIZE),
    ),
    unconfirmed="The rate above which the API answers 429: Postmark publishes none.",
)


def postmark(*, recipient_limit: int = 50) -> Policy:
    """Return the limit of Postmark: 50 recipients a message.

    Source: "Introduction", Postmark's documentation for developers, read on 2026-11-27.
    """
    return Policy(
        name="postmark", limits=[RecipientLimit(recipient_limit, name="recipients a message")]
    )


_RESEND_LIMITS: Final = Page(
    title="Usage Limits", address="https://resend.com/docs/api-reference/rate-limit.md", read=_READ
)
_RESEND_QUOTAS: Final = Page(
    title="What are Resend account quotas and limits?",
    address="https://resend.com/docs/knowledge-base/account-quotas-and-limits.md",
    read=_READ,
)

RESEND: Final = Source(
    institution="Resend",
    figures=(
        Figure(
            limit="messages a second",
            value=5,
            unit="requests a second, for each team",
            pages=(_RESEND_LIMITS,),
            refusal=_TOO_MANY_REQUESTS,
        ),
        Figure(
            limit="recipients a day",
            value=100,
            unit="e-mails a day, for each account on the free plan; each recipient counts",
            pages=(_RESEND_QUOTAS,),
        ),
        Figure(
            limit="recipients a month",
            value=3_000,
            unit="e-mails a month, for each account on the free plan; each recipient counts",
            pages=(_RESEND_QUOTAS,),
            note="here in 31 days, sliding, which is never more than in a month",
        ),
        Figure(
            value=2,
            unit="requests a second, for each team",
            pages=(
                Page(
                    title="API Rate Limit",
                    address="https://resend.com/changelog/api-rate-limit",
                    read=_READ,
                ),
            ),
            note='the rate before it was raised: `request_rate="2/second"`',
        ),
    ),
    unconfirmed="The pages do not say when a day and a month begin.",
    left_out="Received messages, which count towards the quotas as well.",
)


def resend(
    *,
    request_rate: str = "5/second",
    sending_quota: str | None = "100/day",
    monthly_quota: str | None = "3000/31 days",
) -> Policy:
    """Return the limits of one team of Resend; the defaults are those of the free plan.

    - 5 messages a second
    - 100 recipients in 24 hours, sliding
    - 3,000 recipients a month; here in 31 days, sliding

    sending_quota: None for a paid plan. monthly_quota: the quota of the plan; None: no limit.

    Source: "Usage Limits" and "What are Resend account quotas and limits?", Resend, read on
    2026-11-27.
    """
    limits: list[Limit] = [MessageRateLimit(request_rate, name="messages a second", scope="global")]
    if sending_quota is not None:
        limits.append(RecipientRateLimit(sending_quota, name="recipients a day", scope="global"))
    if monthly_quota is not None:
        limits.append(RecipientRateLimit(monthly_quota, name="recipients a month", scope="global"))
    return Policy(name="resend", limits=limits)


_SENDGRID_SEND: Final = Page(
    title="Limitations",
    address="https://docs.sendgrid.com/api-reference/mail-send/limitations",
    read=_READ,
)
_SENDGRID_TRIAL: Final = Page(
    title="Twilio SendGrid Trial Account Plan",
    address=(
        "https://support.sendgrid.com/hc/en-us/articles/"
        "35270136965403-Twilio-SendGrid-Trial-Account-Plan"
    ),
    read=_READ,
)
_SENDGRID_CREDITS: Final = Page(
    title='Understanding the "Maximum Credits Exceeded" error',
    address=(
        "https://support.sendgrid.com/hc/en-us/articles/"
        "35466138799899-Understanding-the-Maximum-Credits-Exceeded-error"
    ),
    read=_READ,
)
_SENDGRID_REPLY: Final = Page(
    title="Emails not being sent: SendGrid credits exceeded (Adobe Commerce)",
    address=(
        "https://experienceleague.adobe.com/docs/commerce-knowledge-base/kb/troubleshooting/"
        "miscellaneous/emails-not-being-sent-sendgrid-credits-exceeded.html"
    ),
    read=_READ,
    second_hand=True,
)

SENDGRID: Final = Source(
    institution="Twilio SendGrid",
    figures=(
        Figure(
            limit="recipients a message",
            value=1_000,
            unit="recipients a request, To, Cc and Bcc together",
            pages=(_SENDGRID_SEND,),
        ),
        Figure(
            limit="recipients a day",
            value=100,
            unit="e-mails a day, which begins at midnight, UTC, for each account on the trial plan",
            pages=(_SENDGRID_TRIAL, _SENDGRID_CREDITS, _SENDGRID_REPLY),
            refusal="451 Authentication failed: Maximum credits exceeded",
        ),
        Figure(value=30, unit="MB, the largest message", pages=(_SENDGRID_SEND,), note=_SIZE),
    ),
    unconfirmed=(
        "Whether a message to two recipients is two e-mails; the preset counts recipients. The"
        " status 4.7.0 of the reply is not on the pages."
    ),
)


def sendgrid(
    *, recipient_limit: int = 1_000, sending_quota: str | None = "100/calendar day"
) -> Policy:
    """Return the limits of one account of Twilio SendGrid; the defaults are the trial's.

    - 1,000 recipients a message
    - 100 recipients a day, from one midnight to the next, UTC

    Excess is deferred with the reply of SendGrid, 451.

    sending_quota: None for a paid plan, which has no daily limit.

    Source: "Limitations" and "Twilio SendGrid Trial Account Plan", Twilio, read on 2026-11-27.
    """
    limits: list[Limit] = [RecipientLimit(recipient_limit, name="recipients a message")]
    if sending_quota is not None:
        limits.append(
            RecipientRateLimit(
                sending_quota,
                name="recipients a day",
                scope="global",
                reply="451 4.7.0 Maximum credits exceeded",
            )
        )
    return Policy(name="sendgrid", limits=limits)
