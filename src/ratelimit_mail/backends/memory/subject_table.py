"""The subjects of one ledger: their counts by name, and the eviction of idle subjects.

Subjects are in three generations. Those charged lately are `young`. Each time a span has passed,
young subjects become `old`, and old ones that were not charged since become `idle`: they are
looked through, a few at each charge, and evicted if nothing of them can matter any more. On its way
from one generation to another a subject is in both, so that an exception cannot lose it.
"""

from __future__ import annotations

from typing import Final

from ratelimit_mail.backends.memory.subject_counts import SubjectCounts
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.counting.event_log import LONG_AGO, UndoList
from ratelimit_mail.counting.window import Retention

__all__ = ["SubjectTable"]

LOOKED_AT: Final = 4
"""Idle subjects looked at for each new one: more than one, or new subjects would outrun it."""

MOST_LEDGERS: Final = 64
"""How many ledgers a table knows: one for each tier, and again for each version of a policy."""


class SubjectTable:
    """The subjects of all ledgers of one name: a policy's, its tiers' and its later versions'."""

    __slots__ = (
        "_aged_at",
        "_floor",
        "_new",
        "_span",
        "_undo",
        "due",
        "idle",
        "ledgers",
        "old",
        "retentions",
        "young",
    )

    def __init__(self, ledger: Ledger, now: int, undo: UndoList) -> None:
        self.young: dict[str, SubjectCounts] = {}
        self.old: dict[str, SubjectCounts] = {}
        self.idle: dict[str, SubjectCounts] = {}
        self.retentions: dict[int, Retention] = {}
        """How long the log of each unit must remember, for every ledger that was ever used."""
        self.ledgers: set[Ledger] = set()
        """Ledgers that `use` was called with."""
        self._undo = undo
        self._new = 0
        self._span = ledger.span
        self._aged_at = now
        self._floor = LONG_AGO
        self.due = now + ledger.span
        """The moment from which `evict` has something to do."""
        self.use(ledger)

    def use(self, ledger: Ledger) -> None:
        """Remember from now on as long as `ledger` needs, beside what other ledgers need."""
        for count in ledger.counts:
            retention = self.retentions.setdefault(count.unit, count.retention)
            if retention is not count.retention:
                self.retentions[count.unit] = retention.together_with(count.retention)
        self._span = max(self._span, ledger.span)
        if len(self.ledgers) >= MOST_LEDGERS:
            self.ledgers.clear()
        self.ledgers.add(ledger)  # last, because it says that all of this is done

    def get(self, subject: str) -> SubjectCounts:
        """Return the counts of `subject`; new ones, not in the table yet, if there are none."""
        counts = self.young.get(subject) or self.old.get(subject) or self.idle.get(subject)
        if counts is not None:
            return counts
        # What was forgotten is not counted again by a clock that goes back to it.
        return SubjectCounts(subject, self._floor, self.retentions, self._undo)

    def has_bookings(self, subject: str) -> bool:
        """Return whether a subject may have bookings that were not used yet; needs no lock."""
        counts = (
            self.young.get(subject)
            or self.old.get(subject)
            or self.idle.get(subject)
            or self.young.get(subject)  # where it may have come meanwhile
        )
        return counts is not None and bool(counts.bookings)

    def put(self, subject: str, counts: SubjectCounts, now: int) -> None:
        """Put the counts of a subject that has just been charged among the young ones."""
        if subject not in self.young:
            self.young[subject] = counts
            if self.old or self.idle:
                self.old.pop(subject, None)
                self.idle.pop(subject, None)
            self._new += 1
        if now < self._aged_at:  # the clock went back, and what is due would be due too late
            self._aged_at = now
            self.due = now + self._span

    def remove(self, subject: str) -> None:
        """Drop the counts of `subject`."""
        for generation in (self.young, self.old, self.idle):
            if (counts := generation.get(subject)) is not None:
                self._undo.append((generation.__setitem__, (subject, counts)))
                del generation[subject]

    def evict(self, now: int) -> None:
        """Look through a few idle subjects, and age the generations when a span has passed."""
        looked_at, self._new = LOOKED_AT * (self._new + 1), 0
        for _ in range(min(looked_at, len(self.idle))):
            subject = next(reversed(self.idle))
            counts = self.idle[subject]
            idle_from = counts.idle_from(self._span)
            if idle_from <= now:
                self._floor = max(self._floor, idle_from)
            else:
                self.young.setdefault(subject, counts)
            del self.idle[subject]
        if self.idle:
            return
        if now - self._aged_at >= self._span:
            self._undo.append((self._set_generations, (self.young, self.old, self._aged_at)))
            self.idle, self.old, self.young = self.old, self.young, {}
            self._aged_at = now
        self.due = now if self.idle else self._aged_at + self._span

    def _set_generations(
        self, young: dict[str, SubjectCounts], old: dict[str, SubjectCounts], aged_at: int
    ) -> None:
        self.young, self.old, self.idle, self._aged_at = young, old, {}, aged_at

    def size(self) -> int:
        """Return how many subjects there are."""
        return len(self.young) + len(self.old) + len(self.idle)
