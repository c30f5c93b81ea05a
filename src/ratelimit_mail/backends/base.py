"""What a backend is: it applies the charges of one message, all or none, in one step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import attrs

from ratelimit_mail.counting.charge import Charge, Count, Ledger

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
    "Verdict",
    "counts_of",
    "refusal_numbers",
    "refusals_from_numbers",
]


@attrs.frozen
class Idempotency:
    """That the same question must have the same answer, and no second charge.

    name: tells the question from any other: from one about other charges, too.
    lifetime: how many milliseconds the answer is remembered; a refusal is for no longer than
        until the charges may fit.
    """

    name: str
    lifetime: int


@attrs.frozen
class Intent:
    """What is to be done with charges beyond asking whether they fit.

    record: charge them if they fit; refused, charge the counts that count that.
    refused: they are refused already; only charge the counts that count that.
    line: book them for the first moment at which they fit, but not before the last
        booking on this charge's subject, and charge that as well.
    patience: the most milliseconds that a booking may lie ahead; None: any number.
    once: where the answer must be remembered.
    """

    record: bool = True
    refused: bool = False
    queue: Charge | None = None
    max_delay: int | None = None
    idempotency: Idempotency | None = None


TAKE: Final = Intent()
CHECK: Final = Intent(record=False)
REFUSE: Final = Intent(refused=True)


Message = tuple[Sequence[Charge], Intent]
"""The charges of one message, and what is to be done with them."""

Refusal = tuple[Count, int, int]
"""A count, the number of its window, and the first moment at which that one has room."""


class Verdict(NamedTuple):
    """How it went.

    now: the backend's time, in milliseconds since the epoch.
    at: the first moment at which the charges fit, `now` when they do at once.
    receipt: what takes the charges out again; None where nothing was charged.
    refusals: which windows had no room at `now`, each as its count, its number there, and
        the first moment at which it has room. Where only earlier bookings of the line were
        in the way, the window with the least room.
    degraded: it was made without the backend, which was away.
    """

    now: int
    at: int
    receipt: Any = None
    refusals: Sequence[Refusal] = ()
    degraded: bool = False


_new = tuple.__new__


def verdict(now: int, at: int, receipt: Any, refusals: Sequence[Refusal] = ()) -> Verdict:
    """`Verdict(...)`, in half the time."""
    return _new(Verdict, (now, at, receipt, refusals, False))


def counts_of(charges: Sequence[Charge]) -> list[Count]:
    """The counts that `charges` cost anything of, in order."""
    return [count for ledger, _, costs in charges for count in ledger.counts if costs[count.unit]]


def refusal_numbers(
    refusals: Sequence[Refusal], charges: Sequence[Charge]
) -> list[tuple[int, int, int]]:
    """Refusals with the numbers of their counts, as they are kept or sent."""
    counts = counts_of(charges)
    return [(counts.index(count), window, at) for count, window, at in refusals]


def refusals_from_numbers(
    numbers: Iterable[Sequence[int]], charges: Sequence[Charge]
) -> list[Refusal]:
    """What `refusal_numbers` gave, as refusals of `charges`.

    It may be of a policy that had more windows: then the last one stands for it.
    """
    counts = counts_of(charges)
    return [
        (count, min(window, len(count.windows) - 1), at)
        for number, window, at in numbers
        for count in [counts[min(number, len(counts) - 1)]]
    ]


class Reading(NamedTuple):
    """One window of one subject: what it holds, what still fits, and when it is empty."""

    used: int
    remaining: int
    empty_in: int


class Backend(Protocol):
    """Where counts live; each method is one step that nobody sees the half of."""

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says. No two are of the same subject.

        Raises BackendError, BackendUnavailable where that is an outage: what was charged by
        then is either all of it or nothing.
        """
        ...

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """`apply` for each of several messages, in order."""
        ...

    def refund(self, receipt: Any) -> None:
        """Take the charges of a receipt out; those that have left by themselves are ignored."""
        ...

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """What of the backend `charges` need: one part may be away while others answer."""
        ...

    def now(self) -> int:
        """The backend's time in milliseconds since the epoch, as far as it is known unasked.

        Overrides and their like begin and end by it; counts never depend on it.
        """
        ...

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """The readings of each window of each of the ledger's counts, for one subject."""
        ...

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget all that was counted for one subject, in every unit."""
        ...


class AsyncBackend(Protocol):
    """The same, for a backend that must be awaited."""

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        ...

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        ...

    async def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
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

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        ...
