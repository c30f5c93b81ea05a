"""The work that every contender does: the limits, the message, and the names of the senders.

The e-mail check: at most 100 recipients, 30 messages a minute and 10,000 external recipients a
day, for a message to 5 recipients of whom 2 are internal.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Final

import attrs

from ratelimit_mail import (
    Envelope,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)

INTERNAL: Final = "uwo.ca"
RECIPIENTS: Final = [
    "bob@example.com",
    "eve@uwo.ca",
    "dan@example.net",
    "amy@uwo.ca",
    "kim@example.org",
]
EXTERNAL: Final = 3
"""How many of them are external: what a message costs of the day."""


@attrs.frozen
class Numbers:
    """What the limits allow."""

    minute: int = 30
    """Messages a minute."""
    day: int = 10_000
    """External recipients a day."""


NUMBERS: Final = Numbers()


def policy(numbers: Numbers = NUMBERS) -> Policy:
    """The limits of the e-mail check, with these numbers."""
    return Policy(
        name="benchmark",
        internal_domains=[INTERNAL],
        limits=[
            RecipientLimit(100),
            MessageRateLimit(f"{numbers.minute}/minute"),
            RecipientRateLimit(f"{numbers.day}/day", count="external"),
        ],
    )


def letter(sender: int | str) -> Envelope:
    """A message of one of many senders, to all of the recipients."""
    return Envelope(f"{sender}@{INTERNAL}", RECIPIENTS)


_names = count()


def letters(number: int) -> list[Envelope]:
    """So many messages of one new sender, new also to a server that others use."""
    name = f"new{next(_names)}.{os.getpid()}"
    return [letter(name) for _ in range(number)]
