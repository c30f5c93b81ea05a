"""All that is kept of one subject: a log for each unit, and the latest charges noted only.

Most charges are accepted without a look at any log, because all that is held together is below
the limit. So a charge is only noted at first, and put into the logs when somebody asks, or when
enough have come together. What is noted stands in runs of the same costs, and several more of the
same may be granted beforehand: for them nothing need be asked at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.counting.charge import Costs, Count, Ledger
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Retention

__all__ = ["RepeatedRefusal", "SubjectCounts"]

MOST_NOTED: Final = 64
"""How many charges are noted before they are put into the logs."""


class RepeatedRefusal(NamedTuple):
    """How costs of a ledger were refused at the moment `since`, where no booking was in the way."""

    ledger: Ledger
    costs: Costs
    since: int
    at: int
    windows: Sequence[tuple[Count, int, int]]


FREE: Final[Costs] = (0, 0, 0, 0)


class _Logs(dict[int, EventLog]):
    """The logs of one subject by unit; one that is asked for is there."""

    __slots__ = ("_floor",)

    def __init__(self, floor: int) -> None:
        super().__init__()
        self._floor = floor

    def __missing__(self, unit: int) -> EventLog:
        log = self[unit] = EventLog(self._floor)
        return log


class SubjectCounts:
    """The logs of one subject.

    held: for each unit all that is held, noted or logged, what was granted included: no window
        can hold more.
    newest: the latest event in any log; nothing is noted for an earlier moment.
    keepings: how the log of each unit is kept.
    ledger, costs, run: of the latest charges noted, what each cost, and when they were.
    refusal: how the same was refused last, while nothing has changed since.
    granted: how many more of these costs surely fit; whoever takes one puts its moment into
        `run`, and into `newest`.
    """

    __slots__ = (
        "_floor",
        "_logs",
        "_runs",
        "costs",
        "granted",
        "held",
        "ledger",
        "newest",
        "refusal",
        "retentions",
        "run",
    )

    def __init__(self, floor: int, retentions: Mapping[int, Retention]) -> None:
        self.retentions = retentions
        self.held = [0, 0, 0, 0]
        self.newest = self._floor = floor
        self._logs: _Logs | None = None
        self._runs: list[tuple[Ledger, Costs, list[int]]] | None = None
        """What was noted before `run`."""
        self.ledger: Ledger | None = None
        self.costs = FREE
        self.run: list[int] = []
        self.granted = 0
        self.refusal: RepeatedRefusal | None = None

    def note(self, now: int, ledger: Ledger, costs: Costs) -> None:
        """Record what is sent at `now`, which is not before `newest`; nothing is granted yet."""
        self.newest = now
        self.refusal = None
        if self.costs is not costs or self.ledger is not ledger:
            self._start_run(ledger, costs)
        self.run.append(now)
        held = self.held
        for unit, _ in ledger.bounds:
            held[unit] += costs[unit]
        if len(self.run) >= MOST_NOTED:
            self.sum_up()

    def grant(self, ledger: Ledger) -> None:
        """Let a few more of what was noted last be noted without a look at the limits."""
        more = MOST_NOTED - len(self.run) - 1
        held, costs = self.held, self.costs
        for unit, smallest in ledger.bounds:
            if (cost := costs[unit]) and held[unit] + more * cost > smallest:
                more = (smallest - held[unit]) // cost
        self.granted = more
        for unit, _ in ledger.bounds:
            held[unit] += more * costs[unit]

    def revoke(self) -> None:
        """Take back what was granted and not taken."""
        unused, self.granted = self.granted, 0
        self._hold(-unused)

    def refresh(self, now: int, ledger: Ledger) -> None:
        """Put all into the logs, and forget what has left every window by `now`."""
        logs = self.logs()
        for count in ledger.counts:
            if count.unit in logs:
                logs[count.unit].forget(now, self.retentions[count.unit])
        self.sum_up()

    def has_room(self, ledger: Ledger, costs: Costs) -> bool:
        """Whether a charge fits whatever the times of what is held."""
        held = self.held
        for unit, smallest in ledger.bounds:  # noqa: SIM110 - in half the time
            if held[unit] + costs[unit] > smallest:
                return False
        return True

    def _hold(self, number: int) -> None:
        if self.ledger is not None:
            for unit, _ in self.ledger.bounds:
                self.held[unit] += number * self.costs[unit]

    def _start_run(self, ledger: Ledger, costs: Costs) -> None:
        if self.run and self.ledger is not None:
            if self._runs is None:
                self._runs = []
            self._runs.append((self.ledger, self.costs, self.run))
            self.run = []
            if len(self._runs) >= MOST_NOTED // 2:
                self.sum_up()
        self.ledger, self.costs = ledger, costs

    def remember_refusal(self, now: int, ledger: Ledger, costs: Costs, answer: Verdict) -> None:
        """Remember how these costs are refused, until something changes or they fit.

        Not where refused attempts count, because each changes something, nor among bookings,
        where room may come and go.
        """
        if ledger.counts_denied or any(log.last_booking(now) for log in self.logs().values()):
            return
        self.refusal = RepeatedRefusal(ledger, costs, now, answer.at, answer.refusals)

    @property
    def has_events(self) -> bool:
        """Whether anything is held, refused attempts and bookings included."""
        return any(self.held)

    def logs(self) -> dict[int, EventLog]:
        """The log of each unit, with all that was noted; `sum_up` after one was changed."""
        self.refusal = None
        if self.granted:
            self.revoke()
        if self.run or self._runs or self._logs is None:
            return self._settle()
        return self._logs

    def _settle(self) -> dict[int, EventLog]:
        """Put what is noted into the logs."""
        if self._logs is None:
            self._logs = _Logs(self._floor)
        runs = self._runs or []
        if self.run and self.ledger is not None:
            runs.append((self.ledger, self.costs, self.run))
        for ledger, costs, moments in runs:
            times = Counter(moments)
            for count in ledger.counts:
                if cost := costs[count.unit]:
                    log = self._logs[count.unit]
                    log.extend(times, cost, self.retentions[count.unit])
        self._runs = None
        self.run = []
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
