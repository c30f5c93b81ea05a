"""SenderDelays: how late the mail of each affected sender would be."""

from __future__ import annotations

import attrs

from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy import Policy

__all__ = ["DelayCounts", "SenderDelays"]


@attrs.define
class DelayCounts:
    """The messages of one sender that did not go at once.

    later: those that went, and `total` and `longest` their delay in milliseconds. never: those that
    were rejected or given up.
    """

    later: int = 0
    total: int = 0
    longest: int = 0
    never: int = 0


class SenderDelays:
    """The delays of one replay with retries; senders without any take no memory."""

    def __init__(self, policy: Policy) -> None:
        self._keys = sender_keys(policy)
        self._by_sender: dict[str, DelayCounts] = {}

    def add(self, envelope: Envelope, delay: int | None) -> None:
        """Count a message that did not go at once; a callback of `retry`."""
        counts = self._by_sender.setdefault(self._keys[envelope.sender], DelayCounts())
        if delay is None:
            counts.never += 1
            return
        counts.later += 1
        counts.total += delay
        counts.longest = max(counts.longest, delay)

    def of(self, sender: str) -> DelayCounts:
        """Return the counts of a sender, however spelled."""
        return self._by_sender.get(self._keys[sender], DelayCounts())
