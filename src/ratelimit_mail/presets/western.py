"""Western University, London, Ontario: Office 365 and the Convergence mail system.

Source: Western Technology Services, "Sending Rate Limits", as read on 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final, Literal

from ratelimit_mail._util.text import show
from ratelimit_mail.conditions import any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.limits import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.overrides import Exemption
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.presets.grants import concessions
from ratelimit_mail.presets.source import Figure, Page, Source

__all__ = [
    "CONVERGENCE",
    "OFFICE365",
    "SENDING_RATE_LIMITS",
    "western_convergence",
    "western_office365",
]

SENDING_RATE_LIMITS: Final = Page(title="Sending Rate Limits", read=date(2026, 11, 22))
DOMAINS: Final = ("uwo.ca", ".uwo.ca")
REFUSAL: Final = "Recipient rate limit exceeded. Try again later."
_REPLY: Final = f"550 5.7.1 {REFUSAL}"

OFFICE365: Final = Source(
    institution="Western University",
    figures=(
        Figure(
            limit="recipients a message",
            value=500,
            unit="recipients a message",
            pages=(SENDING_RATE_LIMITS,),
        ),
        Figure(
            limit="recipients a day",
            value=10_000,
            unit="recipients a day, for each sender",
            pages=(SENDING_RATE_LIMITS,),
        ),
        Figure(
            limit="messages a minute",
            value=30,
            unit="messages a minute, for each sender, by SMTP client submission",
            pages=(SENDING_RATE_LIMITS,),
        ),
        Figure(
            limit="messages received an hour",
            value=3_600,
            unit="messages an hour into one mailbox",
            pages=(SENDING_RATE_LIMITS,),
        ),
        Figure(
            value=200,
            unit="proxy addresses of one mailbox",
            pages=(SENDING_RATE_LIMITS,),
            note="checked in the directory: `proxy_address_limit`",
        ),
    ),
    unconfirmed=(
        "The saved copy of the page does not show its domains; the defaults are the well-known"
        " ones."
    ),
)

CONVERGENCE: Final = Source(
    institution="Western University",
    figures=(
        Figure(
            limit="recipients in 15 minutes",
            value=50,
            unit="external recipients in 15 minutes, in tier 2",
            pages=(SENDING_RATE_LIMITS,),
            refusal=_REPLY,
        ),
        Figure(
            limit="recipients a day",
            value=500,
            unit="external recipients in 24 hours, in both tiers",
            pages=(SENDING_RATE_LIMITS,),
            refusal=_REPLY,
        ),
    ),
    unconfirmed=(
        "The saved copy of the page does not show its networks and domains; the defaults are the"
        " well-known ones. It says messages where it counts recipients. It speaks of clients, and"
        " does not say how it tells them apart."
    ),
)


def western_office365(
    *,
    recipient_limit: int = 500,
    message_rate: str = "30/minute",
    recipient_rate: str = "10000/day",
    receiving_rate: str = "3600/hour",
    proxy_address_limit: int | None = 200,
    internal_domains: Sequence[str] = DOMAINS,
    directory: DirectoryLike | None = None,
) -> Policy:
    """Return the limits of Western's Office 365.

    - 500 recipients a message
    - 10,000 recipients in 24 hours per sender
    - 30 messages a minute per sender, for SMTP client submission only: a client whose
      `protocol` is `smtp`
    - 3,600 messages an hour into one mailbox; when a mailbox has reached
      this, only that recipient is deferred
    - 200 proxy addresses (aliases) of one mailbox; all of them count as one recipient

    internal_domains: the domains whose mailboxes have the receiving limit.
    directory: the aliases and mailing lists. A mailbox with more aliases than
        `proxy_address_limit` is an error.

    Source: "Sending Rate Limits", Western University, section "Office 365", read on
    2026-11-22.
    """
    return Policy(
        name="western-office365",
        internal_domains=internal_domains,
        limits=[
            RecipientLimit(recipient_limit, name="recipients a message"),
            RecipientRateLimit(recipient_rate, name="recipients a day"),
            MessageRateLimit(receiving_rate, name="messages received an hour", direction="inbound"),
        ],
        tiers=[
            Tier(
                "smtp-submission",
                when=protocol("smtp"),
                limits=[MessageRateLimit(message_rate, name="messages a minute")],
            )
        ],
        directory=directory,
        proxy_address_limit=proxy_address_limit,
        partial=True,
    )


def western_convergence(
    campus_networks: Iterable[str] = ("129.100.0.0/16",),
    internal_domains: Sequence[str] = DOMAINS,
    unit: Literal["recipients", "messages"] = "recipients",
    *,
    burst_rate: str = "50/15 minutes",
    daily_rate: str = "500/day",
    scope: str | Sequence[str] = "submitter",
    per_server: bool = False,
    exemptions: Iterable[Exemption | str] = (),
    directory: DirectoryLike | None = None,
) -> Policy:
    """Return the limits of Western's Convergence mail system: two tiers, by client location.

    - tier 2, high risk: 50 in 15 minutes and 500 in 24 hours, for webmail (`protocol`
      `webmail`), the tags `wireless` and `reznet`, an address outside the campus
      networks, and a client without an address
    - tier 1, low risk: 500 in 24 hours, for any other client
    - only external recipients count; internal recipients do not
    - `kim+shop@uwo.ca` is `kim@uwo.ca`
    - a message above a limit is refused for all recipients with `550 5.7.1 Recipient rate limit
      exceeded. Try again later.`, and refused attempts count too

    campus_networks: the networks on campus.
    internal_domains: the domains that are not external.
    unit: the source says "messages", but its refusal text, comparison and advice are about
        recipients, so `"recipients"` is the default; `"messages"` takes the source literally.
    burst_rate, daily_rate: the rates. Only tier 2 has the burst rate.
    scope: what the limits are counted per: by default the login, or the sender of mail without
        one, because a stolen account may send under any address.
    per_server: True makes each mail server count separately, as Western's do. By default
        all servers count together, which is the better choice.
    exemptions: the senders of List Guardian lists and of official mass mailings, to which
        the limits do not apply: addresses, domains or `Exemption` objects.
    directory: aliases and mailing lists. A list is one recipient; a list elsewhere is one
        external address and does not need to be in the directory.

    Source: "Sending Rate Limits", Western University, read on 2026-11-22; it does not
    show its networks and domains, so the defaults are the university's well-known ones.
    """
    if unit not in ("recipients", "messages"):
        raise ValueError(f"unit: {show(unit)} is not one of recipients, messages")
    kind = RecipientRateLimit if unit == "recipients" else MessageRateLimit

    def limit(rate: str, period: str) -> RecipientRateLimit | MessageRateLimit:
        return kind(
            rate,
            name=f"{unit} {period}",
            scope=scope,
            count="external",
            denied="count",
            on_excess="reject",
            reply=REFUSAL,
        )

    daily = limit(daily_rate, "a day")

    return Policy(
        name="western-convergence",
        internal_domains=internal_domains,
        subaddress="+",
        tiers=[
            Tier(
                "tier 2",
                when=any_of(
                    protocol("webmail"),
                    has_tag("wireless"),
                    has_tag("reznet"),
                    not_(in_network(*campus_networks)),
                ),
                limits=[limit(burst_rate, "in 15 minutes"), daily],
            ),
            Tier("tier 1", limits=[daily]),
        ],
        exemptions=concessions(Exemption, exemptions, "List Guardian, or official mass mailing"),
        directory=directory,
        per_node=per_server,
    )
