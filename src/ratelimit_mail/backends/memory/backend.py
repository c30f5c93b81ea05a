"""Counts in the memory of one process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from ratelimit_mail.backends.base import (
    TAKE,
    Idempotency,
    Intent,
    Message,
    Reading,
    Verdict,
    verdict,
)
from ratelimit_mail.backends.memory.clock import steady_clock, whole_clock
from ratelimit_mail.backends.memory.idempotency import IdempotencyCache, SharedReceipt
from ratelimit_mail.backends.memory.subject_counts import RepeatedRefusal
from ratelimit_mail.backends.memory.subject_table import SubjectTable
from ratelimit_mail.backends.memory.transaction import SubjectCharge, Transaction, refund
from ratelimit_mail.counting.charge import Charge, Costs, Ledger
from ratelimit_mail.counting.event_log import FAR_AHEAD

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Counts in memory, for one process and any number of threads and event loops.

    clock: gives integer milliseconds since the epoch; left out: the wall clock at the
        start plus the monotonic clock.

    Subjects that have been idle for one to two windows are forgotten by the calls of others.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = steady_clock() if clock is None else whole_clock(clock)
        self._clock()
        self._lock = threading.Lock()
        self._tables: dict[str, SubjectTable] = {}
        self._tidy_at = FAR_AHEAD
        self._refunds: deque[Sequence[SubjectCharge]] = deque()
        self._idempotency = IdempotencyCache()

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        with self._lock:
            now = self._clock()
            if now >= self._tidy_at:
                self._tidy(now)
            if self._refunds:
                self._apply_refunds()
            found: list[SubjectCharge] = []
            plenty = intent is TAKE
            all_young = True
            for ledger, subject, costs in charges:
                table = self._tables.get(ledger.name)
                if table is None:
                    table = self._new_table(ledger, now)
                if ledger is not table.served:
                    table.serve(ledger)
                account = table.young.get(subject)
                if account is None:
                    account = table.find(subject)
                    all_young = False
                if account.granted:
                    account.revoke()
                found.append((account, ledger, costs, now))
                if now < account.newest or not account.has_room(ledger, costs):
                    plenty = False
            if plenty or (intent is TAKE and self._has_plenty(found, now)):
                for account, ledger, costs, _ in found:
                    account.note(now, ledger, costs)
                if len(found) == 1:
                    found[0][0].grant(ledger)
                answer = verdict(now, now, found)
            elif intent.idempotency is None:
                answer = self._rule(found, intent, now)
                if intent is TAKE and len(found) == 1 and answer.refusals:
                    found[0][0].remember_refusal(now, ledger, costs, answer)
            else:
                answer = self._rule_once(intent.idempotency, charges, found, intent, now)
            if not all_young and (answer.receipt is not None or intent.record):
                self._keep(charges, found, now)
            return answer

    def take(
        self, ledger: Ledger, subject: str, costs: Costs
    ) -> list[SubjectCharge] | Verdict | None:
        """Charge one subject what was granted to it, or refuse it as it was refused before.

        The receipt, the refusal, or None where `apply` must be asked. That is what most messages
        are decided by, in a third of the time.
        """
        lock = self._lock
        lock.acquire()
        try:  # twice as quick as `with`
            table = self._tables.get(ledger.name)
            if table is None or self._refunds:
                return None
            account = table.young.get(subject)
            if account is None:
                return None
            if not account.granted:
                return self._refused_again(account.refusal, ledger, costs)
            if account.costs is not costs or account.ledger is not ledger:
                return None
            now = self._clock()
            if now < account.newest or now >= self._tidy_at:
                return None
            account.granted -= 1
            account.run.append(now)
            account.newest = now
        finally:
            lock.release()
        return [(account, ledger, costs, now)]

    def _refused_again(
        self, refusal: RepeatedRefusal | None, ledger: Ledger, costs: Costs
    ) -> Verdict | None:
        """The verdict on what was refused before, while that still holds."""
        if refusal is None or refusal.ledger is not ledger or refusal.costs is not costs:
            return None
        now = self._clock()
        if not refusal.since <= now < refusal.at or now >= self._tidy_at:
            return None
        return verdict(now, refusal.at, None, [each for each in refusal.windows if each[2] > now])

    @staticmethod
    def _has_plenty(found: Sequence[SubjectCharge], now: int) -> bool:
        """Whether all surely fit once it is forgotten what no longer counts."""
        for account, ledger, costs, _ in found:
            if not account.run:  # nothing new since it was last looked at
                return False
            account.refresh(now, ledger)
            if now < account.newest or not account.has_room(ledger, costs):
                return False
        return True

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """`apply` for each of several messages, in order."""
        return [self.apply(charges, intent) for charges, intent in messages]

    def _rule_once(
        self,
        idempotency: Idempotency,
        charges: Sequence[Charge],
        found: Sequence[SubjectCharge],
        intent: Intent,
        now: int,
    ) -> Verdict:
        """The verdict that was given when the same was asked before, or a new one."""
        told = self._idempotency.told(idempotency, charges, now)
        if told is not None:
            return told
        return self._idempotency.keep(idempotency, charges, self._rule(found, intent, now))

    def _rule(self, found: Sequence[SubjectCharge], intent: Intent, now: int) -> Verdict:
        """The verdict where what is held does not tell, or more than taking is asked for."""
        ruling = Transaction(found, now)
        if intent.refused:
            ruling.count_refused()
            return Verdict(now, now)
        if intent.queue is None:
            return ruling.take(record=intent.record)
        ledger, subject, costs = intent.queue
        table = self._tables.get(ledger.name)
        if table is None:
            table = self._new_table(ledger, now)
        queue = (table.find(subject), ledger, costs, now)
        answer = ruling.book(queue, intent.max_delay)
        if answer.at > now and answer.receipt is not None:
            self._keep([intent.queue], [queue], now)
        return answer

    def _keep(self, charges: Sequence[Charge], found: Sequence[SubjectCharge], now: int) -> None:
        """Hold on to the accounts in which anything was recorded."""
        for i, (ledger, subject, _) in enumerate(charges):
            account = found[i][0]
            if account.run or account.has_events:
                table = self._tables[ledger.name]
                table.keep(subject, account, now)
                if table.due < self._tidy_at:
                    self._tidy_at = table.due

    def _new_table(self, ledger: Ledger, now: int) -> SubjectTable:
        table = self._tables[ledger.name] = SubjectTable(ledger, now)
        self._tidy_at = min(self._tidy_at, table.due)
        return table

    def _tidy(self, now: int) -> None:
        """Let every ledger look through a few of its idle subjects."""
        for table in self._tables.values():
            if now >= table.due:
                table.tidy(now)
        self._tidy_at = min((table.due for table in self._tables.values()), default=FAR_AHEAD)

    def refund(self, receipt: Sequence[SubjectCharge]) -> None:
        """Take the charges of a receipt out, before anything else is asked.

        Never waits for the lock: the garbage collector may call this, by way of a coroutine
        that it finishes, while this very thread holds it.
        """
        self._refunds.append(receipt)

    def _apply_refunds(self) -> None:
        receipts = [self._refunds.popleft() for _ in range(len(self._refunds))]
        refund(
            receipt
            for receipt in receipts
            if not isinstance(receipt, SharedReceipt) or self._idempotency.take_refund(receipt)
        )

    def shard_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - it has no parts
        """Nothing: it is one whole."""
        return ""

    def now(self) -> int:
        """The time that the clock gives."""
        return self._clock()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """The readings of each window of each of the ledger's counts, for one subject."""
        with self._lock:
            now = self._clock()
            if self._refunds:
                self._apply_refunds()
            table = self._tables.get(ledger.name) or SubjectTable(ledger, now)
            table.serve(ledger)
            logs = table.find(subject).logs()
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

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget all that was counted for one subject, in every unit."""
        with self._lock:
            if self._refunds:
                self._apply_refunds()
            for ledger in ledgers:
                if ledger.name in self._tables:
                    self._tables[ledger.name].forget(subject)

    def size(self) -> int:
        """How many subjects are held, in all ledgers together."""
        with self._lock:
            return sum(table.size() for table in self._tables.values())
