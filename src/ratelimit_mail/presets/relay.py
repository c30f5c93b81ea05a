"""A relay of a university or a company, by Postfix and `ratelimit-mail serve`.

It is not the policy of one institution: it puts together Western's figures and what `serve` knows
of a client. `campus_relay` states the reason of each choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ratelimit_mail.conditions import any_of, has_tag, in_network, not_, protocol
from ratelimit_mail.directory import DirectoryLike
from ratelimit_mail.limits import RecipientLimit, RecipientRateLimit
from ratelimit_mail.overrides import Exemption, Override
from ratelimit_mail.policy import Policy, Tier
from ratelimit_mail.presets.source import Figure, Source
from ratelimit_mail.presets.western import CONVERGENCE, REFUSAL, SENDING_RATE_LIMITS

__all__ = ["RELAY", "campus_relay"]

RELAY: Final = Source(
    institution="Western University",
    figures=(
        Figure(
            limit="recipients a message",
            value=500,
            unit="recipients a message",
            pages=(SENDING_RATE_LIMITS,),
        ),
        *CONVERGENCE.figures,
        Figure(
            limit="recipients a day",
            value=1_000,
            unit="external recipients in 24 hours, for staff",
            pages=(SENDING_RATE_LIMITS,),
            note="a choice of this preset, twice the figure of the page",
        ),
        Figure(
            limit="recipients a day",
            value=10_000,
            unit="external recipients in 24 hours, for a server",
            pages=(SENDING_RATE_LIMITS,),
            note="a choice of this preset: the figure of the page for Office 365",
        ),
    ),
    unconfirmed=(
        "The figures for staff and for servers are a choice of this preset; the others are"
        " Western's."
    ),
)


def campus_relay(
    campus_networks: Iterable[str] = ("129.100.0.0/16",),
    internal_domains: Sequence[str] = ("uwo.ca", ".uwo.ca"),
    *,
    recipient_limit: int = 500,
    burst_rate: str = "50/15 minutes",
    daily_rate: str = "500/day",
    student_rate: str = "500/day",
    staff_rate: str = "1000/day",
    server_rate: str = "10000/day",
    exemptions: Iterable[Exemption] = (),
    overrides: Iterable[Override] = (),
    directory: DirectoryLike | None = None,
    per_server: bool = False,
) -> Policy:
    """Return limits for a relay on which users, servers and list servers submit mail.

    - at most 500 recipients a message
    - tag `list-server`: no rate limit
    - tag `server`: 10,000 external recipients in 24 hours per client address; above it, mail is
      deferred
    - tags `wireless` and `residence`, webmail, and clients outside the campus networks: 50 external
      recipients in 15 minutes, and 500 in 24 hours
    - tag `staff`: 1,000 external recipients in 24 hours; tag `student`, and all other clients: 500
    - above a limit of a person, the message is refused for all recipients with `550 5.7.1 Recipient
      rate limit exceeded. Try again later.`

    The reasons:

    - Users are counted per submitter: the login, because a stolen account may use any sender;
      without a login the sender; for the null sender without a login the client. Bounces are
      counted, because a thief would otherwise send as `<>`, and do not all share one count.
    - `kim+shop@` is `kim@`, or each subaddress would be a sender with limits of its own.
    - Only external recipients count. Postmaster and abuse addresses of the internal domains are
      internal, `postmaster` without a domain as well, so that a user over a limit can still write
      to them.
    - Mail *from* postmaster or abuse is not exempt, because anybody can forge a sender address.
      Exempt their login, or the address of the host that sends reports, by `exemptions`.
    - A person is refused with 550, because a mail program shows that at once, and does not show a
      deferral. A server is deferred, because it has a queue and sends again by itself.
    - Refused attempts do not count, unlike at Western: many mail programs try again by themselves,
      and would lock out their honest users.
    - Servers, and hosts that forward mail with the senders of other domains, are counted per
      client: each forwarded sender would otherwise have a limit of its own.
    - Mail that the relay itself forwards, by aliases or `.forward`, is not counted, because Postfix
      does not ask about it.

    campus_networks: the networks on campus. internal_domains: the domains that are not external.
    exemptions, overrides: such as of official mass mailings.
    directory: aliases and mailing lists; a list is one recipient.
    per_server: True makes each server count separately.

    Source: "Sending Rate Limits", Western University, read on 2026-11-22; see above for what
    differs.
    """

    def limit(rate: str, name: str) -> RecipientRateLimit:
        return RecipientRateLimit(
            rate,
            name=name,
            scope="submitter",
            count="external",
            on_excess="reject",
            reply=REFUSAL,
        )

    return Policy(
        name="campus-relay",
        internal_domains=internal_domains,
        subaddress="+",
        limits=[RecipientLimit(recipient_limit, name="recipients a message")],
        tiers=[
            Tier("list server", when=has_tag("list-server")),
            Tier(
                "server",
                when=has_tag("server"),
                limits=[
                    RecipientRateLimit(
                        server_rate, name="recipients a day", scope="client", count="external"
                    )
                ],
            ),
            Tier(
                "high risk",
                when=any_of(
                    protocol("webmail"),
                    has_tag("wireless"),
                    has_tag("residence"),
                    not_(in_network(*campus_networks)),
                ),
                limits=[
                    limit(burst_rate, "recipients in 15 minutes"),
                    limit(daily_rate, "recipients a day"),
                ],
            ),
            Tier("staff", when=has_tag("staff"), limits=[limit(staff_rate, "recipients a day")]),
            Tier(
                "student", when=has_tag("student"), limits=[limit(student_rate, "recipients a day")]
            ),
            Tier("low risk", limits=[limit(daily_rate, "recipients a day")]),
        ],
        exemptions=exemptions,
        overrides=overrides,
        directory=directory,
        per_node=per_server,
    )
