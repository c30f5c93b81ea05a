"""A backend that may be away, and what is answered meanwhile, in both colours."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
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
    Verdict,
)
from ratelimit_mail.backends.outage.circuit_breaker import CircuitBreaker
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendUnavailable

__all__ = ["AsyncFallbackBackend", "FallbackBackend"]

_Error = BackendUnavailable | None


class _Local(NamedTuple):
    """A receipt of the fallback."""

    receipt: Any


class _Fallback:
    """A backend, and what to do without it.

    instead: "raise", "allow", "deny", or the backend to ask meanwhile, for a share of each limit.
    """

    def __init__(self, backend: Any, instead: Any, share: FallbackShare) -> None:
        self._backend = backend
        self._instead = instead
        self._share = share
        self._outages: dict[str, CircuitBreaker] = {}

    def _outage(self, part: str) -> CircuitBreaker:
        outage = self._outages.get(part)
        if outage is None:
            outage = self._outages.setdefault(part, CircuitBreaker())
        return outage

    def _call_steps(
        self,
        part: str,
        call: Callable[[], Any],
        without: Callable[[CircuitBreaker, _Error], Steps[Any]],
    ) -> Steps[Any]:
        """The result of `call`, where that is not known to be in vain."""
        outage = self._outage(part)
        tried = not outage.is_over
        if tried and not outage.may_try():
            return (yield from without(outage, None))
        try:
            result = yield call
        except BackendUnavailable as error:
            outage.failed(error, tried=tried)
            return (yield from without(outage, error))
        except BaseException:
            if tried:
                outage.broken_off()
            raise
        if tried:
            outage.worked()
        return result

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.shard_of`."""
        found: str = self._backend.shard_of(charges)
        return found

    def now(self) -> int:
        """See `Backend.now`."""
        time: int = self._backend.now()
        return time

    def _apply_steps(self, charges: Sequence[Charge], intent: Intent) -> Steps[Verdict]:
        return self._call_steps(
            self._backend.shard_of(charges),
            partial(self._backend.apply, charges, intent),
            partial(self._without, charges, intent),
        )

    def _apply_many_steps(self, messages: Sequence[Message]) -> Steps[list[Verdict]]:
        def without(outage: CircuitBreaker, error: _Error) -> Steps[list[Verdict]]:
            verdicts = []
            for charges, intent in messages:
                verdicts.append((yield from self._without(charges, intent, outage, error)))
            return verdicts

        return self._call_steps("", partial(self._backend.apply_many, messages), without)

    def _without(
        self, charges: Sequence[Charge], intent: Intent, outage: CircuitBreaker, error: _Error
    ) -> Steps[Verdict]:
        """The verdict that is given while the backend is away."""
        if self._instead == "raise":
            raise error or outage.error()
        now = time.time_ns() // 1_000_000
        if self._instead == "allow":
            return Verdict(now, now, degraded=True)
        if self._instead != "deny":
            shared = self._share.of(charges)
            if intent.refused or self._share.fits(shared):
                verdict: Verdict = yield partial(self._instead.apply, shared, intent)
                receipt = None if verdict.receipt is None else _Local(verdict.receipt)
                refusals = self._share.whole(verdict.refusals, shared, charges)
                return Verdict(verdict.now, verdict.at, receipt, refusals, degraded=True)
        # Later than now, and no limit that says so.
        return Verdict(now, now + math.ceil(outage.next_try_in() * 1000), degraded=True)

    def _refund_steps(self, receipt: Any) -> Steps[None]:
        def without(outage: CircuitBreaker, error: _Error) -> Steps[None]:
            if self._instead == "raise":
                raise error or outage.error()
            log_warning("a refund is lost, because the backend is away: its message stays counted")
            yield from ()

        if isinstance(receipt, _Local):
            yield partial(self._instead.refund, receipt.receipt)
        else:
            yield from self._call_steps("", partial(self._backend.refund, receipt), without)

    def _require_steps(self, ledger: Ledger, subject: str, call: Callable[[], Any]) -> Steps[Any]:
        """The result of `call`, which only the backend can give."""

        def without(outage: CircuitBreaker, error: _Error) -> Steps[Any]:
            yield from ()
            raise error or outage.error()

        return self._call_steps(self.shard_of([(ledger, subject, (0, 0, 0, 0))]), call, without)


class FallbackBackend(_Fallback):
    """A Backend that answers also while the one in it is away."""

    _backend: Backend

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        outage = self._outage(self._backend.shard_of(charges))
        if outage.is_over:  # the short way
            try:
                return self._backend.apply(charges, intent)
            except BackendUnavailable as error:
                outage.failed(error, tried=False)
                return run(self._without(charges, intent, outage, error))
        return run(self._apply_steps(charges, intent))

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return run(self._apply_many_steps(messages))

    def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        run(self._refund_steps(receipt))

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        call = partial(self._backend.usage, ledger, subject)
        return run(self._require_steps(ledger, subject, call))

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        if ledgers:
            call = partial(self._backend.reset, ledgers, subject)
            run(self._require_steps(ledgers[0], subject, call))


class AsyncFallbackBackend(_Fallback):
    """The same, to be awaited."""

    _backend: AsyncBackend

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        return await run_async(self._apply_steps(charges, intent))

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return await run_async(self._apply_many_steps(messages))

    async def refund(self, receipt: Any) -> None:
        """See `Backend.refund`."""
        await run_async(self._refund_steps(receipt))

    async def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.usage`."""
        call = partial(self._backend.usage, ledger, subject)
        return await run_async(self._require_steps(ledger, subject, call))

    async def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.reset`."""
        if ledgers:
            call = partial(self._backend.reset, ledgers, subject)
            await run_async(self._require_steps(ledgers[0], subject, call))
