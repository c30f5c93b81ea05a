"""What happens while the backend (Redis, say) is down: raise, allow, deny, or count elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps, run, run_async
from ratelimit_mail.backends.base import (
    TAKE,
    AsyncBackend,
    Backend,
    Intent,
    Message,
    Reading,
    Register,
    Verdict,
)
from ratelimit_mail.backends.outage.circuit_breaker import CircuitBreaker
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.counting.charge import NO_COSTS, Charge, Ledger
from ratelimit_mail.exceptions import BackendUnavailable

__all__ = ["AsyncFallbackBackend", "FallbackBackend"]


class _FallbackReceipt(NamedTuple):
    """A receipt of the fallback backend."""

    receipt: Any


class _OutageSteps:
    """The calls of a backend that may be away, and what is done instead.

    backend, fallback: their methods return results, or awaitables of them.
    fallback: "raise", "allow", "deny", or the backend to call meanwhile for a share of each limit.
    """

    def __init__(self, backend: Any, fallback: Any, share: FallbackShare) -> None:
        self._backend = backend
        self._fallback = fallback
        self._share = share
        self._breakers: dict[str, CircuitBreaker] = {}

    def breaker(self, shard: str) -> CircuitBreaker:
        """Return the circuit breaker of one shard of the backend."""
        breaker = self._breakers.get(shard)
        if breaker is None:
            breaker = self._breakers.setdefault(shard, CircuitBreaker())
        return breaker

    def apply_steps(self, charges: Sequence[Charge], intent: Intent) -> Steps[Verdict]:
        """See `Backend.apply`."""
        return self._call_steps(
            self._backend.shard_of(charges),
            partial(self._backend.apply, charges, intent),
            partial(self.apply_instead_steps, charges, intent),
        )

    def apply_many_steps(self, messages: Sequence[Message]) -> Steps[list[Verdict]]:
        """See `Backend.apply_many`."""

        def instead(
            breaker: CircuitBreaker, error: BackendUnavailable | None
        ) -> Steps[list[Verdict]]:
            verdicts = []
            for charges, intent in messages:
                verdict = yield from self.apply_instead_steps(charges, intent, breaker, error)
                verdicts.append(verdict)
            return verdicts

        return self._call_steps("", partial(self._backend.apply_many, messages), instead)

    def apply_instead_steps(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        breaker: CircuitBreaker,
        error: BackendUnavailable | None,
    ) -> Steps[Verdict]:
        """Return the verdict while the backend is away; `error` is None if it was not tried."""
        if self._fallback == "raise":
            raise error or breaker.error()
        now = time.time_ns() // 1_000_000
        if self._fallback == "allow":
            return Verdict(now, now, degraded=True)
        if self._fallback != "deny":
            shared = self._share.of(charges)
            if intent.refused or self._share.fits(shared):
                verdict: Verdict = yield partial(self._fallback.apply, shared, intent)
                receipt = None if verdict.receipt is None else _FallbackReceipt(verdict.receipt)
                refusals = self._share.whole(verdict.refusals, shared, charges)
                return Verdict(verdict.now, verdict.at, receipt, refusals, degraded=True)
        # Later than now, and no limit is the reason.
        return Verdict(now, now + math.ceil(breaker.next_try_in() * 1000), degraded=True)

    def refund_steps(self, receipt: Any) -> Steps[None]:
        """See `Backend.refund`."""

        def instead(breaker: CircuitBreaker, error: BackendUnavailable | None) -> Steps[None]:
            if self._fallback == "raise":
                raise error or breaker.error()
            log_warning("a refund is lost, because the backend is away: its message stays counted")
            yield from ()

        if isinstance(receipt, _FallbackReceipt):
            yield partial(self._fallback.refund, receipt.receipt)
        else:
            yield from self._call_steps("", partial(self._backend.refund, receipt), instead)

    def settle_steps(self, receipt: Any, charges: Sequence[Charge] | None) -> Steps[Any]:
        """See `Backend.settle`."""

        def instead(breaker: CircuitBreaker, error: BackendUnavailable | None) -> Steps[Any]:
            if self._fallback == "raise":
                raise error or breaker.error()
            log_warning("a message that was sent stays counted at its admission: %s", error or "")
            yield from ()
            return receipt

        if not isinstance(receipt, _FallbackReceipt):
            call = partial(self._backend.settle, receipt, charges)
            return (yield from self._call_steps("", call, instead))
        shared = None if charges is None else self._share.of(charges)
        settled = yield partial(self._fallback.settle, receipt.receipt, shared)
        return _FallbackReceipt(settled)

    def redeem_steps(self, receipt: Any, charges: Sequence[Charge]) -> Steps[Verdict]:
        """See `Backend.redeem`; what was booked elsewhere is charged to the fallback now."""
        if not isinstance(receipt, _FallbackReceipt):
            verdict: Verdict = yield from self._call_steps(
                self._backend.shard_of(charges),
                partial(self._backend.redeem, receipt, charges),
                partial(self.apply_instead_steps, charges, TAKE),
            )
            return verdict
        shared = self._share.of(charges)
        verdict = yield partial(self._fallback.redeem, receipt.receipt, shared)
        refusals = self._share.whole(verdict.refusals, shared, charges)
        return verdict._replace(
            receipt=_FallbackReceipt(verdict.receipt), refusals=refusals, degraded=True
        )

    def usage_steps(self, ledger: Ledger, subject: str) -> Steps[list[list[Reading]]]:
        """See `Backend.usage`."""
        return self._require_steps(ledger, subject, partial(self._backend.usage, ledger, subject))

    def top_steps(self, ledger: Ledger, n: int) -> Steps[list[str]]:
        """See `Backend.top`."""
        return self._only_backend_steps("", partial(self._backend.top, ledger, n))

    def reset_steps(self, ledgers: Sequence[Ledger], subject: str) -> Steps[None]:
        """See `Backend.reset`."""
        if ledgers:
            call = partial(self._backend.reset, ledgers, subject)
            yield from self._require_steps(ledgers[0], subject, call)

    def read_register_steps(self, name: str) -> Steps[Register]:
        """See `Backend.read_register`.

        A message reads it before it is charged, and does without it in an outage: the charge, which
        is not tried then, reports the error.
        """
        call = partial(self._backend.read_register, name)
        return self._only_backend_steps("", call, is_reported=False)

    def write_register_steps(self, name: str, changes: Mapping[str, str | None]) -> Steps[None]:
        """See `Backend.write_register`."""
        call = partial(self._backend.write_register, name, changes)
        return self._only_backend_steps("", call)

    def _require_steps(self, ledger: Ledger, subject: str, call: Callable[[], Any]) -> Steps[Any]:
        """Return the result of `call`, which needs the backend of one subject."""
        return self._only_backend_steps(self._backend.shard_of([(ledger, subject, NO_COSTS)]), call)

    def _only_backend_steps(
        self, shard: str, call: Callable[[], Any], *, is_reported: bool = True
    ) -> Steps[Any]:
        """Return the result of `call`, which only the backend itself can give."""

        def instead(breaker: CircuitBreaker, error: BackendUnavailable | None) -> Steps[Any]:
            yield from ()
            raise error or breaker.error()

        return self._call_steps(shard, call, instead, is_reported=is_reported)

    def _call_steps(
        self,
        shard: str,
        call: Callable[[], Any],
        instead: Callable[[CircuitBreaker, BackendUnavailable | None], Steps[Any]],
        *,
        is_reported: bool = True,
    ) -> Steps[Any]:
        """Return the result of `call`; during an outage that of `instead`, mostly untried."""
        breaker = self.breaker(shard)
        tried = not breaker.is_closed
        if tried and not breaker.may_try():
            return (yield from instead(breaker, None))
        try:
            result = yield call
        except BackendUnavailable as error:
            breaker.failed(error, tried=tried, is_reported=is_reported)
            return (yield from instead(breaker, error))
        except BaseException:
            if tried:
                breaker.cancelled()
            raise
        if tried:
            breaker.succeeded()
        return result


class FallbackBackend:
    """A Backend that answers also while the one it wraps is away."""

    def __init__(self, backend: Backend, fallback: Any, share: FallbackShare) -> None:
        self._backend = backend
        self._steps = _OutageSteps(backend, fallback, share)

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        breaker = self._steps.breaker(self._backend.shard_of(charges))
        if breaker.is_closed:  # nearly always: without the detour by steps
            try:
                return self._backend.apply(charges, intent)
            except BackendUnavailable as error:
                breaker.failed(error, tried=False)
                return run(self._steps.apply_instead_steps(charges, intent, breaker, error))
        return run(self._steps.apply_steps(charges, intent))

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return run(self._steps.apply_many_steps(messages))

    def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        run(self._steps.refund_steps(receipt))

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        return run(self._steps.settle_steps(receipt, charges))

    def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        return run(self._steps.redeem_steps(receipt, charges))

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`."""
        return self._backend.shard_of(charges)

    def now(self) -> int:
        """See `Backend.now`."""
        return self._backend.now()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        return run(self._steps.usage_steps(ledger, subject))

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        return run(self._steps.top_steps(ledger, n))

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        run(self._steps.reset_steps(ledgers, subject))

    def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        return run(self._steps.read_register_steps(name))

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        run(self._steps.write_register_steps(name, changes))


