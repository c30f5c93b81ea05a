"""A backend that may be away, and what is answered meanwhile, in both colours."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ratelimit_mail._util.logger import warn
from ratelimit_mail._util.steps import Script, run, run_async
from ratelimit_mail.backends.base import (
    TAKE,
    AsyncBackend,
    Backend,
    Intent,
    Message,
    Reading,
    Verdict,
)
from ratelimit_mail.backends.outage.circuit_breaker import Outage
from ratelimit_mail.backends.outage.fallback_share import Share
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.exceptions import BackendUnavailable

__all__ = ["AsyncGuarded", "Guarded"]

_Error = BackendUnavailable | None


class _Local(NamedTuple):
    """A receipt of the fallback."""

    receipt: Any


class _Guard:
    """A backend, and what to do without it.

    instead: "raise", "allow", "deny", or the backend to ask meanwhile, for a share of each limit.
    """

    def __init__(self, backend: Any, instead: Any, share: Share) -> None:
        self._backend = backend
        self._instead = instead
        self._share = share
        self._outages: dict[str, Outage] = {}

    def _outage(self, part: str) -> Outage:
        outage = self._outages.get(part)
        if outage is None:
            outage = self._outages.setdefault(part, Outage())
        return outage

    def _trying(
        self, part: str, call: Callable[[], Any], without: Callable[[Outage, _Error], Script[Any]]
    ) -> Script[Any]:
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

    def part_of(self, charges: Sequence[Charge]) -> str:
        """See `Backend.part_of`."""
        found: str = self._backend.part_of(charges)
        return found

    def present(self) -> int:
        """See `Backend.present`."""
        time: int = self._backend.present()
        return time

    def _applying(self, charges: Sequence[Charge], intent: Intent) -> Script[Verdict]:
        return self._trying(
            self._backend.part_of(charges),
            partial(self._backend.apply, charges, intent),
            partial(self._without, charges, intent),
        )

    def _applying_many(self, messages: Sequence[Message]) -> Script[list[Verdict]]:
        def without(outage: Outage, error: _Error) -> Script[list[Verdict]]:
            verdicts = []
            for charges, intent in messages:
                verdicts.append((yield from self._without(charges, intent, outage, error)))
            return verdicts

        return self._trying("", partial(self._backend.apply_many, messages), without)

    def _without(
        self, charges: Sequence[Charge], intent: Intent, outage: Outage, error: _Error
    ) -> Script[Verdict]:
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

    def _taking_out(self, receipt: Any) -> Script[None]:
        def without(outage: Outage, error: _Error) -> Script[None]:
            if self._instead == "raise":
                raise error or outage.error()
            warn("a refund is lost, because the backend is away: its message stays counted")
            yield from ()

        if isinstance(receipt, _Local):
            yield partial(self._instead.take_out, receipt.receipt)
        else:
            yield from self._trying("", partial(self._backend.take_out, receipt), without)

    def _asking(self, ledger: Ledger, subject: str, call: Callable[[], Any]) -> Script[Any]:
        """The result of `call`, which only the backend can give."""

        def without(outage: Outage, error: _Error) -> Script[Any]:
            yield from ()
            raise error or outage.error()

        return self._trying(self.part_of([(ledger, subject, (0, 0, 0, 0))]), call, without)


class Guarded(_Guard):
    """A Backend that answers also while the one in it is away."""

    _backend: Backend

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        outage = self._outage(self._backend.part_of(charges))
        if outage.is_over:  # the short way
            try:
                return self._backend.apply(charges, intent)
            except BackendUnavailable as error:
                outage.failed(error, tried=False)
                return run(self._without(charges, intent, outage, error))
        return run(self._applying(charges, intent))

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return run(self._applying_many(messages))

    def take_out(self, receipt: Any) -> None:
        """See `Backend.take_out`."""
        run(self._taking_out(receipt))

    def read(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.read`."""
        call = partial(self._backend.read, ledger, subject)
        return run(self._asking(ledger, subject, call))

    def forget(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.forget`."""
        if ledgers:
            call = partial(self._backend.forget, ledgers, subject)
            run(self._asking(ledgers[0], subject, call))


class AsyncGuarded(_Guard):
    """The same, to be awaited."""

    _backend: AsyncBackend

    async def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """See `Backend.apply`."""
        return await run_async(self._applying(charges, intent))

    async def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """See `Backend.apply_many`."""
        return await run_async(self._applying_many(messages))

    async def take_out(self, receipt: Any) -> None:
        """See `Backend.take_out`."""
        await run_async(self._taking_out(receipt))

    async def read(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """See `Backend.read`."""
        call = partial(self._backend.read, ledger, subject)
        return await run_async(self._asking(ledger, subject, call))

    async def forget(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """See `Backend.forget`."""
        if ledgers:
            call = partial(self._backend.forget, ledgers, subject)
            await run_async(self._asking(ledgers[0], subject, call))
