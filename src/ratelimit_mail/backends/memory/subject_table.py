"""The accounts of one ledger by subject, forgotten by and by once they are idle.

Subjects stand in three groups. Those charged lately are `young`. Each time a span has
passed, what was young becomes `old`, and what was old and not charged since is looked
through, a few subjects at each charge, and forgotten if nothing in it can matter.
"""

from __future__ import annotations

from typing import Final

from ratelimit_mail.backends.memory.subject_counts import SubjectCounts
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.counting.event_log import LONG_AGO
from ratelimit_mail.counting.window import Retention

__all__ = ["SubjectTable"]

STEPS: Final = 4
"""Idle subjects looked at for each one that is kept: more than one, or new ones would outrun it."""


class SubjectTable:
    """The accounts of all ledgers of one name: a policy's, its tiers' and its later versions'."""

    __slots__ = (
        "_floor",
        "_new",
        "_span",
        "_turned_at",
        "due",
        "idle",
        "old",
        "retentions",
        "served",
        "young",
    )

    def __init__(self, ledger: Ledger, now: int) -> None:
        self.young: dict[str, SubjectCounts] = {}
        self.old: dict[str, SubjectCounts] = {}
        self.idle: dict[str, SubjectCounts] = {}
        self.retentions: dict[int, Retention] = {}
        """How the log of each unit is kept, to serve every ledger that was ever seen."""
        self.served: Ledger | None = None
        """The ledger that `serve` was last told of."""
        self._new = 0
        self._span = ledger.span
        self._turned_at = now
        self._floor = LONG_AGO
        self.due = now + ledger.span
        """The moment from which `tidy` has something to do."""
        self.serve(ledger)

    def serve(self, ledger: Ledger) -> None:
        """Keep from now on what `ledger` needs, beside what others need."""
        self.served = ledger
        for count in ledger.counts:
            kept = self.retentions.setdefault(count.unit, count.retention)
            if kept is not count.retention:
                self.retentions[count.unit] = kept.together_with(count.retention)
        self._span = max(self._span, ledger.span)

    def find(self, subject: str) -> SubjectCounts:
        """The account of `subject`; a new one, not kept yet, where there is none."""
        account = self.young.get(subject) or self.old.get(subject) or self.idle.get(subject)
        if account is not None:
            return account
        # What was forgotten is not counted again by a clock that goes back to it.
        return SubjectCounts(self._floor, self.retentions)

    def keep(self, subject: str, account: SubjectCounts, now: int) -> None:
        """Hold on to an account that has just been charged."""
        if subject not in self.young:
            if self.old or self.idle:
                self.old.pop(subject, None)
                self.idle.pop(subject, None)
            self.young[subject] = account
            self._new += 1
        if now < self._turned_at:  # the clock went back, and what is due would be due too late
            self._turned_at = now
            self.due = now + self._span

    def forget(self, subject: str) -> None:
        """Drop the account of `subject`."""
        for group in (self.young, self.old, self.idle):
            group.pop(subject, None)

    def tidy(self, now: int) -> None:
        """Look through a few idle accounts, and turn the groups over when a span has passed."""
        steps, self._new = STEPS * (self._new + 1), 0
        for _ in range(min(steps, len(self.idle))):
            subject, account = self.idle.popitem()
            idle_from = account.idle_from(self._span)
            if idle_from <= now:
                self._floor = max(self._floor, idle_from)
            else:
                self.young[subject] = account
        if self.idle:
            return
        if now - self._turned_at >= self._span:
            self.idle, self.old, self.young = self.old, self.young, self.idle
            self._turned_at = now
        self.due = now if self.idle else self._turned_at + self._span

    def size(self) -> int:
        """How many subjects there are."""
        return len(self.young) + len(self.old) + len(self.idle)
