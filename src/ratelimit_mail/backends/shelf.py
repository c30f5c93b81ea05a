"""The accounts of one ledger by subject, forgotten by and by once they are idle.

Subjects stand in three groups. Those charged lately are `young`. Each time a span has
passed, what was young becomes `old`, and what was old and not charged since is looked
through, a few subjects at each charge, and forgotten if nothing in it can matter.
"""

from __future__ import annotations

from typing import Final

from ratelimit_mail.backends.account import Account
from ratelimit_mail.window import LONG_AGO

__all__ = ["Shelf"]

STEPS: Final = 4
"""Idle subjects looked at in one charge: more than one, or new ones would outrun it."""


class Shelf:
    """The accounts of one ledger."""

    __slots__ = ("_floor", "_turned_at", "due", "idle", "old", "span", "young")

    def __init__(self, now: int, span: int) -> None:
        self.young: dict[str, Account] = {}
        self.old: dict[str, Account] = {}
        self.idle: dict[str, Account] = {}
        self.span = span
        """How long an event can matter."""
        self._turned_at = now
        self.due = now + span
        """The moment from which `tidy` has something to do."""
        self._floor = LONG_AGO

    def find(self, subject: str) -> Account:
        """The account of `subject`; a new one, not kept yet, where there is none."""
        account = self.young.get(subject) or self.old.get(subject) or self.idle.get(subject)
        if account is not None:
            return account
        # What was forgotten is not counted again by a clock that goes back to it.
        return Account(self._floor)

    def keep(self, subject: str, account: Account, now: int, span: int) -> None:
        """Hold on to an account that has just been charged."""
        if subject not in self.young:
            self.old.pop(subject, None)
            self.idle.pop(subject, None)
            self.young[subject] = account
        self.span = span
        if now < self._turned_at:  # the clock went back, and what is due would be due too late
            self._turned_at = now
            self.due = now + span

    def forget(self, subject: str) -> None:
        """Drop the account of `subject`."""
        for group in (self.young, self.old, self.idle):
            group.pop(subject, None)

    def tidy(self, now: int) -> None:
        """Look through a few idle accounts, and turn the groups over when a span has passed."""
        for _ in range(min(STEPS, len(self.idle))):
            subject, account = self.idle.popitem()
            idle_from = account.idle_from(self.span)
            if idle_from <= now:
                self._floor = max(self._floor, idle_from)
            else:
                self.young[subject] = account
        if self.idle:
            return
        if now - self._turned_at >= self.span:
            self.idle, self.old, self.young = self.old, self.young, self.idle
            self._turned_at = now
        self.due = now if self.idle else self._turned_at + self.span

    def size(self) -> int:
        """How many subjects there are."""
        return len(self.young) + len(self.old) + len(self.idle)
