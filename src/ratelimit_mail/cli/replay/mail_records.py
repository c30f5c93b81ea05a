"""MailRecords: the messages of a replay, stored compactly and sorted by time."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ratelimit_mail.envelope import Client, Envelope

__all__ = ["PLACEHOLDER_DOMAIN", "MailRecord", "MailRecords"]

PLACEHOLDER_DOMAIN: Final = "replay.invalid"
"""The domain of addresses that the data does not contain (RFC 2606: it never exists)."""


class MailRecord(NamedTuple):
    """One message as read: its recipients are addresses, or only their number."""

    time: int
    sender: str
    recipients: tuple[str, ...] | int
    client: Client


class MailRecords:
    """Messages stored in four columns, so that each costs four references and no object."""

    def __init__(self) -> None:
        self._times = array("q")
        self._senders: list[str] = []
        self._recipients: list[tuple[str, ...] | int] = []
        self._clients: list[Client] = []
        self._generated: list[str] = []
        self._newest = 0
        self.out_of_order = 0
        """How many messages came after a message with a later time."""

    def append(self, record: MailRecord) -> None:
        """Add a message."""
        time, sender, recipients, client = record
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
        """Return the times of all messages, sorted."""
        return array("q", sorted(self._times)) if self.out_of_order else self._times

    def by_time(self) -> Iterator[tuple[int, Envelope]]:
        """Yield the time and the envelope of each message, sorted by time.

        Messages with the same time keep the order in which they were added.
        """
        order: Sequence[int] = range(len(self))
        if self.out_of_order:
            order = array("q", sorted(order, key=self._times.__getitem__))
        for i in order:
            recipients = self._recipients[i]
            if isinstance(recipients, int):
                recipients = self._generate(recipients)
            yield self._times[i], Envelope(self._senders[i], recipients, self._clients[i])

    def _generate(self, count: int) -> tuple[str, ...]:
        """Return `count` generated addresses, the same for every message."""
        for number in range(len(self._generated) + 1, count + 1):
            self._generated.append(f"recipient-{number}@{PLACEHOLDER_DOMAIN}")
        return tuple(self._generated[:count])
