"""Limiter: decides whether messages may go, and counts them; safe for threads."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from ratelimit_mail._util.steps import Steps, run
from ratelimit_mail._util.text import show
from ratelimit_mail._util.undisturbed import INTERRUPTIONS, call_elsewhere, undisturbed
from ratelimit_mail.backends.base import CHECK, Backend, Intent, Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.outage.fallback_share import FallbackShare
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter.arguments import Errors, OnDenied, exception_classes, is_async
from ratelimit_mail.limiter.operations import Operations, milliseconds
from ratelimit_mail.limiter.sending import Sending, recipient_set
from ratelimit_mail.limiter.shadow import answer_to_check
from ratelimit_mail.limiter.wait_queue import Waiter, WaitQueue
from ratelimit_mail.policy import Policy

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener, Recorder
    from ratelimit_mail.limiter.reservations import Reservation
    from ratelimit_mail.rules import Block
    from ratelimit_mail.usage import SubjectUsage, Usage

__all__ = ["Limiter", "check_policy"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def check_policy(policy: object) -> None:
    """Raise TypeError if `policy` is not a Policy."""
    if not isinstance(policy, Policy):
        raise TypeError(f"policy: a Policy is needed, not {show(policy)}")


def _check_backend(name: str, backend: object) -> None:
    apply = getattr(backend, "apply", None)
    if isinstance(backend, type) or not callable(apply):
        words = "" if name == "backend" else "'raise', 'allow' or 'deny', nor "
        negation = "not" if name == "backend" else "neither"
        raise TypeError(
            f"{name}: {show(backend)} is {negation} {words}a backend such as MemoryBackend()"
        )
    if inspect.iscoroutinefunction(apply):
        raise TypeError(f"{name}: {show(backend)} must be awaited: use AsyncLimiter with it")


class Limiter:
    """Decides by `policy` whether a message may go, and counts it in `backend`.

    Most callers use `sending`, or decorate their send function with `limited`. Both wait; use
    `try_acquire` not to wait. A limiter is thread-safe.

    policy: the limits.
    backend: where counts are stored; by default in memory, for this limiter only.
    on_backend_error: what happens to a message while the backend is away: `"raise"`
        BackendUnavailable, `"allow"` it, `"deny"` it for now, or a backend to count in meanwhile,
        such as `MemoryBackend()`. Such a decision is `degraded`.
    fallback_share: the share of each limit that such a backend may admit: with 1/8, eight processes
        together stay within the limits.
    remember: for how many seconds the answer to an envelope with an `id` is remembered.
    node: the name of this mail server, for a policy with `per_node`; by default the host's name.
    on_event: a callable, several, or an `events.Dispatcher` of them: called on a thread of its own
        with each event, such as a first denial or a limit nearly used up. Its exceptions are
        logged.
    metrics: what measures each decision, each wait and each call of the backend, such as
        `monitoring.PrometheusMetrics`.
    sleep: how `acquire` waits for a number of seconds; for tests.
    """

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
        metrics: Recorder | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        check_policy(policy)
        if backend is None:
            backend = MemoryBackend()
        share = FallbackShare(fallback_share)
        _check_backend("backend", backend)
        if on_backend_error not in ("raise", "allow", "deny"):
            _check_backend("on_backend_error", on_backend_error)
        if not callable(sleep):
            raise TypeError(f"sleep: {show(sleep)} is not a function")
        if is_async(sleep):
            raise TypeError(f"sleep: {show(sleep)} is async; a Limiter does not await it")
        self._backend = backend
        apply_booking: Callable[[Sequence[Charge], Intent], Verdict] = backend.apply
        finish: Callable[..., Any] = _finish_at_once
        if not isinstance(backend, MemoryBackend):  # which is never away, and never waits
            # Imported here, because memory needs neither.
            from ratelimit_mail.backends.measured import measured
            from ratelimit_mail.backends.outage.fallback import FallbackBackend

            called = backend if metrics is None else measured(backend, metrics.called)
            self._backend = FallbackBackend(called, on_backend_error, share)
            apply_booking = partial(_apply_booking, self._backend)
            finish = _finish
        self._operations = Operations(
            policy,
            self._backend,
            backend,
            sleep=sleep,
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
        """Whether the counts are in the memory of this program, and lost when it ends."""
        return self._operations.counts_in_memory

    def check(self, envelope: Envelope) -> Decision:
        """Return whether `envelope` could go now; charge nothing, not even a refused attempt."""
        operations = self._operations
        answer = operations.check_without_steps(envelope)
        if answer is None:
            return run(operations.check_steps(envelope))
        if isinstance(answer, Decision):
            return answer
        return answer_to_check(answer, self._backend.apply(answer.charges, CHECK))

    def try_acquire(self, envelope: Envelope) -> Decision:
        """Charge `envelope` if it may go now; never wait."""
        # 1. In memory, most messages are decided on by the fast path.
        fast_path = self._fast_path
        if fast_path is not None and (decision := fast_path(envelope)) is not None:
            return decision
        operations = self._operations
        # 2. Shadow limits, events and partial answers need more than one call of the backend.
        if not operations.is_plain or operations.blocks.concern(envelope):
            return run(operations.try_acquire_steps(envelope))
        # 3. Otherwise: charges, the backend's verdict on them in one step, the decision.
        plan = operations.plan(envelope)
        if not plan.charges:
            return operations.decide(plan, None, envelope)
        verdict = self._backend.apply(plan.charges, operations.intent(plan, envelope))
        return operations.decide(plan, verdict, envelope)

    def try_acquire_many(self, envelopes: Iterable[Envelope]) -> list[Decision]:
        """Call `try_acquire` for each of several messages, in order, and return the decisions.

        envelopes: the messages.

        With a server as the backend, one call is faster than many.
        """
        return run(self._operations.try_acquire_many_steps(envelopes))

    def acquire(self, envelope: Envelope, timeout: float | None = None) -> Decision:
        """Charge `envelope` and wait until it may go, after its sender's earlier bookings.

        timeout: the most seconds to wait; None for any time.

        Raises RateLimitExceeded at once if the wait would be longer, or if the message can never
        go; then nothing is charged, except to limits that count refused attempts. A wait that is
        interrupted cancels its booking.
        """
        longest = milliseconds("timeout", timeout)
        paths = self._operations.fast_paths
        if paths is not None and (decision := paths.acquire(envelope)) is not None:
            return decision
        return run(self._operations.acquire_steps(envelope, longest))

    def reserve(self, envelope: Envelope, max_delay: float | None = None) -> Reservation:
        """Book the first moment at which `envelope` fits, after its sender's other bookings.

        max_delay: the most seconds that this moment may be ahead; None for any time.

        Raises RateLimitExceeded if it is further ahead, or if the message can never go. Most
        callers want `acquire`, which also waits.
        """
        booking = run(
            self._operations.reserve_steps(envelope, milliseconds("max_delay", max_delay))
        )
        from ratelimit_mail.limiter.reservations import Reservation  # few programs book

        return Reservation(booking.at, booking.delay, booking.decision, self._operations, booking)

    def refund(self, decision: Decision | Envelope) -> None:
        """Take back the charge of an accepted message that was not sent after all.

        decision: the decision that accepted the message; or its Envelope, if it has an `id`, in any
            process that shares the backend.

        Raises ValueError for a decision that did not accept, that has been refunded, or that is
        from another limiter, and for an envelope whose id is not remembered.
        """
        if isinstance(decision, Envelope):
            run(self._operations.refund_envelope_steps(decision))
        else:
            run(self._operations.refund_steps(decision))

    def sending(
        self,
        envelope: Envelope,
        timeout: float | None = None,
        *,
        refund_on: Errors | None = None,
    ) -> Sending:
        """Return a context manager that waits until `envelope` may go, and settles it at the end.

            with limiter.sending(envelope, timeout=60):
                smtp.send_message(message)

        A message counts at its admission while it is being sent, and at the end of its sending
        afterwards, so that the provider never sees more than the limit if each sending takes less
        than a window. An exception that proves that nothing was sent refunds the message instead.
        After an SMTPRecipientsRefused that names some of the recipients, the others are charged.

        timeout: the most seconds to wait; None for any time.
        refund_on: exceptions that prove that nothing was sent; by default those of smtplib and
            aiosmtplib (`ratelimit_mail.smtp_errors.NOT_SENT`).

        Raises RateLimitExceeded as `acquire` does.
        """
        milliseconds_to_wait = milliseconds("timeout", timeout)
        proofs = exception_classes(refund_on)
        return Sending(self._operations, envelope, milliseconds_to_wait, proofs)

    def settle(self, decision: Decision, refused: Iterable[str] = ()) -> None:
        """Count an accepted message now, because its sending has just ended.

        For programs that cannot use `sending`. It never fails because of a limit.

        refused: the recipients that the server refused, such as the dict that
            `smtplib.SMTP.sendmail` returns: they are not charged.

        Raises ValueError for a decision that did not accept or is from another limiter.
        """
        run(self._operations.settle_steps(decision, recipient_set(refused)))

    def usage(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
        client: Client | None = None,
    ) -> tuple[Usage, ...]:
        """Return how much of each limit counted per `scope` a subject has used.

        subject: a sender's address, or another value of `scope`; with several words in `scope`, a
            list with a value for each; None for `"global"`.
        client: the client that submits; it chooses the tier, and so the limits.
        """
        return run(self._operations.usage_steps(subject, scope, client))

    def top(
        self,
        scope: str | Sequence[str] = "sender",
        n: int = 10,
        *,
        client: Client | None = None,
    ) -> tuple[SubjectUsage, ...]:
        """Return the subjects of `scope` that have used the largest shares of a limit, most first.

        n: how many, at most 10,000. Subjects that have used nothing are left out.
        client: the client that submits; it chooses the tier, and so the limits, as in `usage`.

        The call looks at every subject of the backend once, without delaying messages; a million
        subjects take seconds. Messages that are counted meanwhile may be missing. Limits that only
        report are included. Senders with overrides or exemptions are ranked by their own limits.
        """
        return run(self._operations.top_steps(scope, n, client))

    def reset(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> None:
        """Forget everything that was counted for a subject of `scope`, bookings included."""
        run(self._operations.reset_steps(subject, scope))

    def block(
        self,
        subject: str | Sequence[str] | None = None,
        seconds: float | None = None,
        reason: str | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> Block:
        """Refuse all messages of a subject from now on, in every process that shares the backend.

        subject, scope: what is blocked, named as in `usage`; a scope with recipients is not
            possible.
        seconds: how long; None: until `unblock`. reason: for people to read, in `Decision.block`.

        Messages that were accepted or booked before stay counted; waiting messages are refused
        when their time comes. Other processes obey the block within a second. Blocking a blocked
        subject replaces its block.
        """
        return run(self._operations.block_steps(subject, scope, seconds, reason))

    def unblock(
        self,
        subject: str | Sequence[str] | None = None,
        *,
        scope: str | Sequence[str] = "sender",
    ) -> bool:
        """Lift the block of a subject. Return whether there was one.

        subject, scope: what was blocked, named as in `block`.
        """
        return run(self._operations.unblock_steps(subject, scope))

    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks that are in force."""
        return run(self._operations.blocks.list_steps())

    def pushback(
        self, envelope: Envelope | str, reply: object, seconds: float = 60.0
    ) -> Block | None:
        """Block a sender for the time that its provider's reply names.

        envelope: the message that got the reply, or the sender's address.
        reply: the reply: an exception of smtplib or aiosmtplib, a pair of code and text, or a line
            such as "432 4.3.2 Concurrent connections limit exceeded".
        seconds: how long if the reply names no time.

        Return the block; an earlier block that lasts longer stays, and is returned. Return None,
        and block nothing, if the reply does not say that the sender is too fast.
        """
        return run(self._operations.pushback_steps(envelope, reply, seconds))

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["wait", "raise"] = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors | None = None,
        settle: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    @overload
    def limited(
        self,
        *,
        on_denied: Literal["skip"],
        envelope: Callable[..., object] | None = None,
        refund_on: Errors | None = None,
        settle: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R | Decision]]: ...

    def limited(
        self,
        *,
        on_denied: OnDenied = "wait",
        timeout: float | None = None,
        envelope: Callable[..., object] | None = None,
        refund_on: Errors | None = None,
        settle: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, Any]]:
        """Decorate a function that sends one message, so that it keeps to the policy.

        on_denied: a message that may not go now is sent when it may (`"wait"`, at most `timeout`
            seconds, as `acquire` does), raises RateLimitExceeded (`"raise"`), or is not sent, and
            the call returns the Decision (`"skip"`).
        envelope: a function of the same arguments that returns the Envelope or EmailMessage; by
            default, the one among the arguments is used.
        refund_on: exceptions of the function that prove that nothing was sent; by default those of
            smtplib and aiosmtplib.
        settle: whether the message counts at the end of the call, as with `sending`; with False, it
            counts at its admission. If the function returns a dict of refused recipients, as
            `smtplib.SMTP.sendmail` does, these are not charged.

        Works on functions, methods, class and static methods and callable objects. Raises
        TypeError for an `async def`: decorate it with an AsyncLimiter.
        """
        from ratelimit_mail.limiter.decorator import LimitedCall  # many programs need none

        limited_call = LimitedCall(on_denied, timeout, envelope, refund_on, settle)
        milliseconds("timeout", timeout)

        def decorate(function: Callable[P, R]) -> Callable[P, Any]:
            if isinstance(function, classmethod | staticmethod):
                return type(function)(decorate(function.__func__))
            if is_async(function):
                raise TypeError(f"{show(function)} is async: decorate it with an AsyncLimiter")

            @wraps(function)
            def send(*args: P.args, **kwargs: P.kwargs) -> Any:
                return run(limited_call.call_steps(self, self._operations, function, args, kwargs))

            return send

        return decorate


