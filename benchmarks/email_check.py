"""The e-mail check that every contender does: its limits and its messages.

At most 100 recipients, 30 messages a minute and 10,000 external recipients a day, for a message
to 5 recipients, 2 of them internal.
"""

import os
from itertools import count
from typing import Final

from ratelimit_mail import Envelope, MessageRateLimit, Policy, RecipientLimit, RecipientRateLimit

MINUTE: Final = 30  # messages
DAY: Final = 10_000  # external recipients
INTERNAL: Final = "uwo.ca"
RECIPIENTS = ["bob@example.com", "eve@uwo.ca", "dan@example.net", "amy@uwo.ca", "kim@example.org"]
EXTERNAL: Final = 3  # of the recipients: what a message costs of the day

_numbers = count()


def policy(minute: int = MINUTE) -> Policy:
    """Return the limits of the e-mail check."""
    return Policy(
        name="benchmark",
        internal_domains=[INTERNAL],
        limits=[
            RecipientLimit(100),
            MessageRateLimit(f"{minute}/minute"),
            RecipientRateLimit(f"{DAY}/day", count="external"),
        ],
    )


def message(sender: int | str) -> Envelope:
    """Return a message of one sender to all recipients, built from plain strings."""
    return Envelope(f"{sender}@{INTERNAL}", RECIPIENTS)


def new_senders(senders: int = 1, messages: int = MINUTE) -> list[Envelope]:
    """Return messages of senders that neither this process nor a server has seen before."""
    names = [f"new{next(_numbers)}.{os.getpid()}" for _ in range(senders)]
    return [message(name) for name in names for _ in range(messages)]
