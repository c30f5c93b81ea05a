"""When waiting messages of a sender are expected to go: an estimate for notices and lists."""

from __future__ import annotations

from collections.abc import Sequence

from ratelimit_mail.outbox.records import WaitingMessage
from ratelimit_mail.usage import Usage

__all__ = ["expected_times"]


def expected_times(
    usages: Sequence[Usage], messages: Sequence[WaitingMessage], first_at: int
) -> list[int]:
    """Return when each of a sender's waiting messages is expected to go.

    usages: what the sender has used of each limit. messages: those that wait, in their order.
    first_at: when the first one goes, which its booking says exactly, in milliseconds.

    Each limit is taken to be full again a whole window after it was used up. Other programs that
    send for the same sender, and limits that are shared with other senders, can make it later.
    """
    times = [first_at] * len(messages)
    for usage in usages:
        limit = usage.limit
        # The limit that the first message waits for is taken to be empty when it goes.
        first_cost = messages[0].cost(limit.unit)
        # Not `remaining`, in which the booking of the first message takes room.
        room = limit.limit - usage.used
        capacity = room if room >= first_cost else limit.limit
        used, renewed_at = 0, first_at
        for i, message in enumerate(messages):
            cost = message.cost(limit.unit)
            if used and used + cost > capacity:
                used, capacity, renewed_at = 0, limit.limit, limit.renewed_at(renewed_at)
            used += cost
            times[i] = max(times[i], renewed_at)
    return times
