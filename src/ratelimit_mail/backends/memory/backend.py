"""MemoryBackend: counts in the memory of one process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakSet

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail.backends.base import (
    CHECK,
    TAKE,
    Backend,
    Intent,
    Message,
    Reading,
    Register,
    Verdict,
    verdict,
)
from ratelimit_mail.backends.memory.clock import steady_ticks, ticks_of
from ratelimit_mail.backends.memory.idempotency import IdempotencyCache, SharedReceipt
from ratelimit_mail.backends.memory.subject_counts import QuickRefusal, SubjectCounts
from ratelimit_mail.backends.memory.subject_table import SubjectTable
from ratelimit_mail.backends.ranking import Ranking
from ratelimit_mail.backends.readings import readings
from ratelimit_mail.backends.transaction import BookingReceipt, Transaction, refund
from ratelimit_mail.counting.charge import Charge, Costs, Ledger, add_costs
from ratelimit_mail.counting.event_log import FAR_AHEAD, UndoList

__all__ = ["MemoryBackend"]

LOOKED_AT_TOGETHER: Final = 32
"""How many subjects `top` looks at while it holds the lock."""

SubjectCharge = tuple[SubjectCounts, Ledger, Costs, int]
"""The counts of a charge's subject, the charge, and the moment at which it stands."""


Marks = Sequence[tuple[int, int]]
"""Units, each with the usage from which an observer must look closer."""


class NearReceipt(list[SubjectCharge]):
    """The receipt of a charge with which a subject may have reached a mark."""

    __slots__ = ()


QuickAnswer = list[SubjectCharge] | QuickRefusal
"""The receipt of a charge that was accepted, or how it was refused."""


class RegisterCopy(Protocol):
    """A copy of a register that is to be told of changes."""

    is_stale: bool

    def __hash__(self) -> int: ...


class _Refund(NamedTuple):
    """A call of `refund`."""

    receipt: Sequence[SubjectCharge] | SharedReceipt


class _Settlement(NamedTuple):
    """A call of `settle`: its arguments, and its moment."""

    receipt: Any
    charges: Sequence[Charge] | None
    now: int


