"""Limiter: a policy and a backend, and what one asks of them."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar, overload

import attrs

from ratelimit_mail.addresses import show
from ratelimit_mail.backends.base import LOOK, REFUSE, TAKE, Backend
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.decision import Decision, Usage
from ratelimit_mail.decorating import Errors, Guard, OnDenied, is_async
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.policy import Policy
from ratelimit_mail.scripts import run
from ratelimit_mail.verbs import Verbs, milliseconds
from ratelimit_mail.waiting import Place

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


class Limiter(Verbs):
    """Decides by `policy` whether a message may go, and counts it in `backend`.

    backend: where counts live; left out: in memory, for this limiter alone.
    sleep: how `acquire` waits for a number of seconds; for tests.

    Safe for threads.
    """

    _backend: Backend

    def __init__(
        self,
        policy: Policy,
        backend: Backend | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(policy)
        if backend is None:
            backend = MemoryBackend()
        if isinstance(backend, type) or not callable(getattr(backend, "apply", None)):
            raise TypeError(f"backend: {show(backend)} is no backend such as MemoryBackend()")
        if inspect.iscoroutinefunction(backend.apply):
            raise TypeError(f"{show(backend)} must be awaited: use AsyncLimiter with it")
        if is_async(sleep):
            raise TypeError(f"sleep: {show(sleep)} is async; a Limiter does not await it")
        self._backend = backend
        self._sleep = sleep

    def check(self, envelope: Envelope) -> Decision:
        """Whether `envelope` could go now; charges nothing, not even a refused attempt."""
        plan = self._plan(envelope)
        asked = plan.charges and plan.never is None
        verdict = self._backend.apply(plan.charges, LOOK) if asked else None
        return attrs.evolve(self._decide(plan, verdict), claim=None)

    def try_acquire(self, envelope: Envelope) -> Decision:
        """Charge `envelope` if it may go now; never waits."""
        plan = self._plan(envelope)
        if not plan.charges:
            return self._decide(plan, None)
        intent = TAKE if plan.never is None else REFUSE
        return self._decide(plan, self._backend.apply(plan.charges, intent))

    def acquire(self, envelope: Envelope, timeout: float | None = None) -> Decision:
        """Charge `envelope` and wait until it may go, in turn with its sender's others.

        Raises RateLimitExceeded at once where that would take more than `timeout` seconds,
        or for ever; what is charged then is a refused attempt, where those count. A wait
        that is broken off gives its place back.
        """
        return run(self._acquiring(envelope, milliseconds("timeout", timeout)))

    def reserve(self, envelope: Envelope, max_delay: float | None = None) -> Reservation:
        """Book the first moment at which `envelope` fits, after its sender's other bookings.

        Raises RateLimitExceeded where that is more than `max_delay` seconds ahead, or never.
        """
        booked = run(self._reserving(envelope, milliseconds("max_delay", max_delay)))
        return Reservation(booked.at, booked.delay, booked.decision, self)

    def refund(self, decision: Decision) -> None:
        """Take out what an accepted message was charged: it was not sent after all.

        Raises ValueError for a decision that did not accept, that has been refunded, or
        that another limiter made.
        """
        run(self._refunding(decision))

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
        return run(self._using(subject, scope, client))

    def reset(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> None:
        """Forget all that was counted for a subject of `scope`, bookings included."""
        run(self._resetting(subject, scope))

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
        guard = Guard(on_denied, timeout, envelope, refund_on)
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

    def _turn(self, place: Place, longest: float) -> None:
        first = threading.Event()
        self._line.when_first(place, first.set)
        if not first.wait(longest):
            self._line.overtake(place)
