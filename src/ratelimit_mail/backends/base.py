"""What a backend is: it applies the charges of one message, all or none, in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from ratelimit_mail.charge import Charge, Count

__all__ = ["LOOK", "REFUSE", "TAKE", "AsyncBackend", "Backend", "Intent", "Reading", "Verdict"]


class Intent(NamedTuple):
    """What is to be done with charges beyond asking whether they fit.

    record: charge them if they fit; refused, charge the counts that count that.
    refused: they are refused already; only charge the counts that count that.
    line: book them for the first moment at which they fit, but not before the last
        booking of this charge's subject, and count the booking there.
    patience: the most milliseconds that a booking may lie ahead; None: any number.
    """

    record: bool = True
    refused: bool = False
    line: Charge | None = None
    patience: int | None = None


TAKE: Final = Intent()
LOOK: Final = Intent(record=False)
REFUSE: Final = Intent(refused=True)


class Verdict(NamedTuple):
    """How it went.

    now: the backend's time, in milliseconds since the epoch.
    at: the first moment at which the charges fit, `now` when they do at once.
    receipt: what takes the charges out again; None where nothing was charged.
    refusals: which windows had no room at `now`, each as the number of the charge, the
        number of its count's window, and the first moment at which that one has room.
    """

    now: int
    at: int
    receipt: Any = None
    refusals: Sequence[tuple[int, int, int]] = ()


_new = tuple.__new__


def accepted(now: int, at: int, receipt: Any) -> Verdict:
    """The verdict on charges that fit; quicker than `Verdict(...)`."""
    return _new(Verdict, (now, at, receipt, ()))


class Reading(NamedTuple):
    """One window of one subject: what it holds, what still fits, and when it is empty."""

    used: int
    remaining: int
    empty_in: int


class Backend(Protocol):
    """Where counts live; each method is one step that nobody sees the half of."""

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says. No two are of the same log."""
        ...

    def take_out(self, receipt: Any) -> None:
        """Take the charges of a receipt out; those that have left by themselves are ignored."""
        ...

    def read(self, counts: Sequence[Count], subject: str) -> list[list[Reading]]:
        """The readings of each window of each count, for one subject."""
        ...

    def forget(self, counts: Sequence[Count], subject: str) -> None:
        """Forget all that was counted for one subject."""
        ...


class AsyncBackend(Protocol):
    """The same, for a backend that must be awaited."""

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        ...

    async def take_out(self, receipt: Any) -> None:
        """See `Backend.take_out`."""
        ...

    async def read(self, counts: Sequence[Count], subject: str) -> list[list[Reading]]:
        """See `Backend.read`."""
        ...

    async def forget(self, counts: Sequence[Count], subject: str) -> None:
        """See `Backend.forget`."""
        ...