@with_methods_of(Backend)
class MemoryBackend:
    """Counts in memory, for one process and any number of threads and event loops.

    clock: returns integer milliseconds since the epoch; by default the wall clock at the start
        plus the monotonic clock.

    Subjects that have been idle for one to two windows are evicted by the calls for other subjects.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._ticks, self._ticks_argument, self._start = (
            steady_ticks() if clock is None else ticks_of(clock)
        )
        self.now()
        self._lock = threading.Lock()
        """Always taken by `with`: a signal handler may raise after `acquire()` and before `try`.

        No loop in such a block may end with a condition: Python 3.13.0 jumps back outside of the
        block then, and an exception there would leave the lock held. Loops are in methods of their
        own, whose calls are inside."""
        self._locking = iter(self._lock.acquire, None)
        """`for _ in self._locking: try: ... finally: self._lock.release()` is as safe as `with`,
        because no signal is handled between the lock and the `try`, and twice as quick."""
        self._undo: UndoList = []
        """What takes back the call under way; the next call does so if it was broken off."""
        self._tables: dict[str, SubjectTable] = {}
        self._evict_at = FAR_AHEAD
        self._changes: deque[_Refund | _Settlement] = deque()
        """Refunds and settlements, applied in order before the next request is decided."""
        self._idempotency = IdempotencyCache(self._undo)
        self._registers: dict[str, dict[str, str]] = {}
        self._copies: dict[str, WeakSet[RegisterCopy]] = {}

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        with self._lock:
            undo = self._undo
            if undo:
                self._take_back()
            ticks = self._ticks
            now = (ticks(self._ticks_argument) + self._start) // 1_000_000
            if now >= self._evict_at:
                self._evict(now)
            if self._changes:
                self._apply_changes()
            subject_charges: list[SubjectCharge] = []
            is_simple = intent is TAKE or intent is CHECK
            fits = is_simple
            all_young = True
            for ledger, subject, costs in charges:
                table = self._tables.get(ledger.name)
                if table is None:
                    table = self._new_table(ledger, now)
                if ledger not in table.ledgers:
                    table.use(ledger)
                counts = table.young.get(subject)
                if counts is None:
                    counts = table.get(subject)
                    all_young = False
                if counts.allowance:
                    counts.withdraw_allowance()
                subject_charges.append((counts, ledger, costs, now))
                # Not an `if` at the end of the loop: see `_lock`.
                fits = fits and now >= counts.newest and counts.has_room(ledger, costs)
            refused: QuickRefusal | None = None
            if is_simple and not fits:
                if len(subject_charges) == 1:
                    counts, ledger, costs, _ = subject_charges[0]
                    refused = counts.refuse(now, ledger, costs)
                fits = refused is None and self._fits_after_forgetting(subject_charges, now)
            # 1. Everything held leaves room, whatever its times; perhaps once what has left every
            #    window is forgotten. The charges are only made pending.
            if fits:
                if intent is CHECK:
                    answer = verdict(now, now, None)
                else:
                    self._add_pending(subject_charges, now)
                    answer = verdict(now, now, subject_charges)
            # 2. A charge alone surely does not fit. That is remembered: the same charge is refused
            #    again until something changes.
            elif refused is not None:
                answer = verdict(now, refused[1], None, refused[2])
            # 3. The logs decide.
            elif intent.idempotency is None:
                answer = self._decide(subject_charges, intent, now)
            # 4. A request with an id was answered before, or is decided by the logs now.
            else:
                previous = self._idempotency.get(intent.idempotency, charges, now)
                if previous is not None:
                    answer = previous
                elif intent.recall:
                    answer = verdict(now, now, None)
                else:
                    decided = self._decide(subject_charges, intent, now)
                    answer = self._idempotency.put(intent.idempotency, charges, decided)
            if not all_young and (answer.receipt is not None or intent.record):
                self._put(charges, subject_charges, now)
            if undo:  # from here on the call stands
                undo.clear()
            return answer

    def _take_back(self) -> None:
        """Take back what a call has changed that an exception broke off."""
        undo = self._undo
        while undo:
            function, arguments = undo[-1]
            function(*arguments)
            undo.pop()

    def _add_pending(self, subject_charges: Sequence[SubjectCharge], now: int) -> None:
        undo = self._undo
        if len(subject_charges) != 1:
            for counts, ledger, costs, _ in subject_charges:
                counts.add_pending(now, ledger, costs, undo)
            return
        counts, ledger, costs, _ = subject_charges[0]
        counts.add_pending(now, ledger, costs)
        undo.clear()
        counts.make_allowance(ledger)

    def taker(
        self, ledger: Ledger, costs: Costs, marks: Marks = ()
    ) -> Callable[[str], QuickAnswer | None]:
        """Return what decides on one charge of a subject without `apply`, in a quarter of the time.

        ledger, costs: what is counted, and the costs: one for each count of the ledger.
        marks: if the subject may have reached one, the receipt is a NearReceipt.

        It returns the receipt of a charge that the allowance of case 1 covers, the refusal of
        case 2, or None if `apply` must decide.
        """
        table = self._table_of(ledger)
        # Names of a closure are quicker than attributes.
        locking, release = self._locking, self._lock.release
        changes, undo = self._changes, self._undo
        ticks, argument, start = self._ticks, self._ticks_argument, self._start

        def take(subject: str) -> QuickAnswer | None:
            for _ in locking:
                try:
                    counts = table.young.get(subject)
                    if counts is None or changes or undo:
                        return None
                    now = (ticks(argument) + start) // 1_000_000
                    if now >= self._evict_at:
                        return None
                    if not counts.allowance:
                        return counts.refuse(now, ledger, costs)
                    if counts.costs is not costs or counts.ledger is not ledger:
                        return None
                    if now < counts.newest:
                        return None
                    counts.allowance -= 1
                    counts.newest = now
                    counts.pending.append(now)
                    is_near = marks and not counts.is_below(marks)
                finally:
                    release()
                receipt = [(counts, ledger, costs, now)]
                return NearReceipt(receipt) if is_near else receipt
            return None

        return take

    def peeker(self, ledger: Ledger, costs: Costs) -> Callable[[str], QuickAnswer | None]:
        """Return what answers as that of `taker` would, and changes nothing.

        ledger, costs: as for `taker`.

        Its receipt of a charge is empty.
        """
        table = self._table_of(ledger)

        def peek(subject: str) -> QuickAnswer | None:
            with self._lock:
                counts = table.young.get(subject)
                if counts is None or self._changes or self._undo:
                    return None
                now = self.now()
                if now >= self._evict_at:
                    return None
                if not counts.allowance:
                    return counts.refuse(now, ledger, costs)
                if counts.costs is not costs or counts.ledger is not ledger:
                    return None
                return [] if now >= counts.newest else None

        return peek

    def is_below(self, receipt: Sequence[SubjectCharge], marks: Marks) -> bool:
        """Return whether the subject of a receipt's charge surely has not reached a mark.

        receipt: of one charge. marks: units with the marks of their windows.
        """
        with self._lock:
            counts, ledger, _, _ = receipt[0]
            # An allowance of another ledger may be for other units.
            return (counts.ledger is ledger or not counts.allowance) and counts.is_below(marks)

    def _table_of(self, ledger: Ledger) -> SubjectTable:
        with self._lock:
            return self._tables.get(ledger.name) or self._new_table(ledger, self.now())

    @staticmethod
    def _fits_after_forgetting(subject_charges: Sequence[SubjectCharge], now: int) -> bool:
        """Return whether all surely fit once what no longer counts is forgotten."""
        for counts, ledger, costs, _ in subject_charges:
            if not counts.pending:  # nothing new since the logs were last looked at
                return False
            counts.forget(now, ledger)
            if now < counts.newest or not counts.has_room(ledger, costs):
                return False
        return True

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """Call `apply` for each of several messages, in order."""
        return [self.apply(charges, intent) for charges, intent in messages]

    def _decide(
        self, subject_charges: Sequence[SubjectCharge], intent: Intent, now: int
    ) -> Verdict:
        """Return the verdict by the logs."""
        transaction = Transaction(subject_charges, now)
        if intent.refused:
            transaction.count_refused()
            return Verdict(now, now)
        if intent.queue is None:
            return transaction.take(record=intent.record)
        ledger, subject, costs = intent.queue
        table = self._tables.get(ledger.name)
        if table is None:
            table = self._new_table(ledger, now)
        queue = (table.get(subject), ledger, costs, now)
        answer = transaction.book(queue, intent.max_delay)
        if answer.at > now and answer.receipt is not None:
            self._put([intent.queue], [queue], now)
        return answer

    def _put(
        self, charges: Sequence[Charge], subject_charges: Sequence[SubjectCharge], now: int
    ) -> None:
        """Put the subjects for which anything was recorded into their tables."""
        for i, (ledger, subject, _) in enumerate(charges):
            counts = subject_charges[i][0]
            if counts.pending or counts.has_events:
                table = self._tables[ledger.name]
                table.put(subject, counts, now)
                if table.due < self._evict_at:
                    self._evict_at = table.due

    def _new_table(self, ledger: Ledger, now: int) -> SubjectTable:
        table = SubjectTable(ledger, now, self._undo)
        self._evict_at = min(self._evict_at, table.due)
        self._tables[ledger.name] = table
        return table

    def _evict(self, now: int) -> None:
        """Let every table look through a few of its idle subjects."""
        for table in self._tables.values():
            if now >= table.due:
                table.evict(now)
        self._evict_at = min((table.due for table in self._tables.values()), default=FAR_AHEAD)
        self._undo.clear()

    def refund(self, receipt: Sequence[SubjectCharge] | SharedReceipt) -> None:
        """Take the charges of a receipt out, before the next request is decided.

        Never waits for the lock: the garbage collector may call this, by way of a coroutine that
        it closes, while this very thread holds it.
        """
        self._changes.append(_Refund(receipt))

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """Move the charges of a receipt to the present; return the receipt, which is changed.

        Never waits for a lock that this thread holds, as `refund`; if the lock is held, the next
        request comes after this.
        """
        self._changes.append(_Settlement(receipt, charges, self.now()))
        if not self._lock.locked():
            with self._lock:
                if self._undo:
                    self._take_back()
                self._apply_changes()
        return receipt

    def settle_pending(self, receipt: Any) -> bool:
        """Settle a receipt whose one charge is still pending, as most are.

        Returns False, and changes nothing, if `settle` is needed.
        """
        if type(receipt) is not list and type(receipt) is not NearReceipt:
            return False
        undo = self._undo
        for _ in self._locking:
            try:
                if self._changes or undo:
                    return False
                now = (self._ticks(self._ticks_argument) + self._start) // 1_000_000
                if not self._move_pending(receipt, now):
                    return False
                undo.clear()
                return True
            finally:
                self._lock.release()
        return False

    def _move_pending(self, receipt: list[SubjectCharge], now: int) -> bool:
        """Move the one charge of a receipt to `now`; return False if it is not pending."""
        if len(receipt) != 1:
            return False
        counts, ledger, _, _ = receipt[0]
        if self._tables[ledger.name].young.get(counts.subject) is not counts:
            return False
        return counts.move_pending(receipt, now)

    def has_bookings(self, queue: Ledger, subject: str) -> bool:
        """Return whether a queue may have bookings that were not used yet.

        queue: the ledger of bookings. subject: whose.
        """
        table = self._tables.get(queue.name)
        return table is not None and table.has_bookings(subject)

    def _apply_changes(self) -> None:
        """Apply all refunds and settlements that are waiting: all of them or, for now, none."""
        changes = list(self._changes)
        receipts: list[Sequence[SubjectCharge]] = []
        for change in changes:
            if isinstance(change, _Settlement):
                refund(receipts)
                receipts = []
                self._settle(*change)
            elif not isinstance(change.receipt, SharedReceipt):
                receipts.append(change.receipt)
            elif self._idempotency.take_refund(change.receipt):
                receipts.append(change.receipt.receipt)
        if receipts:
            refund(receipts)
        # In one step nothing of it is taken back any more, and all that is left is to forget it.
        self._undo[:] = [(self._forget_changes, (changes,))]
        self._take_back()

    def _forget_changes(self, changes: Sequence[_Refund | _Settlement]) -> None:
        """Remove changes that were applied; an interrupted call has removed some of them."""
        for change in changes:
            if self._changes and self._changes[0] is change:
                self._changes.popleft()

    def _settle(self, receipt: Any, charges: Sequence[Charge] | None, now: int) -> None:
        previous: list[SubjectCharge] = receipt
        if isinstance(receipt, SharedReceipt):
            previous = receipt.receipt
        if charges is None:
            if self._move_pending(previous, now):
                return
            charges = _whole_charges(previous)
        if isinstance(receipt, SharedReceipt) and receipt.refunded:
            # Whoever refunds it now takes this charge out.
            receipt.set_refunded(False, self._undo)
        else:
            refund([previous])
        subject_charges = self._subject_charges(charges, now)
        settled = Transaction(subject_charges, now).charge(now)
        self._undo.append((previous.__setitem__, (slice(None), previous.copy())))
        previous[:] = settled
        self._put(charges, subject_charges, now)

    def redeem(
        self, receipt: BookingReceipt[SubjectCounts] | SharedReceipt, charges: Sequence[Charge]
    ) -> Verdict:
        """Use a booking now if it fits now, or book it anew; see `Backend.redeem`."""
        with self._lock:
            if self._undo:
                self._take_back()
            now = self.now()
            if self._changes:
                self._apply_changes()
            booking: BookingReceipt[SubjectCounts]
            if not isinstance(receipt, SharedReceipt):
                booking = receipt
            else:
                booking = receipt.receipt
                if receipt.refunded:  # another caller has taken its charges out
                    receipt.set_refunded(False, self._undo)
                    booking.save()
                    booking.clear()
            queue, queue_ledger, costs, _ = booking.queue
            queue_charges: list[Charge] = [(queue_ledger, queue.subject, costs)]
            subject_charges = self._subject_charges(charges, now)
            # The queue may have been reset or evicted since.
            [queue_charge] = self._subject_charges(queue_charges, now)
            answer = Transaction(subject_charges, now).redeem(booking, queue_charge[0])
            self._put(charges, subject_charges, now)
            self._put(queue_charges, [queue_charge], now)
            self._undo.clear()
            return answer._replace(receipt=receipt)

    def _subject_charges(self, charges: Sequence[Charge], now: int) -> list[SubjectCharge]:
        """Return charges with the counts of their subjects."""
        subject_charges: list[SubjectCharge] = []
        counts_of: dict[tuple[str, str], SubjectCounts] = {}
        for ledger, subject, costs in charges:
            table = self._tables.get(ledger.name) or self._new_table(ledger, now)
            table.use(ledger)
            counts = counts_of.setdefault((ledger.name, subject), table.get(subject))
            subject_charges.append((counts, ledger, costs, now))
        return subject_charges

    def shard_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - there is one
        """Return the name of the only shard."""
        return ""

    def now(self) -> int:
        """Return the clock's time."""
        return (self._ticks(self._ticks_argument) + self._start) // 1_000_000

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """Return the reading of each window of each of the ledger's counts, for one subject."""
        with self._lock:
            if self._undo:
                self._take_back()
            now = self.now()
            if self._changes:
                self._apply_changes()
            table = self._tables.get(ledger.name) or SubjectTable(ledger, now, self._undo)
            table.use(ledger)
            logs = table.get(subject).logs()
            self._undo.clear()
            return readings(logs, ledger, now)

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """Return the `n` subjects that hold the largest shares of a window, largest first.

        The lock is held for a few subjects at a time.
        """
        ranking = Ranking(n)
        bounds = [(count.unit, count.smallest) for count in ledger.counts if count.windows]
        with self._lock:
            if self._undo:
                self._take_back()
            if self._changes:
                self._apply_changes()
            table = self._tables.get(ledger.name)
            if table is None:
                return []
            all_counts = [*table.young.values(), *table.old.values(), *table.idle.values()]
        # Read without the lock: what is held is never too low, and no window holds more.
        promising = (
            counts
            for counts in all_counts
            if any(counts.held[unit] > ranking.threshold * limit for unit, limit in bounds)
        )
        while chunk := list(islice(promising, LOOKED_AT_TOGETHER)):
            with self._lock:
                if self._undo:
                    self._take_back()
                self._rank(ranking, table, ledger, chunk)
                self._undo.clear()
        return ranking.subjects()

    def _rank(
        self, ranking: Ranking, table: SubjectTable, ledger: Ledger, chunk: list[SubjectCounts]
    ) -> None:
        now = self.now()
        for subject in {counts.subject for counts in chunk}:
            logs = table.get(subject).logs()  # perhaps it was reset or evicted meanwhile
            for count in ledger.counts:
                for window in count.windows:
                    used = logs[count.unit].used(now, window)
                    ranking.add(subject, used / window.limit)

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget everything that was counted for one subject, in every unit."""
        with self._lock:
            if self._undo:
                self._take_back()
            if self._changes:
                self._apply_changes()
            self._remove(ledgers, subject)
            self._undo.clear()

    def _remove(self, ledgers: Sequence[Ledger], subject: str) -> None:
        for ledger in ledgers:
            if ledger.name in self._tables:
                self._tables[ledger.name].remove(subject)

    def read_register(self, name: str) -> Register:
        """Return all entries of a register."""
        with self._lock:
            return Register(self.now(), dict(self._registers.get(name, {})))

    def watch_register(self, name: str, copy: RegisterCopy) -> None:
        """Set `is_stale` of a copy whenever the register changes, as long as the copy exists.

        name: of the register. copy: what has been read of it.
        """
        with self._lock:
            self._copies.setdefault(name, WeakSet()).add(copy)

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Set entries of a register, or remove those that are None."""
        with self._lock:
            self._write(name, changes)

    def _write(self, name: str, changes: Mapping[str, str | None]) -> None:
        register = {**self._registers.get(name, {}), **changes}
        # First, or an exception could leave a copy that does not know of the change.
        for copy in self._copies.get(name, ()):
            copy.is_stale = True
        self._registers[name] = {key: text for key, text in register.items() if text is not None}
        if not self._registers[name]:
            del self._registers[name]

    def size(self) -> int:
        """Return how many subjects are held, in all ledgers together."""
        with self._lock:
            return sum(table.size() for table in self._tables.values())


def _whole_charges(receipt: Sequence[SubjectCharge]) -> list[Charge]:
    """Return what a receipt was charged: each ledger and subject once, with all of its costs."""
    charges: dict[tuple[str, str], Charge] = {}
    for counts, ledger, costs, _ in receipt:
        key = (ledger.name, counts.subject)
        if key in charges:
            costs = add_costs(charges[key][2], costs)
        charges[key] = (ledger, counts.subject, costs)
    return list(charges.values())
