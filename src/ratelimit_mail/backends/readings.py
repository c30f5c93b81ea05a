"""What the event logs of one subject hold, as a backend reports it."""

from __future__ import annotations

from collections.abc import Mapping

from ratelimit_mail.backends.base import Reading
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.counting.event_log import EventLog

__all__ = ["readings"]


def readings(logs: Mapping[int, EventLog], ledger: Ledger, now: int) -> list[list[Reading]]:
    """Return the reading of each window of each of the ledger's counts.

    logs: the subject's logs by unit.
    """
    return [
        [
            Reading(
                log.used(now, window),
                log.remaining(now, window),
                log.empty_at(now, window) - now,
            )
            for window in count.windows
        ]
        for count in ledger.counts
        for log in [logs[count.unit]]
    ]
