"""NearLimits: notices with which message so much of a limit is used, and reads counts seldom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import attrs

from ratelimit_mail.backends.base import Reading
from ratelimit_mail.counting.charge import UNITS, Ledger
from ratelimit_mail.events.expiring import NEVER, ExpiringMap
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = ["NearLimits", "ToRead"]

PARTS: Final = 20
"""What others may have charged is looked at again after this part of a window, ..."""

SHORTEST_PAUSE: Final = 10_000
"""... but not sooner than so many milliseconds after the last look."""

MOST_READS: Final = 8
"""For one message; a message to many recipients whom nothing is known of must not wait long."""

MOST_LEDGERS: Final = 8
"""What is known of one subject under so many tiers at most."""

MILLION: Final = 1_000_000


@attrs.define(eq=False)
class _Known:
    """What was known of a subject's counts in one tier when they were last read.

    enough: for a unit, how much must be spent in all until a mark can have been reached.
    due: when to read again even so.
    """

    enough: tuple[tuple[int, int], ...] = ()
    due: int = 0


@attrs.define(eq=False)
class _Watched:
    """One subject of a scope.

    spent: how much of each unit, since the subject was first seen. Only ever more: what is
        refunded or has left the window makes too much of it, never too little.
    known: by the ledger of each tier, all of which count in one place.
    silent_until: for limits of which it was told.
    """

    spent: list[int] = attrs.field(factory=lambda: [0] * len(UNITS))
    known: dict[Ledger, _Known] = attrs.field(factory=dict)
    silent_until: dict[RateLimit, int] | None = None


class ToRead(NamedTuple):
    """Counts that must be read: a mark can have been reached."""

    effective_limits: EffectiveLimits
    ledger: Ledger
    subject: str
    account: _Watched
    spent: tuple[int, ...]
    """At the time of asking: what others spend while the counts are read is not lost."""


class NearLimits:
    """Who has reached the mark, such as 0.8 of a limit. Not safe for threads.

    Of each subject it remembers what its counts held when they were read, and what was spent
    since. The sum is at least what is used: while it is below the mark, nothing is read.
    """

    def __init__(self, near: float, most: int) -> None:
        self._millionths = max(1, round(near * MILLION))
        self._accounts: ExpiringMap[tuple[str, str], _Watched] = ExpiringMap(most)

    def __len__(self) -> int:
        return len(self._accounts)

    def spend(self, plan: ChargePlan, accepted: bool, now: int) -> list[ToRead]:
        """Note what a message was charged; the counts that must be read for it."""
        accounts = self._accounts
        if now >= accounts.leaves_at:
            accounts.leave(now)
        to_read: list[ToRead] = []
        for ledger, subject, costs in plan.charges:
            if not accepted and not ledger.counts_denied:
                continue
            key = (ledger.name, subject)
            account = accounts.get(ledger.span, key)
            if account is None:
                account = _Watched()
                accounts.put(ledger.span, key, account, now)
            spent = account.spent
            for count in ledger.counts:
                if accepted or count.counts_denied:
                    spent[count.unit] += costs[count.unit]
            known = account.known.get(ledger)
            if known is not None and now < known.due:
                for unit, enough in known.enough:
                    if spent[unit] >= enough:
                        break
                else:
                    continue
            if len(to_read) < MOST_READS:
                to_read.append(
                    ToRead(plan.effective_limits, ledger, subject, account, tuple(spent))
                )
        return to_read

    def learn(
        self, asked: ToRead, readings: Sequence[Sequence[Reading]] | None, now: int
    ) -> list[tuple[RateLimit, int]]:
        """Remember what was read, and say which limits have reached the mark, and how much is used.

        readings: None where they could not be had.
        """
        reached: list[tuple[RateLimit, int]] = []
        _, ledger, subject, account, spent = asked
        enough: dict[int, int] = {}
        due = now + SHORTEST_PAUSE if readings is None else NEVER
        for unit, limit, used in _windows(asked, readings or ()):
            silent_until = (account.silent_until or {}).get(limit, 0)
            missing = self._mark(limit) - used
            if now < silent_until:
                due = min(due, silent_until)
            elif missing > 0:
                enough[unit] = min(enough.get(unit, NEVER), spent[unit] + missing)
                due = min(due, now + max(limit.window // PARTS, SHORTEST_PAUSE))
            else:
                reached.append((limit, used))
                account.silent_until = account.silent_until or {}
                account.silent_until[limit] = now + limit.window
                due = min(due, now + limit.window)
        if ledger not in account.known and len(account.known) >= MOST_LEDGERS:
            account.known.clear()
        account.known[ledger] = _Known(tuple(enough.items()), due)
        self._accounts.put(ledger.span, (ledger.name, subject), account, now)
        return reached

    def _mark(self, limit: RateLimit) -> int:
        """What must be used for somebody to be told; in integers, so that 0.7 of 10 is 7."""
        return max(1, -(-limit.limit * self._millionths // MILLION))


def _windows(
    asked: ToRead, readings: Sequence[Sequence[Reading]]
) -> Iterator[tuple[int, RateLimit, int]]:
    """The unit, the limit and what is used, of each window that was read."""
    for count, of_count in zip(asked.ledger.counts, readings, strict=False):
        for i, reading in enumerate(of_count):
            yield count.unit, asked.effective_limits.limit_of(count, i), reading.used
