"""Limiter: a policy and a backend, and what one asks of them."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

import attrs

from ratelimit_mail._util.steps import run
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.outage.fallback import FallbackBackend
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.decision import Decision, Usage
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter.decorator import Errors, LimitedCall, OnDenied, is_async
from ratelimit_mail.limiter.operations import Operations, milliseconds
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limiter.wait_queue import Waiter
from ratelimit_mail.policy import Policy

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener

__all__ = ["Limiter", "Reservation"]

P = ParamSpec("P")
R = TypeVar("R")


@attrs.frozen
class Reservation:
    """A booked place in the future: the message may go at its time, and is counted there.

    at: the backend's time, in milliseconds since the epoch. delay: seconds until then,
    counted from the booking; 0.0 for at once. decision: what a refund takes.
    """

    at: int
    delay: float
    decision: Decision
    _limiter: Limiter = attrs.field(repr=False, eq=False)

    def cancel(self) -> None:
        """Give the place back. Raises ValueError the second time."""
        self._limiter.refund(self.decision)


def _check_backend(name: str, backend: object) -> None:
    apply = getattr(backend, "apply", None)
    if isinstance(backend, type) or not callable(apply):
        words = "" if name == "backend" else "none of 'raise', 'allow' and 'deny', and "
        raise TypeError(f"{name}: {show(backend)} is {words}no backend such as MemoryBackend()")
    if inspect.iscoroutinefunction(apply):
        raise TypeError(f"{name}: {show(backend)} must be awaited: use AsyncLimiter with it")


class Limiter(Operations):
    """Decides by `policy` whether a message may go, and counts it in `backend`.

    backend: where counts live; left out: in memory, for this limiter alone.
    on_backend_error: what becomes of a message while the backend is away: `"raise"`
        BackendUnavailable, `"allow"` it, `"deny"` it for now, or the backend to count in meanwhile,
        such as `MemoryBackend()`. A decision made so is `degraded`.
    fallback_share: how much of each limit such a backend may give away: 1/8 where eight processes
        share the limits, so that all of them together stay within.
    remember: for how many seconds the answer to an envelope with an `id` is remembered.
    node: the server that counts, for a policy by which each does on its own; left out: the
        host's name.
    on_event: whom to tell of a first denial, of a limit nearly reached and the like: a callable,
        several, or an `events.Dispatcher` of them. It is called on a thread of its own; what it
        raises is logged.
    sleep: how `acquire` waits for a number of seconds; for tests.

    Safe for threads.
    """

    _backend: Backend

    def __init__(
        self,
        policy: Policy,
        backend: Backend | None = None,
        *,
        on_backend_error: Literal["raise", "allow", "deny"] | Backend = "raise",
        fallback_share: float = 1.0,
        remember: float = 3600.0,
        node: str | None = None,
        on_event: Listener | Sequence[Listener] | Dispatcher | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(policy, remember, node, on_event)
        if backend is None:
            backend = MemoryBackend()
        share = FallbackShare(fallback_share)
        _check_backend("backend", backend)
        if on_backend_error not in ("raise", "allow", "deny"):
            _check_backend("on_backend_error", on_backend_error)
        if is_async(sleep):
            raise TypeError(f"sleep: {show(sleep)} is async; a Limiter does not await it")
        self._backend = backend
        if not isinstance(backend, MemoryBackend):  # which is never away
            self._backend = FallbackBackend(backend, on_backend_error, share)
        self._plan = self.policy.planner(backend.now)
        self._sleep = sleep
        self._fast = self._fast_path(backend)
        self._book = self._backend.apply

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.policy.name!r}>"

    def check(self, envelope: Envelope) -> Decision:
        """Whether `envelope` could go now; charges nothing, not even a refused attempt."""
        return run(self._check_steps(envelope))

    def try_acquire(self, envelope: Envelope) -> Decision:
        """Charge `envelope` if it may go now; never waits."""
        if self._fast is not None and (decision := self._fast(envelope)) is not None:
            return decision
        if not self._is_plain:
            return run(self._try_acquire_steps(envelope))
        plan = self._plan(envelope)
        if not plan.charges:
            return decide(plan, None, self)
        intent = self._intents.intent(plan, envelope)
        return decide(plan, self._backend.apply(plan.charges, intent), self)

    def try_acquire_many(self, envelopes: Iterable[Envelope]) -> list[Decision]:
        """`try_acquire` for each of several messages, in order; each has its own decision.

        Many at once are quicker than one by one where the backend is a server.
        """
        return run(self._try_acquire_many_steps(envelopes))

    def acquire(self, envelope: Envelope, timeout: float | None = None) -> Decision:
        """Charge `envelope` and wait until it may go, in turn with its sender's others.

        Raises RateLimitExceeded at once where that would take more than `timeout` seconds,
        or for ever; what is charged then is a refused attempt, where those count. A wait
        that is broken off gives its place back.
        """
        return run(self._acquire_steps(envelope, milliseconds("timeout", timeout)))

    def reserve(self, envelope: Envelope, max_delay: float | None = None) -> Reservation:
        """Book the first moment at which `envelope` fits, after its sender's other bookings.

        Raises RateLimitExceeded where that is more than `max_delay` seconds ahead, or never.
        """
        booked = run(self._reserve_steps(envelope, milliseconds("max_delay", max_delay)))
        return Reservation(booked.at, booked.delay, booked.decision, self)

    def refund(self, decision: Decision) -> None:
        """Take out what an accepted message was charged: it was not sent after all.

        Raises ValueError for a decision that did not accept, that has been refunded, or
        that another limiter made.
        """
        run(self._refund_steps(decision))

    def usage(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
        client: Client | None = None,
    ) -> tuple[Usage, ...]:
        """How much of each limit counted per `scope` a subject has used.

        subject: a sender's address, or what else `scope` counts per: a value for each part
            of it; nothing for `"global"`.
        client: who submits; it chooses the tier, and so the limits.
        """
        return run(self._usage_steps(subject, scope, client))

    def reset(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> None:
        """Forget all that was counted for a subject of `scope`, bookings included."""
        run(self._reset_steps(subject, scope))

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["wait", "raise"] = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["skip"],
        envelope: Callable[..., object] | None = None,
        refund_on: Errors = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R | Decision]]: ...

    def limited(
        self,
        *,
        on_denied: OnDenied = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors = (),
    ) -> Callable[[Callable[P, R]], Callable[P, Any]]:
        """Decorate a function that sends one message, so that it keeps to the policy.

        on_denied: a message that may not go now is sent when it may (`"wait"`, at most
            `timeout` seconds, as `acquire` does), raises RateLimitExceeded (`"raise"`), or
            is not sent, and the call returns the Decision (`"skip"`).
        envelope: called with the function's arguments, gives the Envelope or EmailMessage;
            left out: the one that is among the arguments.
        refund_on: exceptions of the function that prove that nothing was sent.

        Works on functions, methods, class and static methods and callable objects. Raises
        TypeError for an `async def`, which an AsyncLimiter decorates.
        """
        guard = LimitedCall(on_denied, timeout, envelope, refund_on)
        milliseconds("timeout", timeout)

        def decorate(function: Callable[P, R]) -> Callable[P, Any]:
            if isinstance(function, classmethod | staticmethod):
                return type(function)(decorate(function.__func__))
            if is_async(function):
                raise TypeError(f"{show(function)} is async: decorate it with an AsyncLimiter")

            @wraps(function)
            def send(*args: P.args, **kwargs: P.kwargs) -> Any:
                return run(guard.sending(self, function, args, kwargs))

            return send

        return decorate

    def _turn(self, place: Waiter, longest: float) -> None:
        first = threading.Event()
        self._wait_queue.when_first(place, first.set)
        if not first.wait(longest):
            self._wait_queue.overtake(place)
