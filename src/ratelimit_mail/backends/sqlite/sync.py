"""SQLiteBackend: counts in one file, for all processes of one host."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail.backends.base import TAKE, Backend, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.backends.ranking import Ranking
from ratelimit_mail.backends.sqlite.answers import Receipt
from ratelimit_mail.backends.sqlite.core import Core
from ratelimit_mail.backends.sqlite.database import SYNCHRONOUS, Database, Durability
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["SQLiteBackend", "wall_clock"]

T = TypeVar("T")


def wall_clock() -> int:
    """Return the time of this host."""
    return time.time_ns() // 1_000_000


@with_methods_of(Backend)
class SQLiteBackend:
    """Count in a SQLite file, shared by all processes and threads of one host.

    path: of the file. It is created if it does not exist, readable only by its owner, because it
        holds addresses. It must be on a local disk.
    durability: "process": what was counted survives a crash of the process (the default); "power":
        also one of the machine, for the price of writing to the disk with each message.
    timeout: the most seconds to wait while others use the file.
    clock: returns integer milliseconds since the epoch; by default the clock of this host.

    Thread-safe. Nothing is opened before the first use. Methods raise BackendUnavailable if the
    file is locked, cannot be opened or written, or if the disk is full; and BackendError if it is
    not a file of this library.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        timeout: float = 5.0,
        clock: Callable[[], int] | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path: the path of a file is needed, not {path!r}")
        path = os.fspath(path)
        if not isinstance(path, str):
            raise TypeError(f"path: the path of a file is needed, not {path!r}")
        if not path or path.startswith((":memory:", "file::memory:")):
            raise ValueError(f"path: {path!r} does not name a file; use MemoryBackend() for memory")
        if "://" in path:
            raise ValueError(
                f"path: {path.partition('://')[0]!r} is the scheme of a URL, and a path is needed;"
                " use from_url() for a URL such as sqlite:///counts.db"
            )
        if "\0" in path:
            raise ValueError("path: a path cannot have a NUL character")
        if durability not in SYNCHRONOUS:
            raise ValueError(f'durability: must be "process" or "power", not {durability!r}')
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"timeout: a number of seconds is needed, not {timeout!r}")
        if not 0 <= timeout < 1e6:
            raise ValueError(f"timeout: must be a number of seconds from 0 on, not {timeout!r}")
        self._clock = wall_clock if clock is None else _whole(clock)
        self._core = Core(self._clock)
        self._database = Database(
            os.path.abspath(path), timeout, durability, self._core.reconnected
        )
        self._postponed: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        """Refunds and settlements that were asked for inside a transaction of the same thread."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._database.path!r}>"

    def _write(self, work: Callable[..., T], *arguments: Any) -> T:
        core = self._core
        try:
            return self._database.transaction(work, arguments, core.committed, core.rolled_back)
        finally:
            if self._postponed:
                self._do_postponed()

    def _read(self, work: Callable[..., T], *arguments: Any) -> T:
        core = self._core
        return self._database.transaction(
            work, arguments, core.committed, core.rolled_back, writes=False
        )

    def _do_postponed(self) -> None:
        while self._postponed:
            work, arguments = self._postponed.popleft()
            core = self._core
            self._database.transaction(work, arguments, core.committed, core.rolled_back)

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        if not intent.record:
            return self._read(self._core.apply, charges, intent)
        return self._write(self._core.apply, charges, intent)

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """Apply several messages in order, in one transaction."""
        return self._write(self._core.apply_many, messages)

    def refund(self, receipt: Receipt) -> None:
        """Take the charges of a receipt out."""
        if self._database.is_busy_here():
            # The garbage collector closes a coroutine, which gives its place back.
            self._postponed.append((self._core.refund, (receipt,)))
        else:
            self._write(self._core.refund, receipt)

    def settle(self, receipt: Receipt, charges: Sequence[Charge] | None = None) -> Receipt:
        """Move the charges of a receipt to the present; return the receipt, which is changed."""
        if self._database.is_busy_here():
            self._postponed.append((self._core.settle, (receipt, charges)))
        else:
            self._write(self._core.settle, receipt, charges)
        return receipt

    def redeem(self, receipt: Receipt, charges: Sequence[Charge]) -> Verdict:
        """Use a booking now if it fits now, or book it anew; it keeps its place in its queue."""
        return self._write(self._core.redeem, receipt, charges)

    def shard_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - there is one
        """Return the name of the only shard."""
        return ""

    def now(self) -> int:
        """Return the clock's time."""
        return self._clock()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """Return the readings of each window of each of the ledger's counts, for one subject."""
        return self._read(self._core.usage, ledger, subject)

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """Return the `n` subjects that hold the largest shares of a window, largest first."""
        ranking = Ranking(n)
        after: int | None = 0
        while after is not None:
            after = self._read(self._core.rank, ledger, ranking, after)
        return ranking.subjects()

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget everything that was counted for one subject, in every unit."""
        self._write(self._core.reset, ledgers, subject)

    def read_register(self, name: str) -> Register:
        """Return all entries of a register."""
        return self._read(self._core.read_register, name)

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Set entries of a register, or remove those that are None."""
        self._write(self._core.write_register, name, changes)

    def close(self) -> None:
        """Close the file. The backend may still be used; the next call opens it again."""
        self._database.close()


def _whole(clock: Callable[[], int]) -> Callable[[], int]:
    """Return `clock` with a check: a result that is not an int raises TypeError."""

    def checked() -> int:
        now = clock()
        if type(now) is not int:
            raise TypeError(f"clock: must give integer milliseconds since the epoch, not {now!r}")
        return now

    return checked
