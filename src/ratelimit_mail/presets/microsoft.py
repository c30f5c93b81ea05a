"""Microsoft: Exchange Online.

Sources: Microsoft, "Exchange Online limits", "Troubleshoot outbound sending limits and blocked
users in Exchange Online", "Customizable Recipient Limits in Office 365" and "Introducing Exchange
Online Tenant Outbound Email Limits", as read on 2026-11-22, and "Limiting Onmicrosoft Domain Usage
for Sending Emails", as read on 2026-11-27, in part in copies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.limits import Limit, MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets.source import Source

__all__ = ["EXCHANGE_ONLINE", "exchange_online", "tenant_external_recipients"]

EXCHANGE_ONLINE: Final = Source(
    institution="Microsoft",
    pages=(
        "Exchange Online limits",
        "Troubleshoot outbound sending limits and blocked users in Exchange Online",
        "Customizable Recipient Limits in Office 365",
        "Introducing Exchange Online Tenant Outbound Email Limits",
        "Limiting Onmicrosoft Domain Usage for Sending Emails",
    ),
    read=date(2026, 11, 27),
    unconfirmed=(
        "The first two pages were seen in copies, and the formula of the tenant's limit and the"
        " last page in reports. How it is rounded is not stated. Pages differ on the number of"
        " proxy addresses, so the preset does not limit it."
    ),
    left_out=(
        "A sender of the same tenant may exceed the share of one sender. The external members of"
        " a group count towards the tenant's limit; here a list is one recipient. The limit of"
        " 2,000 external recipients a day for one mailbox was announced and then cancelled. A"
        " mailbox may have 3 connections at a time, for which no policy decides; a fourth gets"
        " 432 4.3.2."
    ),
)

ONMICROSOFT: Final = ".onmicrosoft.com"

MOST_RECIPIENTS: Final = 1_000
"""The highest limit on recipients of one message that an administrator can set."""

MOST_LICENCES: Final = 1_000_000_000
"""More than any tenant has; above this, the formula would lose precision."""


def tenant_external_recipients(licences: int) -> int:
    """Return how many external recipients in 24 hours a tenant with `licences` may have.

    500 x licences ^ 0.7 + 9,500, rounded to the nearest integer: 10,000 for one, 22,059 for
    a hundred. Trial licences do not count; a trial tenant has 5,000.

    Raises TypeError or ValueError if `licences` is not a number of licences.

    Source: "Introducing Exchange Online Tenant Outbound Email Limits", Microsoft, read on
    2026-11-22.
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
) -> Policy:
    """Return the limits of Exchange Online.

    - 500 recipients a message; an administrator may set 1 to 1,000, for all mailboxes or for one
    - 30 messages a minute per sender; more are carried over to the following minutes
    - 10,000 recipients in 24 hours, sliding, per sender
    - 3,600 messages an hour into one mailbox, and 33 % of that, 1,188, from one sender;
      when a mailbox has reached this, only that recipient is deferred
    - all external recipients of a tenant together, in 24 hours, sliding: if `licences` or
      `external_recipient_rate` is set
    - 100 external recipients in 24 hours, sliding, from the tenant's onmicrosoft.com domain, if
      `internal_domains` names one

    licences: paid licences with a mailbox; see `tenant_external_recipients`.
    external_recipient_rate: the tenant's limit, as the Exchange admin center shows it;
        `"5000/day"` for a trial tenant.
    internal_domains: the accepted domains of the tenant. Without them, all recipients are
        external, and every mailbox belongs to the tenant.
    overrides: mailboxes with different limits, by the names `"recipients a message"`,
        `"messages a minute"`, `"recipients a day"` and so on.
    directory: aliases, and distribution groups, each of which is one recipient here. Exchange
        counts the external members of a group towards the tenant's limit.
    proxy_address_limit: the most aliases of one mailbox.
    onmicrosoft_recipient_rate: what senders of the onmicrosoft.com domain may send together.

    Raises ValueError for more than 1,000 recipients a message, and if both `licences` and
    `external_recipient_rate` are set.

    Source: "Exchange Online limits" and four more pages, Microsoft, read by 2026-11-27; what
    could not be confirmed is in `presets.SOURCES["exchange-online"]`.
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
    if licences is not None:
        if external_recipient_rate is not None:
            raise ValueError("licences, external_recipient_rate: give one of the two")
        external_recipient_rate = f"{tenant_external_recipients(licences)}/day"
    if external_recipient_rate is not None:
        limits.append(
            RecipientRateLimit(
                external_recipient_rate,
                name="external recipients of the tenant a day",
                scope="global",
                count="external",
                on_excess="reject",
                reply="550 5.7.233 The organization has reached its limit of external recipients.",
            )
        )
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
