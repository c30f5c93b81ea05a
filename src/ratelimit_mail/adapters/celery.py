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

import os
import threading
import time
from base64 import b85decode, b85encode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import attrs
from celery import Celery, Signature, Task, shared_task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils import uuid
from kombu.serialization import dumps, loads, prepare_accept_content

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import run
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import flag, one_of
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
from ratelimit_mail.limiter.decorator import Errors, envelope_of, exception_classes
from ratelimit_mail.limiter.marks import Marks
from ratelimit_mail.limiter.operations import milliseconds
from ratelimit_mail.limiter.sending import finish_steps

if TYPE_CHECKING:
    from celery.app.task import Context

    _Task = Task[..., Any]
else:
    _Task = Task

__all__ = ["SendingUncertain", "limited_task"]

P = ParamSpec("P")
R = TypeVar("R")

HEADER: Final = "ratelimit_mail"
"""The header of a task's message that says which message its sender put before it."""

SHORT_WAIT: Final = 0.5
"""Seconds: the longest that a worker waits, because another execution would cost more."""

OUTAGE_DELAY: Final = 10.0
"""Seconds until the next execution while the backend of the limiter is away."""

DEFAULT_VISIBILITY_TIMEOUT: Final = 1800.0
"""Seconds for which a broker lets a worker hold a message: RabbitMQ's consumer timeout and SQS's
visibility timeout are 30 minutes in Celery's defaults, that of Redis is an hour."""

MOST_SENDERS: Final = 10_000
"""Senders whose latest message a publishing process remembers."""


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


@attrs.frozen(kw_only=True)
class _Options:
    """What `limited_task` takes beside Celery's own options."""

    limiter: Limiter = attrs.field()
    envelope: Callable[..., object] | None = attrs.field(default=None)
    on_uncertain: Literal["report", "resend"] = attrs.field(
        default="report", validator=one_of("report", "resend")
    )
    max_delay: float | None = None
    keep_order: bool = attrs.field(default=True, validator=flag)
    order_timeout: float = 60.0
    sending_timeout: float = 600.0
    remember: float = 86_400.0
    pushback: float | None = PUSHBACK
    refund_on: tuple[type[BaseException], ...] | None = attrs.field(
        default=None, converter=exception_classes
    )
    marks: Marks = attrs.field(init=False)

    @marks.default
    def _marks(self) -> Marks:
        if not isinstance(self.limiter, Limiter):
            raise TypeError(f"limiter: a Limiter is needed, not {show(self.limiter)}")
        return Marks.of(self.limiter)

    def __attrs_post_init__(self) -> None:
        if self.envelope is not None and not callable(self.envelope):
            raise TypeError(f"envelope: a callable is needed, not {show(self.envelope)}")
        milliseconds("max_delay", self.max_delay)
        for name in ("order_timeout", "sending_timeout", "remember", "pushback"):
            seconds = getattr(self, name)
            if seconds is None and name == "pushback":
                continue
            if not milliseconds(name, seconds):
                raise ValueError(f"{name}: {show(seconds)} is not a number of seconds above 0")
        if self.remember <= self.order_timeout:
            raise ValueError(
                f"remember: {show(self.remember)} seconds are not more than order_timeout,"
                f" {show(self.order_timeout)} seconds"
            )


class _Place(NamedTuple):
    """The place of a message among those that one process has published for one sender.

    queue: names the process and the sender. number: how many messages preceded it.
    """

    queue: str
    number: int

    @classmethod
    def from_header(cls, header: object) -> _Place | None:
        """Return the place that a task's message names; None if it names none."""
        if not isinstance(header, Mapping):
            return None
        queue, number = header.get("queue"), header.get("number")
        if not isinstance(queue, str) or not isinstance(number, int):
            return None
        return cls(queue, number)


class _Latest(NamedTuple):
    """The latest message of a sender: its place, and when it was published."""

    place: _Place
    moment: float


