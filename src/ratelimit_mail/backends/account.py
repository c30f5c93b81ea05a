"""All that is kept of one subject: a log for each unit, and the latest charges noted only.

Most charges are accepted without a look at any time, because all that is held together
is below the limit. So a charge is only noted at first, and put into the logs when
somebody asks, or when enough of them have come together.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

from ratelimit_mail.charge import UNITS, Costs, Ledger
from ratelimit_mail.log import Log
from ratelimit_mail.window import Keeping

__all__ = ["Account"]

MOST_NOTED: Final = 96
"""How many items, three for each charge, are noted before they are put into the logs."""


class _Logs(dict[int, Log]):
    """The logs of one subject by unit; one that is asked for is there."""

    __slots__ = ("_floor", "_keepings")

    def __init__(self, floor: int, keepings: Mapping[int, Keeping]) -> None:
        super().__init__()
        self._floor = floor
        self._keepings = keepings

    def __missing__(self, unit: int) -> Log:
        log = self[unit] = Log(self._floor)
        return log

    def put(self, ledger: Ledger, moments: list[int], charged: list[Costs]) -> None:
        """Put charges of one ledger into the logs."""
        for count in ledger.counts:
            costs = [each[count.unit] for each in charged]
            if all(costs):
                self[count.unit].extend(moments, costs, self._keepings[count.unit])
            elif any(costs):
                events = [event for event in zip(moments, costs, strict=True) if event[1]]
                some_moments, some_costs = map(list, zip(*events, strict=True))
                self[count.unit].extend(some_moments, some_costs, self._keepings[count.unit])


class Account:
    """The logs of one subject.

    held: for each unit all that is held, noted or logged: no window can hold more.
    newest: the latest event in any log; nothing is noted for an earlier moment.
    keepings: how the log of each unit is kept.
    """

    __slots__ = ("_floor", "_logs", "_noted", "held", "keepings", "newest")

    def __init__(self, floor: int, keepings: Mapping[int, Keeping]) -> None:
        self.keepings = keepings
        self.held = [0] * len(UNITS)
        self.newest = self._floor = floor
        self._logs: _Logs | None = None
        self._noted: list[Any] = []

    def note(self, now: int, ledger: Ledger, costs: Costs) -> None:
        """Record what is sent at `now`, which is not before `newest`."""
        self.newest = now
        held = self.held
        for unit, _ in ledger.bounds:
            held[unit] += costs[unit]
        noted = self._noted
        noted += (now, ledger, costs)
        if len(noted) >= MOST_NOTED:
            self._settle()
            self.sum_up()

    @property
    def has_events(self) -> bool:
        """Whether anything is held, refused attempts and bookings included."""
        return any(self.held)

    def logs(self) -> dict[int, Log]:
        """The log of each unit, with all that was noted; `sum_up` after one was changed."""
        if self._noted or self._logs is None:
            return self._settle()
        return self._logs

    def _settle(self) -> dict[int, Log]:
        """Put what is noted into the logs."""
        if self._logs is None:
            self._logs = _Logs(self._floor, self.keepings)
        noted = self._noted
        ledgers = noted[1::3]
        start = 0
        for ledger, run in groupby(ledgers):  # another tier's is another ledger
            end = start + 3 * len(list(run))
            self._logs.put(ledger, noted[start:end:3], noted[start + 2 : end : 3])
            start = end
        self._noted = []
        return self._logs

    def sum_up(self) -> None:
        """Take from the logs what is held, and the latest event."""
        for unit, log in self.logs().items():
            self.held[unit] = log.held
            self.newest = max(self.newest, log.newest)

    def idle_from(self, span: int) -> int:
        """The first moment from which nothing here can matter to a window of `span`."""
        # What is noted only stands no later than `newest`.
        logs = (self._logs or {}).values()
        return max([self.newest + span, *(log.idle_from(span) for log in logs)])
