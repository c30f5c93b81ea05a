"""limited_task: a Celery task that sends one message, under the limits of a policy.

How one message goes. The first execution of its task books a place with the task's id. If the place
is later, the task is published again for that time, so no worker waits for a limit. The second
execution finds the booking by the id, redeems it, and calls the task's function. Then the message
is settled or refunded, as an SMTP library's errors say.

Celery may run a task more often than that: a message is delivered again if a worker dies, or if it
waits for longer than the broker's visibility timeout. So each attempt has marks in the limiter's
backend:

- running, for `sending_timeout` seconds: exactly one execution sets it, and calls the function.
- begun: the function was called.
- over: the function has returned, or has asked Celery to retry. An execution that finds this mark
  does nothing.

An attempt that is delivered again, has begun, is not running any more and is not over ended while
it was sending: it is not known whether the message was sent. `on_uncertain` says what happens then.

Messages of one sender go one after the other, in the order in which a process has published them. A
message whose previous one is not over is parked in the backend; the execution that ends the
previous one books a place for it and publishes it. So a worker that dies delays a sender's messages
and does not change their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, ParamSpec, TypeVar
from weakref import WeakSet

import attrs
from celery import Celery, Signature, Task, shared_task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils import uuid

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import run
from ratelimit_mail._util.text import show
from ratelimit_mail.adapters.celery.attempts import Attempt
from ratelimit_mail.adapters.celery.options import TaskOptions
from ratelimit_mail.adapters.celery.parked import ParkedMessages
from ratelimit_mail.adapters.celery.places import HEADER, publisher_of
from ratelimit_mail.adapters.options import PUSHBACK, log_outage
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import (
    BackendError,
    BackendUnavailable,
    ConnectionPoolFull,
    RateLimitExceeded,
    RateLimitMailError,
)
from ratelimit_mail.limiter import Limiter, Reservation
from ratelimit_mail.limiter.arguments import Errors
from ratelimit_mail.limiter.decorator import envelope_of
from ratelimit_mail.limiter.sending import finish_steps

if TYPE_CHECKING:
    from celery.app.task import Context

    _Task = Task[..., Any]
else:
    _Task = Task

__all__ = ["SendingUncertain", "limited_task"]

P = ParamSpec("P")
R = TypeVar("R")

SHORT_WAIT: Final = 0.5
"""Seconds: the longest that a worker waits, because another execution would cost more."""

OUTAGE_DELAY: Final = 10.0
"""Seconds until the next execution while the backend of the limiter is away."""

DEFAULT_VISIBILITY_TIMEOUT: Final = 1800.0
"""Seconds for which a broker lets a worker hold a message: RabbitMQ's consumer timeout and SQS's
visibility timeout are 30 minutes in Celery's defaults, that of Redis is an hour."""


