"""NearLimitTracker: finds the message that uses up a given share of a limit, with few reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import attrs

from ratelimit_mail.backends.base import Reading
from ratelimit_mail.counting.charge import UNITS, Charge, Ledger
from ratelimit_mail.events.expiring_map import NEVER, ExpiringMap
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = ["NearLimitTracker", "UsageQuery"]

READS_PER_WINDOW: Final = 20
"""Counts are read again after this fraction of a window: other processes may charge them, ..."""

SHORTEST_PAUSE: Final = 10_000
"""... but not sooner than this many milliseconds after the last read."""

MOST_READS: Final = 8
"""Reads for one message; a message to many recipients must not wait long."""

MOST_LEDGERS: Final = 8
"""The largest number of ledgers, one for each tier, that are remembered for one subject."""

MILLION: Final = 1_000_000


@attrs.define(eq=False)
class _NextRead:
    """When the counts of a subject in one tier must be read again.

    thresholds: units, each with the total at which a mark may have been reached.
    due: when to read even if no threshold is reached.
    """

    thresholds: tuple[tuple[int, int], ...] = ()
    due: int = 0


@attrs.define(eq=False)
class _SubjectTotals:
    """What one subject of a scope was charged.

    totals: how much of each unit, since the subject was first seen. They only grow: refunds and
        charges that leave their window make them too large, never too small.
    next_reads: by ledger. The ledgers of all tiers count in the same place.
    silent_until: for limits that were reported, the end of that window.
    """

    totals: list[int] = attrs.field(factory=lambda: [0] * len(UNITS))
    next_reads: dict[Ledger, _NextRead] = attrs.field(factory=dict)
    silent_until: dict[RateLimit, int] | None = None


class UsageQuery(NamedTuple):
    """Counts that must be read, because a limit may have reached its mark."""

    effective_limits: EffectiveLimits
    ledger: Ledger
    subject: str
    state: _SubjectTotals
    totals: tuple[int, ...]
    """The totals before the read, so that charges during the read are not lost."""


class NearLimitTracker:
    """Track which subjects have reached the mark, such as 0.8 of a limit. Not thread-safe.

    For each subject it remembers what the counts were when they were last read, and what was
    charged since then. The sum is at least what is used. While it is below the mark, nothing is
    read.

    near: the share of a limit, at most 1. most: the largest number of subjects to remember.
    """

    def __init__(self, near: float, most: int) -> None:
        self._millionths = max(1, round(near * MILLION))
        self._states: ExpiringMap[tuple[str, str], _SubjectTotals] = ExpiringMap(most)

    def __len__(self) -> int:
        return len(self._states)

    def marks(self, limits: EffectiveLimits, ledger: Ledger) -> tuple[tuple[int, int], ...]:
        """Return the units of a ledger with the lowest mark of their windows."""
        return tuple(
            (
                count.unit,
                min(self._mark(limits.limit_of(count, i)) for i in range(len(count.windows))),
            )
            for count in ledger.counts
            if count.windows
        )

    def is_tracked(self, ledger: Ledger, subject: str) -> bool:
        """Return whether anything is remembered of a subject; needs no lock."""
        return self._states.get(ledger.span, (ledger.name, subject)) is not None

    def record(self, plan: ChargePlan, accepted: bool, now: int) -> list[UsageQuery]:
        """Record what a message was charged, and return the counts that must be read."""
        queries: list[UsageQuery] = []
        for charge in plan.charges:
            if not accepted and not charge[0].counts_denied:
                continue
            query = self.record_charge(plan.effective_limits, charge, now, accepted=accepted)
            if query is not None and len(queries) < MOST_READS:
                queries.append(query)
        return queries

    def record_charge(
        self, limits: EffectiveLimits, charge: Charge, now: int, *, accepted: bool = True
    ) -> UsageQuery | None:
        """Record one charge of a message, and return the counts if they must be read."""
        ledger, subject, costs = charge
        states = self._states
        if now >= states.next_expiry:
            states.pop_expired(now)
        key = (ledger.name, subject)
        state = states.get(ledger.span, key)
        if state is None:
            state = _SubjectTotals()
            states.put(ledger.span, key, state, now)
        totals = state.totals
        for count in ledger.counts:
            if accepted or count.counts_denied:
                totals[count.unit] += costs[count.unit]
        if not ledger.has_windows:
            return None
        next_read = state.next_reads.get(ledger)
        if next_read is not None and now < next_read.due:
            for unit, threshold in next_read.thresholds:
                if totals[unit] >= threshold:
                    break
            else:
                return None
        return UsageQuery(limits, ledger, subject, state, tuple(totals))

    def update(
        self, query: UsageQuery, readings: Sequence[Sequence[Reading]] | None, now: int
    ) -> list[tuple[RateLimit, int]]:
        """Store what was read, and return the limits that reached the mark, with their usage.

        readings: None if the counts could not be read.
        """
        reached: list[tuple[RateLimit, int]] = []
        _, ledger, subject, state, totals = query
        thresholds: dict[int, int] = {}
        due = now + SHORTEST_PAUSE if readings is None else NEVER
        for unit, limit, used in _windows(query, readings or ()):
            silent_until = (state.silent_until or {}).get(limit, 0)
            missing = self._mark(limit) - used
            if now < silent_until:
                due = min(due, silent_until)
            elif missing > 0:
                thresholds[unit] = min(thresholds.get(unit, NEVER), totals[unit] + missing)
                due = min(due, now + max(limit.window // READS_PER_WINDOW, SHORTEST_PAUSE))
            else:
                reached.append((limit, used))
                state.silent_until = state.silent_until or {}
                state.silent_until[limit] = limit.renewed_at(now)
                due = min(due, state.silent_until[limit])
        if ledger not in state.next_reads and len(state.next_reads) >= MOST_LEDGERS:
            state.next_reads.clear()
        state.next_reads[ledger] = _NextRead(tuple(thresholds.items()), due)
        self._states.put(ledger.span, (ledger.name, subject), state, now)
        return reached

    def _mark(self, limit: RateLimit) -> int:
        """Return the usage to report. Integers are used, so that 0.7 of 10 is 7."""
        return max(1, -(-limit.limit * self._millionths // MILLION))


def _windows(
    query: UsageQuery, readings: Sequence[Sequence[Reading]]
) -> Iterator[tuple[int, RateLimit, int]]:
    """Yield the unit, the limit and the usage of each window that was read."""
    for count, of_count in zip(query.ledger.counts, readings, strict=False):
        for i, reading in enumerate(of_count):
            yield count.unit, query.effective_limits.limit_of(count, i), reading.used