class _Publisher:
    """Gives the messages that this process publishes for each sender their places."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: OrderedDict[str, _Latest] = OrderedDict()
        self._process = os.getpid()

    def place(self, sender: str, longest: float) -> dict[str, Any]:
        """Return the header that names the place of a new message.

        longest: how many seconds ago the previous one may have been published: what has become of
            an older one may be forgotten, so a new queue begins.
        """
        now = time.monotonic()
        with self._lock:
            if self._process != os.getpid():  # a fork must not use the same places
                self._latest.clear()
                self._process = os.getpid()
            latest = self._latest.pop(sender, None)
            place = _Place(uuid(), 0)
            if latest is not None and now - latest.moment < longest:
                place = _Place(latest.place.queue, latest.place.number + 1)
            self._latest[sender] = _Latest(place, now)
            if len(self._latest) > MOST_SENDERS:
                self._latest.popitem(last=False)
        return place._asdict()


_PUBLISHERS: WeakKeyDictionary[Limiter, _Publisher] = WeakKeyDictionary()
_PUBLISHERS_LOCK = threading.Lock()


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


def _publisher_of(limiter: Limiter) -> _Publisher:
    with _PUBLISHERS_LOCK:
        return _PUBLISHERS.setdefault(limiter, _Publisher())


class _Attempt:
    """One attempt to send the message of a task: what all of its executions have in common.

    Celery's retries of the caller are attempts of their own; executions that wait are not.

    place: only of the first attempt: nothing waits for a later one.
    """

    def __init__(self, options: _Options, request: Context) -> None:
        self._marks = options.marks
        self._lifetime = milliseconds("", options.remember) or 1
        self._sending = milliseconds("", options.sending_timeout) or 1
        self._patience = milliseconds("", options.order_timeout) or 1
        self.task_id = str(request.id)
        self.id = self.task_id if not request.retries else f"{self.task_id}/{request.retries}"
        self.headers: dict[str, Any] = request.as_execution_options()["headers"]
        header = self.headers.get(HEADER)
        self.place = None if request.retries else _Place.from_header(header)
        flags = header if self.place is not None and isinstance(header, Mapping) else {}
        self.is_watch = flags.get("watch") is True
        self.is_next = self.place is None or self.place.number == 0 or flags.get("next") is True

    def state(self) -> tuple[bool, bool, bool, bool]:
        """Return whether the attempt is over, is running, and has begun, and whether it is next.

        It is next if its sender's previous message is over.
        """
        names = [f"{stage} {self.id}" for stage in ("over", "running", "begun")]
        if self.place is None or self.is_next:
            over, running, begun = self._marks.are_set(names)
            return over, running, begun, True
        names.append(_over(self.place, -1))
        over, running, begun, is_next = self._marks.are_set(names)
        if is_next:
            self.set_next()
        return over, running, begun, is_next

    def set_next(self) -> None:
        """Note in the headers that the previous message is over, because its mark expires."""
        self.is_next = True
        self.headers[HEADER] = {**self.headers[HEADER], "next": True}

    def begin(self) -> bool:
        """Claim the attempt. Return False if another execution has claimed it."""
        marks = [(f"running {self.id}", self._sending), (f"begun {self.id}", self._lifetime)]
        if self.place is not None:
            marks.append((_alive(self.place), self._sending + self._patience))
        return self._marks.set_all(marks)[0]

    def set_alive(self, seconds: float) -> None:
        """Mark the message as one that waits for so many seconds. An outage is the reason to."""
        if self.place is not None:
            with suppress(BackendError):
                self._marks.set(_alive(self.place), round(seconds * 1000) + self._patience)

    def end(self) -> None:
        """Mark the attempt as over. An outage is logged: the function has been called."""
        try:
            self._marks.set(f"over {self.id}", self._lifetime)
        except BackendError as error:
            log_warning("if task %s is delivered again, it is uncertain: %s", self.task_id, error)

    def forget(self) -> None:
        """Clear what `begin` has set: the function did not send, and wants to be called again."""
        self._marks.clear(f"begun {self.id}")
        self._marks.clear(f"running {self.id}")

    def is_over(self) -> bool:
        """Return whether the attempt is over."""
        return self._marks.are_set([f"over {self.id}"])[0]


def _over(place: _Place, offset: int = 0) -> str:
    """Return the mark of a place, or of one before or behind it, whose message is over."""
    return f"over {place.queue} {place.number + offset}"


def _alive(place: _Place) -> str:
    """Return the mark of a place whose message is not lost: it waits for its time, or is sent."""
    return f"alive {place.queue} {place.number}"


class _Parked:
    """Messages that wait for their sender's previous one, in the limiter's backend.

    When that is over, its execution books a place for the next one, and publishes it.
    """

    def __init__(self, app: Celery, options: _Options) -> None:
        self._app = app
        self._marks = options.marks
        self._lifetime = milliseconds("", options.remember) or 1
        self._patience = milliseconds("", options.order_timeout) or 1

    def put(self, place: _Place, signature: Signature[Any]) -> bool:
        """Park a message. Return False if the previous one is over meanwhile, so it may go on."""
        content_type, encoding, data = dumps(
            dict(signature), serializer=self._app.conf.task_serializer
        )
        if isinstance(data, bytes):
            data = b85encode(data).decode()
            encoding = f"b85 {encoding}"
        name = self._name(place.queue, place.number)
        self._marks.write_text(name, f"{content_type}\n{encoding}\n{data}")
        return not self._marks.are_set([_over(place, -1)])[0]

    def release_next(self, place: _Place) -> None:
        """Mark the message at `place` as over, and publish the one behind it, if it is parked."""
        self._marks.set(_over(place), self._lifetime)
        if place.number > 0:
            self._marks.write_text(self._name(place.queue, place.number), None)
        following = _Place(place.queue, place.number + 1)
        if not self._marks.are_set([_alive(following)])[0]:
            self.release(following)

    def release(self, place: _Place) -> bool:
        """Publish the message that is parked at `place`; return whether there is one."""
        name = self._name(place.queue, place.number)
        text = self._marks.read_text(name)
        if text is None:
            return False
        try:
            signature = self._read(text)
            task: Any = self._app.tasks[str(signature.task)]
            if not isinstance(task, _LimitedTask):
                raise TypeError("this is not a limited task")
            headers: dict[str, Any] = signature.options["headers"]
            header: dict[str, Any] = {**headers[HEADER], "next": True}
        except Exception as error:  # whatever a serializer raises
            log_warning("a message that waits cannot be read: %s", type(error).__name__)
            self._marks.write_text(name, None)
            return False
        delay, eta = task._book_ahead(signature)
        with_place: dict[str, Any] = {**headers, HEADER: header}
        signature.set(headers=with_place, eta=eta)
        signature.apply_async()
        # The text stays until the message is over: a broker may lose what it delivers at the moment
        # at which a worker dies. Published twice, it is sent once.
        alive = (_alive(place), round(delay * 1000) + self._patience)
        _, is_unwatched = self._marks.set_all([alive, self._watched(place)])
        if is_unwatched:
            self.publish_watch(signature, place, is_next=True)
        return True

    def _read(self, text: str) -> Signature[Any]:
        """Return the task that `put` has stored, if the application accepts its serializer."""
        content_type, encoding, data = text.split("\n", 2)
        raw: Any = data
        if encoding.startswith("b85 "):
            raw, encoding = b85decode(data), encoding[4:]
        accepted = prepare_accept_content(self._app.conf.accept_content)
        fields = loads(raw, content_type, encoding, accept=accepted)
        signature: Signature[Any] = Signature.from_dict(fields, app=self._app)
        return signature

    def watch(self, place: _Place, *, is_next: bool) -> tuple[_Place, bool] | None:
        """Publish a lost message of a queue again.

        A message is lost if it is next and not alive. If it was never parked it is not known any
        more, and the one behind it is published instead.

        place: of a message that is known to have been put. is_next: whether it was the next to go.
        Return both for the message that is to be watched from now on; None if all are over.
        """
        over, alive = self._marks.are_set([_over(place), _alive(place)])
        if is_next and not over:
            first = place
        else:
            first = self._first_not_over(place)
            alive = self._marks.are_set([_alive(first)])[0]
        if alive or self.release(first):
            return first, True
        if first.number > place.number:
            return None
        log_warning("a sender's messages do not wait any more for one that is lost")
        self.release_next(first)
        return place, False

    def claim_watch(self, place: _Place) -> bool:
        """Return whether no other task watches the queue of `place` for `order_timeout`."""
        return self._marks.set(*self._watched(place))

    def publish_watch(self, signature: Signature[Any], place: _Place, *, is_next: bool) -> None:
        """Publish a copy of a task that looks, after `order_timeout`, how far its queue is."""
        header: dict[str, Any] = {**place._asdict(), "watch": True, "next": is_next}
        headers: dict[str, Any] = {**signature.options["headers"], HEADER: header}
        eta = datetime.now(UTC) + timedelta(milliseconds=self._patience)
        signature.clone().set(headers=headers, eta=eta).apply_async()

    def _watched(self, place: _Place) -> tuple[str, int]:
        # The mark must expire before the task that watches is executed, which sets it again.
        return f"watched {place.queue}", max(1, self._patience * 9 // 10)

    def _first_not_over(self, place: _Place) -> _Place:
        """Return the first message of a queue that is not over, before or behind `place`."""

        def is_over(number: int) -> bool:
            return number < 0 or self._marks.are_set([_over(_Place(place.queue, number))])[0]

        step, low, high = 1, place.number, place.number
        if is_over(low):
            while is_over(high := low + step):
                low, step = high, 2 * step
        else:
            while not is_over(low := high - step):
                high, step = low, 2 * step
        while high - low > 1:  # `low` is over, and `high` is not
            middle = (low + high) // 2
            low, high = (middle, high) if is_over(middle) else (low, middle)
        return _Place(place.queue, high)

    @staticmethod
    def _name(queue: str, number: int) -> str:
        return f"parked {queue} {number}"


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
    _limits: _Options

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
                publisher = _publisher_of(self._limits.limiter)
                place = publisher.place(sender, self._limits.remember / 2)
                options["headers"] = {**headers, HEADER: place}
        return super().apply_async(args, kwargs, task_id, *more, **options)

    def _envelope(self, args: Any, kwargs: Mapping[str, Any]) -> Envelope:
        make, measures = self._limits.envelope, self._limits.limiter.policy.counts_bytes
        return envelope_of(make, self._function, args, kwargs, "limited_task", measures=measures)

    @property
    def _parked(self) -> _Parked:
        return _Parked(self.app, self._limits)

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
        attempt = _Attempt(self._limits, request)
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

    def _check_state(self, request: Context, attempt: _Attempt) -> bool:
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

    def _stop(self, attempt: _Attempt) -> NoReturn:
        """End an execution whose message is over; the one that ended it may have died then."""
        if attempt.place is not None:
            self._parked.release_next(attempt.place)
        raise Ignore(f"the message of task {attempt.task_id} was sent or has failed")

    def _wait_for_other(self, request: Context, attempt: _Attempt) -> NoReturn:
        """Another execution is sending the message: look later what has become of it."""
        if _wait_until(attempt.is_over, SHORT_WAIT):
            self._stop(attempt)
        self._execute_later(request, attempt, self._limits.sending_timeout)

    def _park(self, request: Context, attempt: _Attempt) -> None:
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

    def _watch(self, request: Context, attempt: _Attempt) -> NoReturn:
        """Look whether the messages of a sender still go, and end this execution."""
        if attempt.place is not None:
            watched = self._parked.watch(attempt.place, is_next=attempt.is_next)
            if watched is not None and self._parked.claim_watch(watched[0]):
                place, is_next = watched
                self._parked.publish_watch(self._again(request, attempt), place, is_next=is_next)
        raise Ignore("the messages of a sender were watched")

    def _book_ahead(self, signature: Signature[Any]) -> tuple[float, datetime | None]:
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

    def _book(self, request: Context, attempt: _Attempt, envelope: Envelope) -> Reservation:
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

    def _redeem(self, request: Context, attempt: _Attempt, reservation: Reservation) -> None:
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
        attempt: _Attempt,
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

    def _release_next(self, attempt: _Attempt) -> None:
        """Let the sender's next message go. An outage is logged: it goes by `order_timeout`."""
        if attempt.place is not None:
            try:
                self._parked.release_next(attempt.place)
            except Exception as error:  # must not hide that this message was sent
                log_warning("the message after task %s waits: %s", attempt.task_id, error)

    def _again(self, request: Context, attempt: _Attempt, **options: Any) -> Signature[Any]:
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

    def _execute_later(self, request: Context, attempt: _Attempt, seconds: float) -> NoReturn:
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
    limits = _Options(
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
