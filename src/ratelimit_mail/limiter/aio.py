"""AsyncLimiter: what Limiter is, for asyncio."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail._util.steps import Steps, run_async, shielded
from ratelimit_mail._util.text import show
from ratelimit_mail._util.undisturbed import LONGEST_CALL, call_elsewhere
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.backends.base import CHECK, AsyncBackend, Intent, Verdict
from ratelimit_mail.backends.measured import measured_async
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter.arguments import Errors, OnDenied, exception_classes, is_async
from ratelimit_mail.limiter.operations import Operations, milliseconds
from ratelimit_mail.limiter.sending import AsyncSending, recipient_set
from ratelimit_mail.limiter.shadow import answer_to_check
from ratelimit_mail.limiter.sync import Limiter, check_policy
from ratelimit_mail.limiter.wait_queue import Waiter, WaitQueue
from ratelimit_mail.policy import Policy

if TYPE_CHECKING:
    import asyncio

    from ratelimit_mail.events import Dispatcher, Listener, Recorder
    from ratelimit_mail.limiter.reservations import AsyncReservation
    from ratelimit_mail.rules import Block
    from ratelimit_mail.usage import SubjectUsage, Usage

__all__ = ["AsyncLimiter"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _async_backend(name: str, backend: Any) -> AsyncBackend:
    """Return `backend` as an async one. Raises TypeError if it would block the event loop."""
    if isinstance(backend, MemoryBackend):
        return InlineAdapter(backend)
    apply = getattr(backend, "apply", None)
    if isinstance(backend, type) or not callable(apply):
        words = "" if name == "backend" else "'raise', 'allow' or 'deny', nor "
        negation = "not" if name == "backend" else "neither"
        raise TypeError(
            f"{name}: {show(backend)} is {negation} {words}a backend such as MemoryBackend()"
        )
    if not inspect.iscoroutinefunction(apply):
        raise TypeError(f"{name}: {show(backend)} would block the event loop: use Limiter with it")
    async_backend: AsyncBackend = backend
    return async_backend


@with_methods_of(Limiter)
class AsyncLimiter:
    """Decides as `Limiter` does, with coroutines; safe to use from several event loops.

    policy: the limits.
    backend: an AsyncBackend, or a MemoryBackend, which never waits.
    on_backend_error, fallback_share, remember, node, on_event, metrics: as in `Limiter`.
    sleep: a coroutine function by which `acquire` waits for a number of seconds; for tests.
    """

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
        metrics: Recorder | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        import asyncio  # takes a third of this package's time to import, and not all need it

        check_policy(policy)
        share = FallbackShare(fallback_share)
        if backend is None:
            backend = MemoryBackend()
        fallback: Any = on_backend_error
        if fallback not in ("raise", "allow", "deny"):
            fallback = _async_backend("on_backend_error", fallback)
        if sleep is not None and not (callable(sleep) and is_async(sleep)):
            raise TypeError(f"sleep: {show(sleep)} is not an async function")
        self._backend = _async_backend("backend", backend)
        apply_booking: Callable[[Sequence[Charge], Intent], Awaitable[Verdict]]
        finish: Callable[..., Awaitable[Any]] = _finish
        if isinstance(self._backend, InlineAdapter):  # is never away, and never waits
            apply_booking = self._backend.apply
            finish = _finish_at_once
        else:
            # As in Limiter: memory needs none.
            from ratelimit_mail.backends.outage.fallback import AsyncFallbackBackend

            if metrics is not None:
                self._backend = measured_async(self._backend, metrics.called)
            self._backend = AsyncFallbackBackend(self._backend, fallback, share)
            apply_booking = partial(_apply_booking, self._backend)
        self._operations = Operations(
            policy,
            self._backend,
            backend,
            sleep=sleep or asyncio.sleep,
            wait_until_first=_wait_until_first,
            apply_booking=apply_booking,
            finish=finish,
            finish_closed=_finish_closed,
            remember=remember,
            node=node,
            on_event=on_event,
            metrics=metrics,
        )
        paths = self._operations.fast_paths
        self._fast_path = None if paths is None else paths.try_acquire

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.policy.name!r}>"

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._operations.policy

    @property
    def counts_in_memory(self) -> bool:
        """Whether it counts in the memory of this program, and forgets when the program ends."""
        return self._operations.counts_in_memory

    async def check(self, envelope: Envelope) -> Decision:
        """See `Limiter.check`."""
        operations = self._operations
        answer = operations.check_without_steps(envelope)
        if answer is None:
            return await run_async(operations.check_steps(envelope))
        if isinstance(answer, Decision):
            return answer
        return answer_to_check(answer, await self._backend.apply(answer.charges, CHECK))

    async def try_acquire(self, envelope: Envelope) -> Decision:
        """See `Limiter.try_acquire`."""
        # The same three stages as there.
        if self._fast_path is not None and (decision := self._fast_path(envelope)) is not None:
            return decision
        operations = self._operations
        if not operations.is_plain or operations.blocks.concern(envelope):
            return await run_async(operations.try_acquire_steps(envelope))
        plan = operations.plan(envelope)
        if not plan.charges:
            return operations.decide(plan, None, envelope)
        verdict = await self._backend.apply(plan.charges, operations.intent(plan, envelope))
        return operations.decide(plan, verdict, envelope)

    async def try_acquire_many(self, envelopes: Iterable[Envelope]) -> list[Decision]:
        """See `Limiter.try_acquire_many`."""
        return await run_async(self._operations.try_acquire_many_steps(envelopes))

    async def acquire(self, envelope: Envelope, timeout: float | None = None) -> Decision:
        """See `Limiter.acquire`; a cancelled wait gives its booking back."""
        longest = milliseconds("timeout", timeout)
        paths = self._operations.fast_paths
        if paths is not None and (decision := paths.acquire(envelope)) is not None:
            return decision
        return await run_async(self._operations.acquire_steps(envelope, longest))

    async def reserve(self, envelope: Envelope, max_delay: float | None = None) -> AsyncReservation:
        """See `Limiter.reserve`."""
        booking = await run_async(
            self._operations.reserve_steps(envelope, milliseconds("max_delay", max_delay))
        )
        from ratelimit_mail.limiter.reservations import AsyncReservation

        return AsyncReservation(
            booking.at, booking.delay, booking.decision, self._operations, booking
        )

    async def refund(self, decision: Decision | Envelope) -> None:
        """See `Limiter.refund`."""
        if isinstance(decision, Envelope):
            await run_async(self._operations.refund_envelope_steps(decision))
        else:
            await run_async(self._operations.refund_steps(decision))

    def sending(
        self,
        envelope: Envelope,
        timeout: float | None = None,
        *,
        refund_on: Errors | None = None,
    ) -> AsyncSending:
        """See `Limiter.sending`; an async context manager.

        async with limiter.sending(envelope, timeout=60):
            await smtp.send_message(message)
        """
        milliseconds_to_wait = milliseconds("timeout", timeout)
        proofs = exception_classes(refund_on)
        return AsyncSending(self._operations, envelope, milliseconds_to_wait, proofs)

    async def settle(self, decision: Decision, refused: Iterable[str] = ()) -> None:
        """See `Limiter.settle`."""
        steps = self._operations.settle_steps(decision, recipient_set(refused))
        await self._operations.finish(steps)

    async def usage(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
        client: Client | None = None,
    ) -> tuple[Usage, ...]:
        """See `Limiter.usage`."""
        return await run_async(self._operations.usage_steps(subject, scope, client))

    async def top(
        self,
        scope: str | Sequence[str] = "sender",
        n: int = 10,
        *,
        client: Client | None = None,
    ) -> tuple[SubjectUsage, ...]:
        """See `Limiter.top`."""
        return await run_async(self._operations.top_steps(scope, n, client))

    async def reset(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> None:
        """See `Limiter.reset`."""
        await run_async(self._operations.reset_steps(subject, scope))

    async def block(
        self,
        subject: str | Sequence[str] | None = None,
        seconds: float | None = None,
        reason: str | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> Block:
        """See `Limiter.block`."""
        return await run_async(self._operations.block_steps(subject, scope, seconds, reason))

    async def unblock(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> bool:
        """See `Limiter.unblock`."""
        return await run_async(self._operations.unblock_steps(subject, scope))

    async def blocks(self) -> tuple[Block, ...]:
        """See `Limiter.blocks`."""
        return await run_async(self._operations.blocks.list_steps())

    async def pushback(
        self, envelope: Envelope | str, reply: object, seconds: float = 60.0
    ) -> Block | None:
        """See `Limiter.pushback`."""
        return await run_async(self._operations.pushback_steps(envelope, reply, seconds))

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["wait", "raise"] = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors | None = None,
        settle: bool = True,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]: ...

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["skip"],
        envelope: Callable[..., object] | None = None,
        refund_on: Errors | None = None,
        settle: bool = True,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R | Decision]]]: ...

    def limited(
        self,
        *,
        on_denied: OnDenied = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors | None = None,
        settle: bool = True,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, Any]]]:
        """See `Limiter.limited`; decorates an `async def`, and raises TypeError for any other."""
        from ratelimit_mail.limiter.decorator import LimitedCall  # many programs need none

        limited_call = LimitedCall(on_denied, timeout, envelope, refund_on, settle)
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
                return await run_async(
                    limited_call.call_steps(self, self._operations, function, args, kwargs)
                )

            return send

        return decorate


async def _finish_at_once(steps: Steps[T], _: BaseException | None = None) -> T:
    return await run_async(steps)


async def _finish(steps: Steps[T], _: BaseException | None = None) -> T:
    """Return what `steps` return; they go on to their end however often this task is cancelled."""
    return await shielded(run_async(steps))


def _finish_closed(steps: Steps[None]) -> None:
    """Run `steps`, whose event loop is closed, to their end in an event loop of another thread."""
    import asyncio

    async def finish() -> None:
        async with asyncio.timeout(LONGEST_CALL):
            await run_async(steps)

    call_elsewhere(lambda: asyncio.run(finish()))


async def _apply_booking(
    backend: AsyncBackend, charges: Sequence[Charge], intent: Intent
) -> Verdict:
    """Apply a booking; if its task is cancelled while the answer is on its way, refund it."""
    import asyncio

    booking = asyncio.ensure_future(backend.apply(charges, intent))
    try:
        return await asyncio.shield(booking)
    except asyncio.CancelledError:
        await shielded(_refund_when_booked(booking, backend))
        raise


async def _refund_when_booked(booking: asyncio.Future[Verdict], backend: AsyncBackend) -> None:
    verdict = await booking
    if verdict.receipt is not None:
        await backend.refund(verdict.receipt)


async def _wait_until_first(queue: WaitQueue, waiter: Waiter, longest: float) -> None:
    import asyncio

    first = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A waiter may leave in another thread, with an event loop of its own.
    queue.when_first(waiter, partial(loop.call_soon_threadsafe, first.set))
    try:
        await asyncio.wait_for(first.wait(), longest)
    except TimeoutError:
        queue.overtake(waiter)
