"""The messages of a replay, kept compactly and put in order of time."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ratelimit_mail.envelope import Client, Envelope

__all__ = ["STAND_IN", "Message", "Messages"]

STAND_IN = "replay.invalid"
"""The domain of addresses that the data does not tell (RFC 2606: it never exists)."""


class Message(NamedTuple):
    """One message as read: the recipients are addresses, or only how many there were."""

    time: int
    sender: str
    recipients: tuple[str, ...] | int
    client: Client


class Messages:
    """Messages in four columns, so that a row costs four references and no object."""

    def __init__(self) -> None:
        self._times = array("q")
        self._senders: list[str] = []
        self._recipients: list[tuple[str, ...] | int] = []
        self._clients: list[Client] = []
        self._made_up: list[str] = []
        self._newest = 0
        self.out_of_order = 0
        """How many stood after a message of a later time."""

    def append(self, message: Message) -> None:
        """Add a message behind the others."""
        time, sender, recipients, client = message
        if time < self._newest:
            self.out_of_order += 1
        else:
            self._newest = time
        self._times.append(time)
        self._senders.append(sys.intern(sender))
        if not isinstance(recipients, int):
            recipients = tuple(map(sys.intern, recipients))
        self._recipients.append(recipients)
        self._clients.append(client)

    def __len__(self) -> int:
        return len(self._times)

    @property
    def first(self) -> int:
        """The earliest time, in milliseconds since the epoch."""
        return min(self._times)

    @property
    def last(self) -> int:
        """The latest time, in milliseconds since the epoch."""
        return max(self._times)

    def times(self) -> Sequence[int]:
        """The time of each message, in order."""
        return array("q", sorted(self._times)) if self.out_of_order else self._times

    def in_order(self) -> Iterator[tuple[int, Envelope]]:
        """Each message's time and envelope, by time; those of one time as they stood."""
        order: Sequence[int] = range(len(self))
        if self.out_of_order:
            order = array("q", sorted(order, key=self._times.__getitem__))
        for i in order:
            recipients = self._recipients[i]
            if isinstance(recipients, int):
                recipients = self._make_up(recipients)
            yield self._times[i], Envelope(self._senders[i], recipients, self._clients[i])

    def _make_up(self, count: int) -> tuple[str, ...]:
        for number in range(len(self._made_up) + 1, count + 1):
            self._made_up.append(f"recipient-{number}@{STAND_IN}")
        return tuple(self._made_up[:count])
