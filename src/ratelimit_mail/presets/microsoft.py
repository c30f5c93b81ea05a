"""Microsoft: Exchange Online, Outlook.com and Azure Communication Services.

Sources: pages of Microsoft, and copies and reports of some, as read on 2026-11-22 and 2026-11-27;
each figure of `SOURCES` names its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final, Literal

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = [
    "AZURE",
    "EXCHANGE_ONLINE",
    "OUTLOOK_COM",
    "azure_communication_services",
    "exchange_online",
    "outlook_com",
    "tenant_external_recipients",
]

_READ: Final = date(2026, 11, 27)
_LEARN: Final = "https://learn.microsoft.com/en-us"

_LIMITS: Final = Page(
    title="Exchange Online limits",
    address=(
        "https://learn.microsoft.com/office365/servicedescriptions/"
        "exchange-online-service-description/exchange-online-limits"
    ),
    read=_READ,
    second_hand=True,
)
_TROUBLESHOOT: Final = Page(
    title="Troubleshoot outbound sending limits and blocked users in Exchange Online",
    address=f"{_LEARN}/defender-office-365/outbound-spam-sending-limits-troubleshoot",
    read=_READ,
    second_hand=True,
)
_SUBMISSION: Final = Page(
    title="Message storage and concurrent connection throttling for SMTP Authenticated Submission",
    address=f"{_LEARN}/exchange/troubleshoot/send-emails/smtp-submission-improvements",
    read=_READ,
)
_REPORTS: Final = Page(
    title="Email non-delivery reports and SMTP errors in Exchange Online",
    address=(
        f"{_LEARN}/troubleshoot/exchange/email-delivery/ndr/non-delivery-reports-in-exchange-online"
    ),
    read=_READ,
)
_TENANT: Final = Page(
    title="Message MC1023294: New Exchange Online Tenant Outbound Email Limits",
    address=(
        "https://mwpro.co.uk/blog/2025/03/04/new-exchange-online-tenant-outbound-email-limits-mc1023294"
    ),
    read=_READ,
    second_hand=True,
)
_ONMICROSOFT: Final = Page(
    title="Limiting Onmicrosoft Domain Usage for Sending Emails",
    address=(
        "https://techcommunity.microsoft.com/blog/exchange/"
        "limiting-onmicrosoft-domain-usage-for-sending-emails/4446167"
    ),
    read=_READ,
    second_hand=True,
)
_CANCELLED: Final = Page(
    title="Exchange Online Cancels External Recipient Limit (Petri IT Knowledgebase)",
    address="https://petri.com/exchange-online-cancels-external-recipient-limit/",
    read=_READ,
    second_hand=True,
)
_OUTBOUND_SPAM: Final = Page(
    title="Recommended settings for EOP: outbound spam policy settings",
    address=f"{_LEARN}/defender-office-365/recommended-settings-for-eop-and-office365",
    read=_READ,
)

EXCHANGE_ONLINE: Final = Source(
    institution="Microsoft",
    figures=(
        Figure(
            limit="recipients a message",
            value=500,
            unit="recipients a message; an administrator may set 1 to 1,000",
            pages=(_TROUBLESHOOT,),
        ),
        Figure(
            limit="messages a minute",
            value=30,
            unit="messages a minute, for each mailbox; more are carried over to the next minutes",
            pages=(_SUBMISSION, _TROUBLESHOOT),
        ),
        Figure(
            limit="recipients a day",
            value=10_000,
            unit="recipients in 24 hours, sliding, for each mailbox",
            pages=(_SUBMISSION, _TROUBLESHOOT, _REPORTS),
            refusal="554 5.2.0 SubmissionQuotaExceededException, or 550 5.1.90",
            note="the preset defers, so that nothing comes back to its sender",
        ),
        Figure(
            limit="messages received an hour",
            value=3_600,
            unit="messages an hour into one mailbox",
            pages=(_LIMITS, _REPORTS),
            refusal="550 5.2.122",
            note="the preset defers",
        ),
        Figure(
            limit="messages received an hour from one sender",
            value=1_188,
            unit="messages an hour into one mailbox from one sender: 33 % of 3,600",
            pages=(_LIMITS, _REPORTS),
            refusal="550 5.2.121",
            note="the preset defers",
        ),
        Figure(
            limit="external recipients of the tenant a day",
            value=10_000,
            unit="external recipients in 24 hours, sliding, for a tenant with one licence",
            pages=(_TENANT, _REPORTS),
            refusal="550 5.7.233",
            note="500 x licences ^ 0.7 + 9,500; set `licences` or `external_recipient_rate`",
        ),
        Figure(
            limit="external recipients of the tenant a day",
            value=5_000,
            unit="external recipients in 24 hours, sliding, for a trial tenant",
            pages=(_TROUBLESHOOT, _REPORTS),
            refusal="550 5.7.232",
            note="set `trial=True`",
        ),
        Figure(
            limit="external recipients of onmicrosoft.com a day",
            value=100,
            unit="external recipients in 24 hours, sliding, from the onmicrosoft.com domain",
            pages=(_ONMICROSOFT,),
            refusal="550 5.7.236",
            note="if `internal_domains` names such a domain",
        ),
        Figure(
            limit="external recipients an hour",
            value=500,
            unit="external recipients an hour, for each mailbox, recommended as standard",
            pages=(_OUTBOUND_SPAM,),
            note='set `outbound_spam_policy="standard"`; in Exchange the mailbox is restricted',
        ),
        Figure(
            limit="recipients a day of the outbound spam policy",
            value=1_000,
            unit="recipients a day, for each mailbox, recommended as standard",
            pages=(_OUTBOUND_SPAM,),
            note='set `outbound_spam_policy="standard"`; in Exchange the mailbox is restricted',
        ),
        Figure(
            limit="external recipients an hour",
            value=400,
            unit="external recipients an hour, for each mailbox, recommended as strict",
            pages=(_OUTBOUND_SPAM,),
            note='set `outbound_spam_policy="strict"`; in Exchange the mailbox is restricted',
        ),
        Figure(
            limit="recipients a day of the outbound spam policy",
            value=800,
            unit="recipients a day, for each mailbox, recommended as strict",
            pages=(_OUTBOUND_SPAM,),
            note='set `outbound_spam_policy="strict"`; in Exchange the mailbox is restricted',
        ),
        Figure(
            value=1_000,
            unit="internal recipients an hour, for each mailbox, recommended as standard",
            pages=(_OUTBOUND_SPAM,),
            note="never reached: the policy's limit of 1,000 recipients a day comes first",
        ),
        Figure(
            value=3,
            unit="connections at a time that submit messages, for each mailbox",
            pages=(_SUBMISSION,),
            refusal="432 4.3.2 Concurrent connections limit exceeded.",
            note="not a rate: set `max_connections=3` on the transport or the adapter",
        ),
        Figure(
            value=2_000,
            unit="external recipients in 24 hours, for each mailbox",
            pages=(_CANCELLED,),
            note="cancelled: it was announced in 2024, and was never in force",
        ),
    ),
    unconfirmed=(
        "Exchange Online limits, Troubleshoot outbound sending limits and the two blog posts were"
        " seen in copies and reports. How the tenant's limit is rounded is not stated. Pages differ"
        " on the number of proxy addresses, so the preset does not limit it."
    ),
    left_out=(
        "A sender of the same tenant may exceed the share of one sender. The external members of"
        " a group count towards the tenant's limit; here a list is one recipient. A mailbox above"
        " its outbound spam policy is restricted until an administrator lifts that; here its mail"
        " waits."
    ),
)

_OUTLOOK: Final = Page(
    title="Sending limits in Outlook.com",
    address=(
        "https://support.microsoft.com/en-us/office/"
        "sending-limits-in-outlook-com-279ee200-594c-40f0-9ec8-bb6af7735c2e"
    ),
    read=_READ,
)

OUTLOOK_COM: Final = Source(
    institution="Microsoft",
    figures=(
        Figure(
            limit="recipients a message", value=500, unit="recipients a message", pages=(_OUTLOOK,)
        ),
        Figure(
            limit="recipients a day",
            value=5_000,
            unit="recipients a day, for a subscriber of Microsoft 365",
            pages=(_OUTLOOK,),
        ),
        Figure(
            value=1_000,
            unit="recipients a day that never had mail from the account",
            pages=(_OUTLOOK,),
            note="not enforced: no count knows all recipients of earlier mail",
        ),
        Figure(
            value=25,
            unit="MB, the largest attachment",
            pages=(_OUTLOOK,),
            note="not enforced: a limit on the size of messages needs the size of each envelope",
        ),
    ),
    unconfirmed=(
        "The page does not say that its day is a sliding window. Accounts without a subscription,"
        " and new ones, have lower limits, which no page states."
    ),
)

_AZURE: Final = Page(
    title="Service limits for Azure Communication Services",
    address=f"{_LEARN}/azure/communication-services/concepts/service-limits",
    read=_READ,
)
_THROTTLED: Final = "HTTP 429, with Retry-After"

AZURE: Final = Source(
    institution="Microsoft",
    figures=(
        Figure(
            limit="recipients a message", value=50, unit="recipients a message", pages=(_AZURE,)
        ),
        Figure(
            limit="messages a minute",
            value=30,
            unit="messages a minute, for a subscription with a domain of its own",
            pages=(_AZURE,),
            refusal=_THROTTLED,
        ),
        Figure(
            limit="messages an hour",
            value=100,
            unit="messages an hour, for a subscription with a domain of its own",
            pages=(_AZURE,),
            refusal=_THROTTLED,
        ),
        Figure(
            value=5,
            unit="messages a minute, from a domain that Azure manages",
            pages=(_AZURE,),
            refusal=_THROTTLED,
            note='`minute_rate="5/minute"`',
        ),
        Figure(
            value=10,
            unit="messages an hour, from a domain that Azure manages",
            pages=(_AZURE,),
            refusal=_THROTTLED,
            note='`hour_rate="10/hour"`',
        ),
        Figure(
            value=10,
            unit="MB, the largest request with its attachments",
            pages=(_AZURE,),
            note="not enforced: a limit on the size of messages needs the size of each envelope",
        ),
    ),
    unconfirmed="The page does not say that its minute and hour are sliding windows.",
    left_out="The limits on asking for the status of a message.",
)

OUTBOUND_SPAM_POLICIES: Final = {
    "standard": ("500/hour", "1000/day"),
    "strict": ("400/hour", "800/day"),
}
"""External recipients an hour, and recipients a day, as recommended for one mailbox."""

ONMICROSOFT: Final = ".onmicrosoft.com"

TRIAL_RATE: Final = "5000/day"
"""The external recipients of a trial tenant."""

MOST_RECIPIENTS: Final = 1_000
"""The highest limit on recipients of one message that an administrator can set."""

MOST_LICENCES: Final = 1_000_000_000
"""More than any tenant has; above this, the formula would lose precision."""


def tenant_external_recipients(licences: int) -> int:
    """Return how many external recipients in 24 hours a tenant with `licences` may have.

    500 x licences ^ 0.7 + 9,500, rounded to the nearest integer: 10,000 for one, 22,059 for
    a hundred. Trial licences do not count; a trial tenant has 5,000.

    Raises TypeError or ValueError if `licences` is not a number of licences.

    Source: a copy of Microsoft's message MC1023294, "New Exchange Online Tenant Outbound Email
    Limits", read on 2026-11-27.
    """
    if not 1 <= whole_number("licences", licences) <= MOST_LICENCES:
        raise ValueError(f"licences: {show(licences)} is not between 1 and {MOST_LICENCES}")
    return round(500 * math.pow(licences, 0.7) + 9_500)


def exchange_online(
    *,
    recipient_limit: int = 500,
    message_rate: str = "30/minute",
    recipient_rate: str = "10000/day",
    receiving_rate: str = "3600/hour",
    share_of_one_sender: float = 0.33,
    licences: int | None = None,
    external_recipient_rate: str | None = None,
    internal_domains: Sequence[str] = (),
    overrides: Iterable[Override] = (),
    directory: DirectoryLike | None = None,
    proxy_address_limit: int | None = None,
    onmicrosoft_recipient_rate: str = "100/day",
    trial: bool = False,
    outbound_spam_policy: Literal["standard", "strict"] | None = None,
) -> Policy:
    """Return the limits of Exchange Online.

    - 500 recipients a message; an administrator may set 1 to 1,000, for all mailboxes or for one
    - 30 messages a minute per sender; more are carried over to the following minutes
    - 10,000 recipients in 24 hours, sliding, per sender
    - 3,600 messages an hour into one mailbox, and 33 % of that, 1,188, from one sender;
      when a mailbox has reached this, only that recipient is deferred
    - all external recipients of a tenant together, in 24 hours, sliding: if `licences`,
      `external_recipient_rate` or `trial` is set
    - an outbound spam policy with the recommended numbers: if `outbound_spam_policy` is set
    - 100 external recipients in 24 hours, sliding, from the tenant's onmicrosoft.com domain, if
      `internal_domains` names one

    licences: paid licences with a mailbox; see `tenant_external_recipients`.
    external_recipient_rate: the tenant's limit, as the Exchange admin center shows it.
    internal_domains: the accepted domains of the tenant. Without them, all recipients are
        external, and every mailbox belongs to the tenant.
    overrides: mailboxes with different limits, by the names `"recipients a message"`,
        `"messages a minute"`, `"recipients a day"` and so on.
    directory: aliases, and distribution groups, each of which is one recipient here. Exchange
        counts the external members of a group towards the tenant's limit.
    proxy_address_limit: the most aliases of one mailbox.
    onmicrosoft_recipient_rate: what senders of the onmicrosoft.com domain may send together.
    trial: True for a trial tenant, which may have 5,000 external recipients in 24 hours.
    outbound_spam_policy: the outbound spam policy of the mailboxes, if an administrator set one to
        Microsoft's recommendation: `"standard"`, 500 external recipients an hour and 1,000
        recipients a day, or `"strict"`, 400 and 800. For other numbers, use `policy.evolve`.

    Three connections at a time that submit messages, for each mailbox, are not a limit of a
    policy: set `max_connections=3` on the transport or the adapter.

    Raises ValueError for more than 1,000 recipients a message, for an unknown outbound spam
    policy, and if more than one of `licences`, `external_recipient_rate` and `trial` is set.

    Source: "Exchange Online limits" and other pages of Microsoft, read on 2026-11-27; each figure
    and what could not be confirmed are in `presets.SOURCES["exchange-online"]`.
    """
    limits: list[Limit] = [
        RecipientLimit(recipient_limit, name="recipients a message"),
        MessageRateLimit(message_rate, name="messages a minute"),
        RecipientRateLimit(recipient_rate, name="recipients a day"),
        MessageRateLimit(receiving_rate, name="messages received an hour", direction="inbound"),
        MessageRateLimit(
            receiving_rate,
            name="messages received an hour from one sender",
            direction="inbound",
            scope=("sender", "recipient"),
            share=share_of_one_sender,
        ),
    ]
    if sum((licences is not None, external_recipient_rate is not None, trial)) > 1:
        raise ValueError("licences, external_recipient_rate, trial: give one of the three")
    if licences is not None:
        external_recipient_rate = f"{tenant_external_recipients(licences)}/day"
    if trial:
        external_recipient_rate = TRIAL_RATE
    if external_recipient_rate is not None:
        limits.append(
            RecipientRateLimit(
                external_recipient_rate,
                name="external recipients of the tenant a day",
                scope="global",
                count="external",
                on_excess="reject",
                reply=(
                    f"550 {'5.7.232' if trial else '5.7.233'} The organization has reached its"
                    " limit of external recipients."
                ),
            )
        )
    if outbound_spam_policy is not None:
        limits += _outbound_spam_limits(outbound_spam_policy)
    own_domains = [each for each in internal_domains if not each.endswith(ONMICROSOFT)]
    exemptions: list[Exemption] = []
    if len(own_domains) < len(internal_domains):
        name = "external recipients of onmicrosoft.com a day"
        limits.append(
            RecipientRateLimit(
                onmicrosoft_recipient_rate,
                name=name,
                scope="sender_domain",
                count="external",
                on_excess="reject",
                reply="550 5.7.236 The onmicrosoft.com domain has reached its limit.",
            )
        )
        if own_domains:
            exemptions.append(Exemption(senders=own_domains, limits=[name]))
    policy = Policy(
        name="exchange-online",
        internal_domains=internal_domains,
        limits=limits,
        overrides=overrides,
        exemptions=exemptions,
        directory=directory,
        proxy_address_limit=proxy_address_limit,
        partial=True,
    )
    for limit in policy.all_limits:
        if isinstance(limit, RecipientLimit) and limit.limit > MOST_RECIPIENTS:
            raise ValueError(
                f"{limit.name}: Exchange Online can be set to 1 to {MOST_RECIPIENTS},"
                f" not {limit.limit}"
            )
    return policy


def _outbound_spam_limits(name: object) -> list[Limit]:
    if name not in OUTBOUND_SPAM_POLICIES:
        raise ValueError(
            f"outbound_spam_policy: {show(name)} is not one of {', '.join(OUTBOUND_SPAM_POLICIES)}"
        )
    hourly, daily = OUTBOUND_SPAM_POLICIES[str(name)]
    return [
        RecipientRateLimit(hourly, name="external recipients an hour", count="external"),
        RecipientRateLimit(daily, name="recipients a day of the outbound spam policy"),
    ]


def outlook_com(*, recipient_limit: int = 500, recipient_rate: str = "5000/day") -> Policy:
    """Return the limits of an Outlook.com account of a subscriber of Microsoft 365.

    - 500 recipients a message
    - 5,000 recipients a day per sender; here in 24 hours, sliding, which is never more

    Not in the preset: the 1,000 recipients a day that never had mail from the account. Accounts
    without a subscription have lower limits, which Microsoft does not publish.

    Source: "Sending limits in Outlook.com", Microsoft, read on 2026-11-27.
    """
    return Policy(
        name="outlook-com",
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            RecipientRateLimit(recipient_rate, name="recipients a day"),
        ],
    )


def azure_communication_services(
    *,
    recipient_limit: int = 50,
    minute_rate: str = "30/minute",
    hour_rate: str = "100/hour",
) -> Policy:
    """Return the limits of e-mail in one subscription of Azure Communication Services.

    - 50 recipients a message
    - 30 messages a minute and 100 an hour, all senders of the subscription together, from a domain
      of its own; 5 and 10 from a domain that Azure manages

    A request above the rates is refused with HTTP 429. Support raises them on request.

    minute_rate, hour_rate: the rates of the subscription.

    Source: "Service limits for Azure Communication Services", Microsoft, read on 2026-11-27.
    """
    return Policy(
        name="azure-communication-services",
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            MessageRateLimit(minute_rate, name="messages a minute", scope="global"),
            MessageRateLimit(hour_rate, name="messages an hour", scope="global"),
        ],
    )
