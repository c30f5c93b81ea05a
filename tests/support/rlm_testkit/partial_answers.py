"""A policy that decides on each recipient of inbound mail, and the mailboxes it knows."""

from __future__ import annotations

from typing import Final

from ratelimit_mail import Action, Decision, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock
from rlm_testkit.builders import campus_policy, inbound_envelope

__all__ = [
    "ANN",
    "ANN_ALIAS",
    "BOB",
    "CY",
    "HOURLY",
    "MODERATED",
    "NAMED_SENDERS",
    "OUTSIDE",
    "actions",
    "fill_mailboxes",
    "partial_limiter",
    "partial_policy",
    "used",
]

ANN, ANN_ALIAS, BOB, CY = "ann@uwo.ca", "a.smith@uwo.ca", "bob@uwo.ca", "cy@uwo.ca"
MODERATED: Final = "moderated@uwo.ca"
"""A list whose messages are held for a moderator."""
NAMED_SENDERS: Final = "named-senders@uwo.ca"
"""A list that rejects messages from all but the senders that it names."""
OUTSIDE: Final = "out@example.org"

HOURLY = MessageRateLimit("2/hour", direction="inbound")

DIRECTORY = Directory.from_dict(
    {ANN: [ANN_ALIAS]},
    lists=[
        MailingList(MODERATED, posting="moderated"),
        MailingList(NAMED_SENDERS, posting="named"),
    ],
)


def partial_policy(*limits: Limit, partial: bool = True) -> Policy:
    """Return a policy of uwo.ca with its aliases and lists, and with partial answers."""
    return campus_policy(*limits, directory=DIRECTORY, partial=partial)


def partial_limiter(*limits: Limit, clock: ManualClock | None = None) -> Limiter:
    """Return a limiter in memory with partial answers."""
    clock = clock or ManualClock()
    return Limiter(partial_policy(*limits), MemoryBackend(clock), sleep=clock.advance)


def used(limiter: Limiter, *mailboxes: str) -> list[int]:
    """Return how much of its first limit each mailbox has used."""
    return [limiter.usage(mailbox, scope="recipient")[0].used for mailbox in mailboxes]


def fill_mailboxes(limiter: Limiter, *mailboxes: str) -> None:
    """Use up the limit HOURLY of each mailbox."""
    for mailbox in mailboxes:
        for _ in range(2):
            assert limiter.try_acquire(inbound_envelope(mailbox))


def actions(decision: Decision) -> dict[str, Action]:
    """Return the action for each recipient of a partial decision."""
    assert decision.recipients is not None
    return {recipient: each.action for recipient, each in decision.recipients.items()}
