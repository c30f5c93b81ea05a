"""Members: the recipients that a count of unique recipients holds, each with its latest moment.

A count of unique recipients has one event of cost 1 for each recipient, at the moment of the last
mail to it. A message to a recipient that is held moves that event to its own moment. So the event
log holds no recipient twice, and its windows are those of any other count.

A stamp is a moment and which of the messages to the recipient at that millisecond it was. So a
refund recognises whether another message to the recipient came later, even in the same
millisecond. A booking ahead has events of its own, beside those of its recipients.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

__all__ = [
    "REPEATS",
    "MemberChange",
    "Members",
    "is_refundable",
    "moment_of_stamp",
    "next_stamp",
]

REPEATS: Final = 1024
"""How many messages to one recipient are distinguished within a millisecond.

Stamps are below 2 ** 53 until the year 2248, so that a server can have them as floating point.
"""


class MemberChange(NamedTuple):
    """What a message has changed for one recipient.

    member: the digest of its address. stamp: of this message.
    previous: the stamp before, which a refund puts back; None if it was not held.
    """

    member: str
    stamp: int
    previous: int | None


class Members(Protocol):
    """The stamps of the recipients that one count holds; some may have left every window."""

    def get(self, member: str, /) -> int | None:
        """Return the stamp of a recipient."""
        ...

    def set(self, member: str, stamp: int | None, /) -> None:
        """Set the stamp of a recipient, or remove it."""
        ...

    def trim(self, cutoff: int, /) -> None:
        """Forget recipients whose moment is not after `cutoff`."""
        ...


def moment_of_stamp(stamp: int) -> int:
    """Return the moment of a stamp."""
    return stamp // REPEATS


def next_stamp(previous: int | None, moment: int) -> int:
    """Return the stamp of a message at `moment`, which is not before that of `previous`."""
    first = moment * REPEATS
    if previous is None or previous < first:
        return first
    return min(previous + 1, first + REPEATS - 1)


def is_refundable(stamp: int) -> bool:
    """Return whether a stamp names one message; the last of a millisecond may name several."""
    return stamp % REPEATS < REPEATS - 1
