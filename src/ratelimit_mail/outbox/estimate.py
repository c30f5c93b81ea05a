"""When waiting messages of a sender are expected to go: an estimate for notices and lists."""

from __future__ import annotations

from collections.abc import Sequence

from ratelimit_mail.decision import Usage

__all__ = ["expected_times"]


def expected_times(usages: Sequence[Usage], costs: Sequence[int], first_at: int) -> list[int]:
    """Return when each of a sender's waiting messages is expected to go.

    usages: what the sender has used of each limit. costs: the recipients of each message, in their
    order. first_at: when the first one goes, which its booking says exactly.

    Each limit is taken to be full again a whole window after it was used up. Other programs that
    send for the same sender, and limits that are shared with other senders, can make it later.
    """
    times = [first_at] * len(costs)
    for usage in usages:
        limit = usage.limit
        is_by_message = limit.unit == "messages"
        # The limit that the first message waits for is taken to be empty when it goes.
        first_cost = 1 if is_by_message else costs[0]
        # Not `remaining`, in which the booking of the first message takes room.
        room = limit.limit - usage.used
        capacity = room if room >= first_cost else limit.limit
        window = limit.window
        used = windows = 0
        for i, recipients in enumerate(costs):
            cost = 1 if is_by_message else recipients
            if used and used + cost > capacity:
                used, windows, capacity = 0, windows + 1, limit.limit
            used += cost
            times[i] = max(times[i], first_at + windows * window)
    return times
