"""Western University, London, Ontario: Office 365 and the Convergence mail system.

Source: Western Technology Services, "Sending Rate Limits", as read on 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ratelimit_mail.conditions import any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.limits import MessageRateLimit, RecipientLimit, RecipientRateLimit
from ratelimit_mail.policy import Policy, Tier

__all__ = ["western_convergence", "western_office365"]

REFUSAL = "Recipient rate limit exceeded. Try again later."


def western_office365(
    *,
    recipient_limit: int = 500,
    message_rate: str = "30/minute",
    recipient_rate: str = "10000/day",
) -> Policy:
    """Western's Office 365.

    - 500 recipients a message
    - 10,000 recipients in 24 hours per sender
    - 30 messages a minute per sender, for SMTP client submission only: a client whose
      `protocol` is `smtp`

    Source: "Sending Rate Limits", Western University, section "Office 365", read on
    2026-11-22.
    """
    return Policy(
        name="western-office365",
        limits=[RecipientLimit(recipient_limit), RecipientRateLimit(recipient_rate)],
        tiers=[
            Tier("smtp-submission", when=protocol("smtp"), limits=[MessageRateLimit(message_rate)])
        ],
    )


def western_convergence(
    campus_networks: Iterable[str] = ("129.100.0.0/16",),
    internal_domains: Sequence[str] = ("uwo.ca", ".uwo.ca"),
    unit: Literal["recipients", "messages"] = "recipients",
    *,
    scope: str | Sequence[str] = "sender",
) -> Policy:
    """Western's Convergence mail system: two tiers by where the client is.

    - tier 2, high risk: 50 in 15 minutes and 500 in 24 hours, for webmail (`protocol`
      `webmail`), the tags `wireless` and `reznet`, an address outside the campus
      networks, and a client without an address
    - tier 1, low risk: 500 in 24 hours, for any other client
    - only external recipients count; internal ones are free
    - above a limit all of a message is refused with `550 5.7.1 Recipient rate limit
      exceeded. Try again later.`, and refused attempts count too

    campus_networks: what is on campus. internal_domains: what is not external.
    unit: the source says "messages" but refuses, compares and advises by recipients, so
        `"recipients"` is the default; `"messages"` takes it by the letter.
    scope: what the limits are counted per.

    Source: "Sending Rate Limits", Western University, read on 2026-11-22; it does not
    print its networks and domains, so the defaults are the university's well-known ones.
    """
    if unit not in ("recipients", "messages"):
        raise ValueError(f"unit: {unit!r} is none of recipients, messages")
    kind = RecipientRateLimit if unit == "recipients" else MessageRateLimit

    def limit(rate: str) -> RecipientRateLimit | MessageRateLimit:
        return kind(
            rate, scope=scope, count="external", denied="count", on_excess="reject", reply=REFUSAL
        )

    return Policy(
        name="western-convergence",
        internal_domains=internal_domains,
        tiers=[
            Tier(
                "tier 2",
                when=any_of(
                    protocol("webmail"),
                    has_tag("wireless"),
                    has_tag("reznet"),
                    not_(in_network(*campus_networks)),
                ),
                limits=[limit("50/15 minutes"), limit("500/day")],
            ),
            Tier("tier 1", limits=[limit("500/day")]),
        ],
    )