def _finish_at_once(steps: Steps[T], _: BaseException | None = None) -> T:
    return run(steps)


def _finish(steps: Steps[T], error: BaseException | None = None) -> T:
    """Return what `steps` return; after `error` no signal handler interrupts them any more."""
    if error is None or isinstance(error, RateLimitExceeded | BackendError):
        return run(steps)
    return undisturbed(partial(run, steps))


def _finish_closed(steps: Steps[None]) -> None:
    """Run `steps`, whose caller was broken off, to their end in another thread."""
    call_elsewhere(partial(run, steps))


def _apply_booking(backend: Backend, charges: Sequence[Charge], intent: Intent) -> Verdict:
    """Apply a booking; if a signal handler raises while the answer is on its way, refund it."""
    verdict, interruptions = INTERRUPTIONS.during(partial(backend.apply, charges, intent))
    if interruptions:
        if verdict.receipt is not None:
            with suppress(BackendError, TimeoutError):
                undisturbed(partial(backend.refund, verdict.receipt), interruptions=interruptions)
        raise interruptions[0]
    return verdict


def _wait_until_first(queue: WaitQueue, waiter: Waiter, longest: float) -> None:
    first = threading.Event()
    queue.when_first(waiter, first.set)
    if not first.wait(longest):
        queue.overtake(waiter)
