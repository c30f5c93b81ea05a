"""Backends that can be taken away, and a limiter on one whose retries a test controls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ratelimit_mail import (
    AsyncLimiter,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientLimit,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.backends.outage.circuit_breaker import CircuitBreaker
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock
from rlm_testkit.builders import campus_policy

__all__ = [
    "OUTAGE_POLICY",
    "UNREACHABLE",
    "AsyncInterruptibleBackend",
    "InterruptibleBackend",
    "LimiterInOutage",
    "fallback_for",
    "log_lines",
    "sync_and_async",
]

OUTAGE_POLICY = campus_policy(
    RecipientLimit(20),
    MessageRateLimit("8/minute"),
    RecipientRateLimit("40/day", count="external"),
)

UNREACHABLE = BackendUnavailable("the server is away")

sync_and_async = pytest.mark.parametrize("mode", ["sync", "async"])


def fallback_for(on_backend_error: str) -> Any:
    """Return the argument `on_backend_error`: a backend for "memory", else the word itself."""
    return MemoryBackend(ManualClock()) if on_backend_error == "memory" else on_backend_error


def log_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the level and the text of each logged line."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


class InterruptibleBackend:
    """A backend in memory that can be taken away.

    error: what each call raises instead of an answer; None while the backend answers.
    shard_away: the one shard that is away, each sender being a shard; None if all of it is.
    calls: the methods that were called. A limiter reads a register once a second in real time, so
        that reads are not recorded, except those in vain.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._memory = MemoryBackend(clock)
        self.error: BaseException | None = None
        self.shard_away: str | None = None
        self.calls: list[str] = []

    def _record(self, method: str, shard: str = "") -> None:
        self.calls.append(method)
        if self.error is not None and self.shard_away in (None, shard):
            raise self.error

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        self._record("apply", charges[0][1])
        return self._memory.apply(charges, intent)

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        self._record("apply_many")
        return self._memory.apply_many(messages)

    def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        self._record("refund")
        self._memory.refund(receipt)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`."""
        return "" if self.shard_away is None else charges[0][1]

    def now(self) -> int:
        """See `Backend.now`."""
        return self._memory.now()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        self._record("usage")
        return self._memory.usage(ledger, subject)

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        self._record("top")
        return self._memory.top(ledger, n)

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        self._record("reset")
        self._memory.reset(ledgers, subject)

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        self._record("settle")
        return self._memory.settle(receipt, charges)

    def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        self._record("redeem", charges[0][1])
        return self._memory.redeem(receipt, charges)

    def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        if self.error is not None:
            self._record("read_register")
        return self._memory.read_register(name)

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        self._record("write_register")
        self._memory.write_register(name, changes)


class AsyncInterruptibleBackend:
    """What InterruptibleBackend is, for a backend that must be awaited.

    is_silent: `apply` takes a message and never answers, nor does `read_register`.
    """

    def __init__(self, backend: InterruptibleBackend) -> None:
        self._backend = backend
        self.is_silent = False

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        if self.is_silent:
            self._backend.calls.append("apply")
            await asyncio.Event().wait()
        return self._backend.apply(charges, intent)

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return self._backend.apply_many(messages)

    async def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        self._backend.refund(receipt)

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`."""
        return self._backend.shard_of(charges)

    def now(self) -> int:
        """See `Backend.now`."""
        return self._backend.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        return self._backend.usage(ledger, subject)

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        return self._backend.top(ledger, n)

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        self._backend.reset(ledgers, subject)

    async def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        return self._backend.settle(receipt, charges)

    async def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        return self._backend.redeem(receipt, charges)

    async def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        if self.is_silent:
            self._backend.calls.append("read_register")
            await asyncio.Event().wait()
        return self._backend.read_register(name)

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        self._backend.write_register(name, changes)


class LimiterInOutage:
    """A sync or async limiter on a backend that can be taken away; its methods never need await.

    mode: "sync" or "async".
    seconds: the time of the circuit breaker, to be moved by hand.
    slept: the seconds of each sleep of the limiter, which takes no time.
    on_sleep: called with the seconds of each sleep, such as `ManualClock.advance`.
    """

    def __init__(
        self,
        mode: str,
        on_backend_error: Any = "raise",
        policy: Policy = OUTAGE_POLICY,
        **options: Any,
    ) -> None:
        self.backend = InterruptibleBackend(ManualClock())
        self.seconds = 1000.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[float], object] | None = None
        options = {"on_backend_error": on_backend_error, **options}
        self.limiter: Any
        if mode == "sync":
            self.limiter = Limiter(policy, self.backend, sleep=self._record_sleep, **options)
        else:
            self.async_backend = AsyncInterruptibleBackend(self.backend)
            self.limiter = AsyncLimiter(policy, self.async_backend, sleep=self._sleep, **options)
        self.limiter._backend._steps._breakers[""] = CircuitBreaker(lambda: self.seconds)

    def _record_sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.on_sleep is not None:
            self.on_sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        self._record_sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        """Return a method of the limiter, as one that does not need to be awaited."""
        method = getattr(self.limiter, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *args, **options: asyncio.run(method(*args, **options))

    def take_backend_away(self, error: BaseException = UNREACHABLE) -> None:
        """Let each call of the backend raise `error`."""
        self.backend.error = error

    def bring_backend_back(self) -> None:
        """Let the backend answer again."""
        self.backend.error = None

    def count_calls(self) -> int:
        """Return how often the backend was called since this was last called."""
        calls = len(self.backend.calls)
        self.backend.calls.clear()
        return calls
