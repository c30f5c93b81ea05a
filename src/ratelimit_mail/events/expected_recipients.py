"""ExpectedRecipientsTracker: finds senders with more recipients than their override expects.

If the policy has a recipient rate limit per sender, the number is read from the backend's count,
which holds what all processes sent, without refunds and refused attempts. Counts are read seldom:
what was read last and what this process has charged since then is at least what is used. Without
such a limit nothing in the backend counts them, and each process counts what it accepts itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.counting.charge import UNITS, Count, Ledger
from ratelimit_mail.counting.event_log import EventLog
from ratelimit_mail.counting.window import Retention, Window
from ratelimit_mail.events.denials import DAY
from ratelimit_mail.events.expiring_map import NEVER, ExpiringMap
from ratelimit_mail.events.near_limit import READS_PER_WINDOW, SHORTEST_PAUSE
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Override
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = ["ExpectedQuery", "ExpectedRecipientsTracker"]

SENDER: Final = ("sender",)

MOST_RECIPIENTS: Final = 10**12

RECIPIENTS: Final = (
    "recipients",
    "external recipients",
    "unique recipients",
    "unique external recipients",
)
"""The units that may count the recipients of a sender, the best first."""

# What a process counts by itself, with one entry a minute, so that memory is bounded.
MINUTE: Final = 60_000
OWN_WINDOW: Final = Window(MOST_RECIPIENTS, DAY, MINUTE)
OWN_RETENTION: Final = Retention(DAY + MINUTE - 1, MINUTE)


@attrs.define(eq=False)
class _State:
    """What one sender was charged under one override.

    total: the recipients since the sender was first seen; it only grows.
    threshold: the total at which the expected number may be passed.
    due: when to read the count even if the threshold is not reached.
    silent_until: the end of the window in which the event was reported.
    own: the log in which this process counts by itself, if the policy does not count.
    """

    total: int = 0
    threshold: int = 0
    due: int = 0
    silent_until: int = 0
    own: EventLog | None = None


class _RecipientCount(NamedTuple):
    """Where the recipients of a sender are counted.

    charged: the ledger that messages are charged to.
    reading: a ledger with the same name that reads accepted recipients alone.
    unit: the unit that is read. limit: the limit that they are counted for.
    """

    charged: Ledger
    reading: Ledger
    unit: int
    limit: RateLimit


class ExpectedQuery(NamedTuple):
    """A number of recipients that must be read, because it may be above what was expected.

    subject: the sender. tier: the tier of the client.
    window: how long recipients are counted, in milliseconds.
    ledger, limit: where they are counted, and for which limit; None if this process counts.
    states: by the position of the override, its state and the total before the read.
    """

    overrides: Mapping[int, Override]
    subject: str
    tier: str | None
    window: int
    ledger: Ledger | None
    limit: RateLimit | None
    states: Mapping[int, tuple[_State, int]]


class ExpectedRecipientsTracker:
    """Track the recipients of senders with an override that has an expected number.

    Not thread-safe. most: the largest number of senders and overrides to remember.
    """

    def __init__(self, most: int) -> None:
        self._states: ExpiringMap[tuple[int, str], _State] = ExpiringMap(most)
        self._counts = BoundedCache(_recipient_count, most=512)

    def __len__(self) -> int:
        return len(self._states)

    def record(
        self,
        overrides: Mapping[int, Override],
        plan: ChargePlan,
        sender: str,
        recipients: int,
        now: int,
    ) -> ExpectedQuery | None:
        """Record an accepted message, and return what must be read, if anything.

        overrides: those that apply to the message, by position. sender: the sender's subject.
        recipients: how many the envelope has.
        """
        self._states.pop_expired(now)
        effective = plan.effective_limits
        count = self._counts[effective]
        if count is not None:
            return self._record_charged(overrides, plan, count, now)
        states: dict[int, tuple[_State, int]] = {}
        for position in overrides:
            state = self._state(DAY, position, sender)
            state.own = state.own or EventLog()
            state.own.add(now, recipients, OWN_RETENTION)
            states[position] = (state, state.total)
        return ExpectedQuery(overrides, sender, effective.tier, DAY, None, None, states)

    def _record_charged(
        self,
        overrides: Mapping[int, Override],
        plan: ChargePlan,
        count: _RecipientCount,
        now: int,
    ) -> ExpectedQuery | None:
        window = count.limit.window
        for ledger, subject, costs in plan.charges:
            if ledger is not count.charged or not costs[count.unit]:
                continue
            due: dict[int, Override] = {}
            states: dict[int, tuple[_State, int]] = {}
            for position, override in overrides.items():
                state = self._state(window, position, subject)
                state.total += costs[count.unit]
                if now >= state.due or state.total >= state.threshold:
                    due[position] = override
                    states[position] = (state, state.total)
            if due:
                tier = plan.effective_limits.tier
                return ExpectedQuery(due, subject, tier, window, count.reading, count.limit, states)
        return None

    def update(
        self, query: ExpectedQuery, reading: int | None, now: int
    ) -> list[tuple[Override, int]]:
        """Store what was read, and return the overrides to report, each with the recipients.

        reading: None if it failed, or this process counts.
        """
        exceeded: list[tuple[Override, int]] = []
        for position, override in query.overrides.items():
            state, total = query.states[position]
            expected = override.expected_recipients or 0
            recipients = reading if state.own is None else state.own.used(now, OWN_WINDOW)
            if now < state.silent_until:  # already reported, perhaps by another thread
                pass
            elif recipients is None:
                state.threshold, state.due = NEVER, now + SHORTEST_PAUSE
            elif recipients > expected:
                exceeded.append((override, recipients))
                state.threshold = NEVER
                state.due = state.silent_until = now + query.window
            else:
                state.threshold = total + expected - recipients + 1
                state.due = now + max(query.window // READS_PER_WINDOW, SHORTEST_PAUSE)
            self._states.put(query.window, (position, query.subject), state, now)
        return exceeded

    def _state(self, window: int, position: int, subject: str) -> _State:
        return self._states.get(window, (position, subject)) or _State()


def _recipient_count(effective: EffectiveLimits) -> _RecipientCount | None:
    """Return where `effective` counts the recipients of a sender, over the longest window."""
    for unit in map(UNITS.index, RECIPIENTS):
        counts: list[tuple[RateLimit, Ledger, Count]] = [
            (effective.limit_of(count, i), ledger, count)
            for ledger in effective.ledgers_of(SENDER)
            for count in ledger.counts
            for i in range(len(count.windows))
            if count.unit == unit and effective.limit_of(count, i).direction == "outbound"
        ]
        if counts:
            limit, ledger, count = max(counts, key=lambda each: each[0].window)
            window = Window(MOST_RECIPIENTS, limit.window, limit.slot)
            reading = Ledger(
                ledger.name,
                (Count(count.unit, (window,), count.retention),),
                ledger.span,
                ledger.tag_of,
            )
            return _RecipientCount(ledger, reading, unit, limit)
    return None