class SendingUncertain(RateLimitMailError):
    """An execution of a task ended while it was sending: the message was sent, or it was not.

    It is not sent again. A task with `on_uncertain="resend"` sends it again instead.

    task_id: the id of the task.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return (
            f"task {show(self.task_id)} ended while it was sending, and its result is lost: it is"
            " not known whether its message was sent, so it is not sent again"
        )


_WARNED: WeakSet[Limiter] = WeakSet()


def _warn_of_memory(limiter: Limiter) -> None:
    """Log once that the worker processes do not share the counts of a limiter."""
    if limiter.counts_in_memory and limiter not in _WARNED:
        _WARNED.add(limiter)
        log_warning(
            "the limiter counts in the memory of each worker process: several send too much, and"
            " messages that wait are lost with the process; use a backend that they share, such as"
            " RedisBackend or, on one host, SQLiteBackend"
        )


def _wait_until(condition: Callable[[], bool], longest: float) -> bool:
    """Wait until a condition is true, for so many seconds at most; return whether it is."""
    pause, end = 0.005, time.monotonic() + longest
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


class _LimitedTask(_Task):
    """The methods of a limited task; `limited_task` makes a subclass with its options."""

    abstract = True
    _limits: TaskOptions

    def __init__(self) -> None:
        function = self.run
        self._function = function

        @wraps(function)
        def run_limited(*args: Any, **kwargs: Any) -> Any:
            request = self.request
            if request.called_directly or request.is_eager:
                return self._run_and_wait(args, kwargs)
            return self._execute(request, args, kwargs)

        # Celery wraps it for `autoretry_for`: so each of its retries is an attempt of its own.
        task: Any = self
        task.run = run_limited

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """Publish the task as Celery does, with its place among its sender's messages."""
        headers = options.get("headers") or {}
        is_scheduled = options.get("eta") is not None or options.get("countdown") is not None
        if self._limits.keep_order and HEADER not in headers and not is_scheduled:
            try:
                sender = self._envelope(args or (), kwargs or {}).sender
            except Exception:  # noqa: S110 - the execution raises it, where it is reported
                pass
            else:
                task_id = task_id or uuid()
                publisher = publisher_of(self._limits.limiter)
                place = publisher.place(sender, self._limits.remember / 2)
                options["headers"] = {**headers, HEADER: place}
        return super().apply_async(args, kwargs, task_id, *more, **options)

    def _envelope(self, args: Any, kwargs: Mapping[str, Any]) -> Envelope:
        make, measures = self._limits.envelope, self._limits.limiter.policy.counts_bytes
        return envelope_of(make, self._function, args, kwargs, "limited_task", measures=measures)

    @property
    def _parked(self) -> ParkedMessages:
        return ParkedMessages(self.app, self._limits)

    def _run_and_wait(self, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call the function in this process, when its message may go."""
        options, envelope = self._limits, self._envelope(args, kwargs)
        limited = options.limiter.limited(
            timeout=options.max_delay, envelope=lambda: envelope, refund_on=options.refund_on
        )
        return limited(lambda: self._function(*args, **kwargs))()

    def _execute(self, request: Context, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Do the next step of a message: wait for the previous one, book, wait, send."""
        _warn_of_memory(self._limits.limiter)
        attempt = Attempt(self._limits, request)
        try:
            if attempt.is_watch:
                self._watch(request, attempt)
            is_next = self._check_state(request, attempt)
            if not is_next:
                self._park(request, attempt)
            envelope = attrs.evolve(self._envelope(args, kwargs), id=attempt.id)
            reservation = self._book(request, attempt, envelope)
            self._redeem(request, attempt, reservation)
            if not attempt.begin():
                self._wait_for_other(request, attempt)
        except (BackendUnavailable, ConnectionPoolFull) as error:
            log_warning("task %s waits for the backend: %s", attempt.task_id, error)
            self._execute_later(request, attempt, OUTAGE_DELAY)
        except (Ignore, Reject, Retry):
            raise
        except Exception:
            self._release_next(attempt)
            raise
        return self._send(attempt, envelope, reservation, args, kwargs)

    def _check_state(self, request: Context, attempt: Attempt) -> bool:
        """Stop here if the message was sent, is being sent, or was perhaps sent.

        Return whether its sender's previous message is over.
        """
        over, running, begun, is_next = attempt.state()
        if over:
            self._stop(attempt)
        if running:
            self._wait_for_other(request, attempt)
        if begun and self._limits.on_uncertain == "report":
            log_warning("task %s ended while it was sending", attempt.task_id)
            raise SendingUncertain(attempt.task_id)
        return is_next

    def _stop(self, attempt: Attempt) -> NoReturn:
        """End an execution whose message is over; the one that ended it may have died then."""
        if attempt.place is not None:
            self._parked.release_next(attempt.place)
        raise Ignore(f"the message of task {attempt.task_id} was sent or has failed")

    def _wait_for_other(self, request: Context, attempt: Attempt) -> NoReturn:
        """Another execution is sending the message: look later what has become of it."""
        if _wait_until(attempt.is_over, SHORT_WAIT):
            self._stop(attempt)
        self._execute_later(request, attempt, self._limits.sending_timeout)

    def _park(self, request: Context, attempt: Attempt) -> None:
        """Wait for the sender's previous message, unless it has ended meanwhile."""
        place = attempt.place
        if place is None:
            return
        signature = self._again(request, attempt)
        if not self._parked.put(place, signature):
            attempt.set_next()
            return
        if self._parked.claim_watch(place):
            self._parked.publish_watch(signature, place, is_next=False)
        raise Retry("the message waits for its sender's previous one", sig=signature)

    def _watch(self, request: Context, attempt: Attempt) -> NoReturn:
        """Look whether the messages of a sender still go, and end this execution."""
        if attempt.place is not None:
            watched = self._parked.watch(attempt.place, is_next=attempt.is_next)
            if watched is not None and self._parked.claim_watch(watched[0]):
                place, is_next = watched
                self._parked.publish_watch(self._again(request, attempt), place, is_next=is_next)
        raise Ignore("the messages of a sender were watched")

    def book_ahead(self, signature: Signature[Any]) -> tuple[float, datetime | None]:
        """Book a place for a message that is to be published. Return its delay and its time.

        It is published for now if it cannot be booked: its own execution raises the error then.
        """
        try:
            envelope = self._envelope(signature.args, signature.kwargs)
            envelope = attrs.evolve(envelope, id=str(signature.options["task_id"]))
            delay = self._limits.limiter.reserve(envelope, self._limits.max_delay).delay
        except Exception:  # whatever `envelope=` raises
            return 0.0, None
        return (delay, self._eta(delay)) if delay > SHORT_WAIT else (delay, None)

    def _book(self, request: Context, attempt: Attempt, envelope: Envelope) -> Reservation:
        """Return the booking of the message, if its time has come."""
        options = self._limits
        try:
            reservation = options.limiter.reserve(envelope, options.max_delay)
        except RateLimitExceeded as exceeded:
            wait = exceeded.decision.retry_after
            if wait is None or options.max_delay is not None:
                raise
            self._execute_later(request, attempt, wait)
        if reservation.delay > SHORT_WAIT:
            self._execute_later(request, attempt, reservation.delay)
        if reservation.delay > 0:
            time.sleep(reservation.delay)
        return reservation

    def _redeem(self, request: Context, attempt: Attempt, reservation: Reservation) -> None:
        """Use the booking now, or execute again when it can be used."""
        end = time.monotonic() + SHORT_WAIT
        while not (decision := reservation.redeem()):
            wait = decision.retry_after
            if wait is None:  # blocked
                reservation.cancel()
                raise RateLimitExceeded(decision)
            if time.monotonic() + wait > end:
                self._execute_later(request, attempt, wait)
            time.sleep(wait)

    def _send(
        self,
        attempt: Attempt,
        envelope: Envelope,
        reservation: Reservation,
        args: Any,
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call the function, then settle the message or refund it."""
        finish = partial(self._finish, envelope, reservation)
        try:
            result = self._function(*args, **kwargs)
        except Reject as rejection:
            rejected: Any = rejection
            finish(rejection)
            if rejected.requeue:  # the next execution is to send it
                attempt.forget()
            else:
                attempt.end()
                self._release_next(attempt)
            raise
        except (Ignore, Retry) as error:  # what is to happen next has been decided
            attempt.end()
            finish(getattr(error, "exc", None) or error)
            self._release_next(attempt)
            raise
        except Exception as error:  # not over: if Celery dies before it knows, it is reported
            finish(error)
            self._release_next(attempt)
            raise
        except BaseException as error:  # the worker is shut down: perhaps it was sent
            finish(error)
            raise
        attempt.end()
        finish(result)
        self._release_next(attempt)
        return result

    def _finish(self, envelope: Envelope, reservation: Reservation, outcome: object) -> None:
        """Settle or refund a message, and respect a provider's "too fast"."""
        options = self._limits
        operations, decision = options.limiter._operations, reservation.decision
        run(finish_steps(operations, envelope, decision, outcome, options.refund_on))
        if options.pushback is not None:
            try:
                options.limiter.pushback(envelope, outcome, options.pushback)
            except BackendError as error:
                log_outage(error)

    def _release_next(self, attempt: Attempt) -> None:
        """Let the sender's next message go. An outage is logged: it goes by `order_timeout`."""
        if attempt.place is not None:
            try:
                self._parked.release_next(attempt.place)
            except Exception as error:  # must not hide that this message was sent
                log_warning("the message after task %s waits: %s", attempt.task_id, error)

    def _again(self, request: Context, attempt: Attempt, **options: Any) -> Signature[Any]:
        """Return the task as it can be published again, with the same id and number of retries."""
        options.setdefault("headers", attempt.headers)
        signature: Signature[Any] = self.signature_from_request(
            request, retries=request.retries, **options
        )
        return signature

    def _eta(self, seconds: float) -> datetime:
        """Return the time in so many seconds, or earlier: a broker takes back what waits too long.

        The execution then waits again.
        """
        transport_options: Mapping[str, Any] = self.app.conf.broker_transport_options or {}
        timeout = transport_options.get("visibility_timeout", DEFAULT_VISIBILITY_TIMEOUT)
        return datetime.now(UTC) + timedelta(seconds=min(seconds, 0.75 * float(timeout)))

    def _execute_later(self, request: Context, attempt: Attempt, seconds: float) -> NoReturn:
        """Publish the task again, and end this execution."""
        eta = self._eta(seconds)
        signature = self._again(request, attempt, eta=eta)
        try:
            attempt.set_alive(seconds)
            signature.apply_async()
        except Exception as error:
            if self.acks_late:
                raise Reject(error, requeue=True) from error
            raise
        raise Retry("the message waits for its time", when=eta, sig=signature)


def limited_task(
    limiter: Limiter,
    *,
    app: Celery | None = None,
    envelope: Callable[..., object] | None = None,
    on_uncertain: Literal["report", "resend"] = "report",
    max_delay: float | None = None,
    keep_order: bool = True,
    order_timeout: float = 60.0,
    sending_timeout: float = 600.0,
    remember: float = 86_400.0,
    pushback: float | None = PUSHBACK,
    refund_on: Errors | None = None,
    **options: Any,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a Celery task of a function that sends one message, so that it keeps to the policy.

    limiter: decides. Its backend must be shared by all workers, as Redis and SQLite are.
    app: the Celery application; None makes a shared task.
    envelope: called with the task's arguments (without `self`), returns the Envelope or
        EmailMessage; by default the one among the arguments.
    on_uncertain: what happens to a message whose execution died while it was sending:
        `"report"` raises SendingUncertain, `"resend"` sends it again.
    max_delay: the most seconds that a message may have to wait; None for any time.
    keep_order: whether the messages of one sender are sent in the order in which a process has
        published them.
    order_timeout: for how many seconds a message waits for the one before it, if that is due and
        no worker sends it.
    sending_timeout: how many seconds an execution may take: after that, one that has not ended
        has died.
    remember: for how many seconds a message that was sent is not sent again.
    pushback: for how many seconds the sender is blocked if the function raises a provider's "too
        fast" that names no time; None to block no sender.
    refund_on: exceptions that prove that nothing was sent; by default those of smtplib and
        aiosmtplib.
    options: those of `Celery.task`. `acks_late` and `reject_on_worker_lost` are True by default.

    An execution that waits for a limit does not count as one of `max_retries`. A message that can
    never go raises RateLimitExceeded, which `autoretry_for` does not try again.
    """
    limits = TaskOptions(
        limiter=limiter,
        envelope=envelope,
        on_uncertain=on_uncertain,
        max_delay=max_delay,
        keep_order=keep_order,
        order_timeout=order_timeout,
        sending_timeout=sending_timeout,
        remember=remember,
        pushback=pushback,
        refund_on=refund_on,
    )
    base = options.pop("base", None) or (Task if app is None else app.Task)
    options.setdefault("acks_late", True)
    options.setdefault("reject_on_worker_lost", True)
    options["dont_autoretry_for"] = (
        *options.get("dont_autoretry_for", ()),
        RateLimitExceeded,
        SendingUncertain,
    )
    options["base"] = type(
        "LimitedTask", (_LimitedTask, base), {"abstract": True, "_limits": limits}
    )
    decorate: Any = shared_task(**options) if app is None else app.task(**options)
    return decorate  # type: ignore[no-any-return]
