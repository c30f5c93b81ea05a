"""SyncAdapter: use an async backend through sync methods."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from ratelimit_mail.backends.base import (
    TAKE,
    AsyncBackend,
    Intent,
    Message,
    Reading,
    Register,
    Verdict,
)
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["SyncAdapter"]


class SyncAdapter:
    """A sync backend that passes each call to an async one, and runs it with `wait`."""

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

    def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        self._wait(self._backend.refund(receipt))

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        return self._wait(self._backend.settle(receipt, charges))

    def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        verdict: Verdict = self._wait(self._backend.redeem(receipt, charges))
        return verdict

    def shard_of(self, charges: Sequence[Charge]) -> str:  # noqa: ARG002 - must not do I/O
        """Return "", because the backend is available as a whole or not at all."""
        return ""

    def now(self) -> int:
        """See `Backend.now`."""
        time: int = self._backend.now()
        return time

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        readings: list[list[Reading]] = self._wait(self._backend.usage(ledger, subject))
        return readings

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        subjects: list[str] = self._wait(self._backend.top(ledger, n))
        return subjects

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        self._wait(self._backend.reset(ledgers, subject))

    def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        register: Register = self._wait(self._backend.read_register(name))
        return register

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        self._wait(self._backend.write_register(name, changes))
