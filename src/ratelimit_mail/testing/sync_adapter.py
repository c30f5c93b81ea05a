"""An awaited backend as one that is called: each call waits for its answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ratelimit_mail.backends.base import TAKE, AsyncBackend, Intent, Message, Reading, Verdict
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["Waited"]


class Waited:
    """`backend`, whose calls `wait` runs to their end, in whatever event loop."""

    def __init__(
        self, backend: AsyncBackend, wait: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._backend = backend
        self._wait = wait

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        verdict: Verdict = self._wait(self._backend.apply(charges, intent))
        return verdict

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        verdicts: list[Verdict] = self._wait(self._backend.apply_many(messages))
        return verdicts

    def take_out(self, receipt: Any) -> None:
        """See `Backend.take_out`."""
        self._wait(self._backend.take_out(receipt))

    def part_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - asked outside the loop
        """Nothing: all of it is away together."""
        return ""

    def present(self) -> int:
        """See `Backend.present`."""
        time: int = self._backend.present()
        return time

    def read(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.read`."""
        readings: list[list[Reading]] = self._wait(self._backend.read(ledger, subject))
        return readings

    def forget(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.forget`."""
        self._wait(self._backend.forget(ledgers, subject))