class AsyncFallbackBackend:
    """What `FallbackBackend` is, for a backend that must be awaited."""

    def __init__(self, backend: AsyncBackend, fallback: Any, share: FallbackShare) -> None:
        self._backend = backend
        self._steps = _OutageSteps(backend, fallback, share)

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        return await run_async(self._steps.apply_steps(charges, intent))

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return await run_async(self._steps.apply_many_steps(messages))

    async def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        await run_async(self._steps.refund_steps(receipt))

    async def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """See `Backend.settle`."""
        return await run_async(self._steps.settle_steps(receipt, charges))

    async def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """See `Backend.redeem`."""
        return await run_async(self._steps.redeem_steps(receipt, charges))

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`."""
        return self._backend.shard_of(charges)

    def now(self) -> int:
        """See `Backend.now`."""
        return self._backend.now()

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        return await run_async(self._steps.usage_steps(ledger, subject))

    async def top(self, ledger: Ledger, n: int) -> list[str]:
        """See `Backend.top`."""
        return await run_async(self._steps.top_steps(ledger, n))

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        await run_async(self._steps.reset_steps(ledgers, subject))

    async def read_register(self, name: str) -> Register:
        """See `Backend.read_register`."""
        return await run_async(self._steps.read_register_steps(name))

    async def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """See `Backend.write_register`."""
        await run_async(self._steps.write_register_steps(name, changes))
