"""AsyncLimiter: what Limiter is, for asyncio."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

import attrs

from ratelimit_mail._util.steps import run_async
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import AsyncBackend, Intent, Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.outage.fallback import AsyncFallbackBackend
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision, Usage
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter.decorator import Errors, LimitedCall, OnDenied, is_async
from ratelimit_mail.limiter.operations import Operations, milliseconds
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limiter.wait_queue import Waiter
from ratelimit_mail.policy import Policy

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener

__all__ = ["AsyncLimiter", "AsyncReservation"]

P = ParamSpec("P")
R = TypeVar("R")


@attrs.frozen
class AsyncReservation:
    """What `Reservation` is, with a `cancel` to await."""

    at: int
    delay: float
    decision: Decision
    _limiter: AsyncLimiter = attrs.field(repr=False, eq=False)

    async def cancel(self) -> None:
        """Give the place back. Raises ValueError the second time."""
        await self._limiter.refund(self.decision)


def _awaited(name: str, backend: Any) -> AsyncBackend:
    """`backend` as one to await."""
    if isinstance(backend, MemoryBackend):
        return InlineAdapter(backend)
    apply = getattr(backend, "apply", None)
    if isinstance(backend, type) or not callable(apply):
        words = "" if name == "backend" else "none of 'raise', 'allow' and 'deny', and "
        raise TypeError(f"{name}: {show(backend)} is {words}no backend such as MemoryBackend()")
    if not inspect.iscoroutinefunction(apply):
        raise TypeError(f"{name}: {show(backend)} would block the event loop: use Limiter with it")
    found: AsyncBackend = backend
    return found


class AsyncLimiter(Operations):
    """What `Limiter` is, for asyncio; safe to use from several event loops.

    backend: an AsyncBackend, or a MemoryBackend, which never waits.
    on_backend_error, fallback_share, remember, node, on_event: as in `Limiter`.
    sleep: how `acquire` waits for a number of seconds; for tests.
    """

    _backend: AsyncBackend

    def __init__(
        self,
        policy: Policy,
        backend: AsyncBackend | MemoryBackend | None = None,
        *,
        on_backend_error: (
            Literal["raise", "allow", "deny"] | AsyncBackend | MemoryBackend
        ) = "raise",
        fallback_share: float = 1.0,
        remember: float = 3600.0,
        node: str | None = None,
        on_event: Listener | Sequence[Listener] | Dispatcher | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        import asyncio  # takes a third of this package's time to import, and not all need it

        super().__init__(policy, remember, node, on_event)
        share = FallbackShare(fallback_share)
        if backend is None:
            backend = MemoryBackend()
        instead: Any = on_backend_error
        if instead not in ("raise", "allow", "deny"):
            instead = _awaited("on_backend_error", instead)
        if sleep is not None and not is_async(sleep):
            raise TypeError(f"sleep: {show(sleep)} is no async function, so it cannot be awaited")
        self._backend = _awaited("backend", backend)
        if not isinstance(self._backend, InlineAdapter):  # which is never away
            self._backend = AsyncFallbackBackend(self._backend, instead, share)
        self._fast = self._fast_path(backend)
        self._plan = self.policy.planner(self._backend.now)
        self._sleep = sleep or asyncio.sleep

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.policy.name!r}>"

    async def check(self, envelope: Envelope) -> Decision:
        """See `Limiter.check`."""
        return await run_async(self._check_steps(envelope))

    async def try_acquire(self, envelope: Envelope) -> Decision:
        """See `Limiter.try_acquire`."""
        if self._fast is not None and (decision := self._fast(envelope)) is not None:
            return decision
        if not self._is_plain:
            return await run_async(self._try_acquire_steps(envelope))
        plan = self._plan(envelope)
        if not plan.charges:
            return decide(plan, None, self)
        intent = self._intents.intent(plan, envelope)
        return decide(plan, await self._backend.apply(plan.charges, intent), self)

    async def try_acquire_many(self, envelopes: Iterable[Envelope]) -> list[Decision]:
        """See `Limiter.try_acquire_many`."""
        return await run_async(self._try_acquire_many_steps(envelopes))

    async def acquire(self, envelope: Envelope, timeout: float | None = None) -> Decision:
        """See `Limiter.acquire`; a cancelled wait gives its place back."""
        return await run_async(self._acquire_steps(envelope, milliseconds("timeout", timeout)))

    async def reserve(self, envelope: Envelope, max_delay: float | None = None) -> AsyncReservation:
        """See `Limiter.reserve`."""
        booked = await run_async(
            self._reserve_steps(envelope, milliseconds("max_delay", max_delay))
        )
        return AsyncReservation(booked.at, booked.delay, booked.decision, self)

    async def refund(self, decision: Decision) -> None:
        """See `Limiter.refund`."""
        await run_async(self._refund_steps(decision))

    async def usage(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
        client: Client | None = None,
    ) -> tuple[Usage, ...]:
        """See `Limiter.usage`."""
        return await run_async(self._usage_steps(subject, scope, client))

    async def reset(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> None:
        """See `Limiter.reset`."""
        await run_async(self._reset_steps(subject, scope))

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["wait", "raise"] = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors = (),
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["skip"],
        envelope: Callable[..., object] | None = None,
        refund_on: Errors = (),
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R | Decision]]]: ...

    def limited(
        self,
        *,
        on_denied: OnDenied = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors = (),
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, Any]]]:
        """See `Limiter.limited`; decorates an `async def`, and raises TypeError for any other."""
        guard = LimitedCall(on_denied, timeout, envelope, refund_on)
        milliseconds("timeout", timeout)

        def decorate(
            function: Callable[P, Awaitable[R]],
        ) -> Callable[P, Coroutine[Any, Any, Any]]:
            if isinstance(function, classmethod | staticmethod):
                return type(function)(decorate(function.__func__))
            if not is_async(function):
                raise TypeError(f"{show(function)} is not async: decorate it with a Limiter")

            @wraps(function)
            async def send(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await run_async(guard.sending(self, function, args, kwargs))

            return send

        return decorate

    async def _book(self, charges: Sequence[Charge], intent: Intent) -> Verdict:
        if isinstance(self._backend, InlineAdapter):
            return await self._backend.apply(charges, intent)
        import asyncio

        booking = asyncio.ensure_future(self._backend.apply(charges, intent))
        try:
            return await asyncio.shield(booking)
        except asyncio.CancelledError:  # while the answer is on its way
            verdict = await booking
            if verdict.receipt is not None:
                await self._backend.refund(verdict.receipt)
            raise

    async def _turn(self, place: Waiter, longest: float) -> None:
        import asyncio

        first = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Who leaves the line may do so in another thread, with an event loop of its own.
        self._wait_queue.when_first(place, partial(loop.call_soon_threadsafe, first.set))
        try:
            await asyncio.wait_for(first.wait(), longest)
        except TimeoutError:
            self._wait_queue.overtake(place)
