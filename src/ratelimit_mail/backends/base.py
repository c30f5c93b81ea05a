"""The backend protocol: apply the charges of one message, all or none, in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail.counting.charge import Charge, Count, Ledger, Refusal

__all__ = [
    "CHECK",
    "REFUSE",
    "TAKE",
    "AsyncBackend",
    "Backend",
    "Idempotency",
    "Intent",
    "Message",
    "Reading",
    "Refusal",
    "Register",
    "Verdict",
    "counts_of",
    "refusal_numbers",
    "refusals_from_numbers",
]


class Idempotency(NamedTuple):
    """A request that may be repeated: the repetition gets the first answer and no second charge.

    name: identifies the request, its charges included.
    lifetime: for how many milliseconds the answer is remembered; a booking for so many after its
        time, a refusal for no longer than until the charges may fit.
    """

    name: str
    lifetime: int


class Intent(NamedTuple):
    """What to do with charges.

    record: charge them if they fit; if they do not, charge the counts that count refused attempts.
        False only checks whether they fit.
    refused: the message is refused already; only charge the counts that count refused attempts.
    queue: book the charges for the first moment at which they fit, but not before the last
        booking on this charge's subject, and charge that as well.
    max_delay: the most milliseconds that a booking may be ahead; None for any number.
    idempotency: makes the request repeatable; None if it is not.
    recall: only return the remembered answer to the request; without one, charge nothing.
    """

    record: bool = True
    refused: bool = False
    queue: Charge | None = None
    max_delay: int | None = None
    idempotency: Idempotency | None = None
    recall: bool = False


TAKE: Final = Intent()
CHECK: Final = Intent(record=False)
REFUSE: Final = Intent(refused=True)


Message = tuple[Sequence[Charge], Intent]
"""The charges of one message, and what to do with them."""


class Verdict(NamedTuple):
    """What became of the charges of one message.

    now: the backend's time, in milliseconds since the epoch.
    at: the first moment at which the charges fit; `now` if they fit at once.
    receipt: what `refund` takes; None if nothing was charged.
    refusals: the windows without room at `now`. If only earlier bookings of the queue were in the
        way, the window with the least room.
    degraded: whether the backend was away and had no part in it.
    repeated: whether the request was answered before and this is the answer of then.
    """

    now: int
    at: int
    receipt: Any = None
    refusals: Sequence[Refusal] = ()
    degraded: bool = False
    repeated: bool = False


_new = tuple.__new__


def verdict(now: int, at: int, receipt: Any, refusals: Sequence[Refusal] = ()) -> Verdict:
    """Return `Verdict(now, at, receipt, refusals)`, in half the time."""
    return _new(Verdict, (now, at, receipt, refusals, False, False))


def counts_of(charges: Sequence[Charge]) -> list[Count]:
    """Return the counts that `charges` cost anything of, in order."""
    return [count for ledger, _, costs in charges for count in ledger.counts if costs[count.unit]]


def refusal_numbers(
    refusals: Sequence[Refusal], charges: Sequence[Charge]
) -> list[tuple[int, int, int]]:
    """Return refusals with the numbers of their counts, as they are stored or sent."""
    numbers: dict[Count, int] = {}
    for number, count in enumerate(counts_of(charges)):
        numbers.setdefault(count, number)
    return [(numbers[count], window, at) for count, window, at in refusals]


def refusals_from_numbers(
    numbers: Iterable[Sequence[int]], charges: Sequence[Charge]
) -> list[Refusal]:
    """Return the refusals of `charges` that `refusal_numbers` made numbers of.

    The numbers may be of a policy that had more windows: then the last window stands for them. A
    count that has no windows any more refuses nothing.
    """
    counts = counts_of(charges)
    return [
        (count, min(window, len(count.windows) - 1), at)
        for number, window, at in numbers
        for count in [counts[min(number, len(counts) - 1)]]
        if count.windows
    ]


class Reading(NamedTuple):
    """One window of one subject: what it holds, what still fits, and when it is empty.

    used, remaining: in the count's unit. empty_in: milliseconds.
    """

    used: int
    remaining: int
    empty_in: int


class Register(NamedTuple):
    """The entries of a register, and the backend's time at which they were read."""

    now: int
    entries: Mapping[str, str]


class Backend(Protocol):
    """Where counts live; each method is one step, of which no caller sees a half."""

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says. No two are of the same subject.

        Raises BackendError, or BackendUnavailable during an outage; the message is then charged
        as a whole or not at all.
        """
        ...

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """Call `apply` for each of several messages, in order."""
        ...

    def refund(self, receipt: Any) -> None:
        """Take out the charges of a receipt; charges that have left every window are ignored."""
        ...

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """Move the charges of a receipt to the present, in one step; return the new receipt.

        charges: what is charged instead; by default what the receipt was charged.

        Never refuses: the message has been sent. A booking may be left without room by it, which
        `redeem` finds out.
        """
        ...

    def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """Use a booking now if it fits now, or book it anew; it keeps its place in its queue.

        receipt: of the booking, or of the last time that it was redeemed.
        charges: what was booked.

        Bookings behind it in the queue do not count in this check. The verdict's `at` is `now`
        if the message may go; otherwise the time of the new booking, not before the bookings
        ahead in the queue. Before the booked time nothing changes.
        """
        ...

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """Return the shard that `charges` need: one may be away while others answer.

        charges: those of one message.
        """
        ...

    def now(self) -> int:
        """Return the backend's time in milliseconds since the epoch, as known without asking.

        Overrides, exemptions and grants begin and end by it; counts never depend on it.
        """
        ...

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """Return the reading of each window of each of the ledger's counts, for one subject."""
        ...

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """Return the `n` subjects that hold the largest shares of a window of the ledger.

        ledger: what is counted. n: how many subjects, at most.

        The largest share is first; a subject that holds nothing now is left out, and of equal
        shares any may be. What changes meanwhile may be missing. No message waits for it.
        """
        ...

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget everything that was counted for one subject, in every unit.

        ledgers: what was counted per the subject's scope, one for each unit. subject: whose counts.
        """
        ...

    def read_register(self, name: str) -> Register:
        """Return all entries of a register: a few texts by key that all processes share.

        name: of the register.
        """
        ...

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Set entries of a register, or remove those that are None.

        name: of the register. changes: the new text of each entry, or None to remove it.
        """
        ...


@with_methods_of(Backend)
class AsyncBackend(Protocol):
    """What `Backend` is, for a backend that must be awaited."""

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        ...

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        ...

    async def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        ...

    async def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        ...

    async def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        ...

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`; not awaited."""
        ...

    def now(self) -> int:
        """See `Backend.now`; not awaited."""
        ...

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        ...

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        ...

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        ...

    async def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        ...

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        ...
