"""The operations of a limiter, once for Limiter and AsyncLimiter.

How one message goes: `policy.plan` turns the envelope into charges (pure, no counts); the backend
applies all charges or none in one step and returns a verdict; `verdicts.decide` turns the verdict
into a decision. Whatever takes several calls is written as a generator of steps, which `Limiter`
runs and `AsyncLimiter` awaits (`_util/steps.py`). Everything that both limiters do is in this
class; they differ only in how they call the backend and how they wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Intent, Verdict
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision, Usage
from ratelimit_mail.envelope import NOBODY, Client, Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.observers import DecidedMessage, Observers
from ratelimit_mail.limiter.partial import MessageDecisions
from ratelimit_mail.limiter.refunds import refund_steps, take_receipts
from ratelimit_mail.limiter.shadow import BOOKING, check_shadow_steps, check_steps
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limiter.wait_queue import LONGEST_WAIT_FOR_FIRST, Waiter, WaitQueue
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import normal_scope

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener

__all__ = ["Booking", "Operations", "milliseconds"]

LONGEST_WAIT: Final = 10**12
"""Seconds; a longer timeout is no timeout."""

LONGEST_MEMORY: Final = 366 * 24 * 3600 * 1000


class Booking(NamedTuple):
    """A booked message: its decision, its time in milliseconds, and the seconds until then.

    queue_subject: the sender in whose queue it stands; None if nothing was charged.
    """

    decision: Decision
    at: int
    delay: float
    queue_subject: str | None = None


def milliseconds(name: str, seconds: float | None) -> int | None:
    """Return a length of time in milliseconds; None for no bound, infinity included.

    Raises TypeError or ValueError that names the argument `name`.
    """
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name}: seconds are needed, or None, not {show(seconds)}")
    if seconds > LONGEST_WAIT:
        return None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(
            f"{name}: {show(seconds)} is not a number of seconds; 0 or more are needed"
        )
    # Rounded first: 1.001 * 1000 is a little less than 1001.
    return int(round(seconds * 1000, 6))


class Operations:
    """The operations of one limiter, sync or async.

    backend: its methods return results; those of an AsyncLimiter's return awaitables of them.
    sleep: waits for a number of seconds.
    wait_until_first: waits until a waiter is first in its queue, at most so many seconds.
    apply_booking: `backend.apply` for a booking; it refunds a booking whose caller is gone.
    remember, node, on_event: as `Limiter` documents them.
    """

    def __init__(
        self,
        policy: Policy,
        backend: Any,
        *,
        sleep: Callable[[float], Any],
        wait_until_first: Callable[[WaitQueue, Waiter, float], Any],
        apply_booking: Callable[[Sequence[Charge], Intent], Any],
        remember: float,
        node: str | None,
        on_event: Listener | Sequence[Listener] | Dispatcher | None,
    ) -> None:
        self.policy = policy.at_node(node)
        self.plan: Callable[[Envelope], ChargePlan] = self.policy.planner(backend.now)
        self._backend = backend
        self._sleep = sleep
        self._wait_until_first = wait_until_first
        self._apply_booking = apply_booking
        self._queue = self.policy.queue()
        lifetime = milliseconds("remember", remember) or 0
        if not 0 < lifetime <= LONGEST_MEMORY:
            raise ValueError(
                f"remember: {show(remember)} is not a number of seconds from 0.001 to a year"
            )
        self._intents = Intents(self.policy.counted_as, lifetime, self.policy.comparison)
        self.intent = self._intents.intent
        self._wait_queue = WaitQueue()
        self._observers = Observers(self.policy, self._intents, on_event)
        self.is_plain = self._observers.is_idle and not self.policy.partial
        """Whether a message needs nothing but a decision: no shadow limits, events or parts."""

    def decide(self, plan: ChargePlan, verdict: Verdict | None) -> Decision:
        """Return the decision on a plan; `verdict` is None if nothing was charged."""
        return decide(plan, verdict, self)

    def check_steps(self, envelope: Envelope) -> Steps[Decision]:
        """See `Limiter.check`."""
        decisions = []
        message = MessageDecisions(self.policy, envelope)
        for part in message.envelopes:
            plan = self.plan(part)
            decision = yield from check_steps(self._backend, plan)
            if plan.shadow is not None and plan.shadow.effective_limits.limits:
                shadow = yield from check_shadow_steps(self._backend, plan.shadow)
                decision = attrs.evolve(decision, shadow=shadow)
            decisions.append(decision)
        return message.combine(decisions, None)

    def try_acquire_steps(self, envelope: Envelope) -> Steps[Decision]:
        """See `Limiter.try_acquire`."""
        [decision] = yield from self.try_acquire_many_steps([envelope])
        return decision

    def try_acquire_many_steps(self, envelopes: Iterable[Envelope]) -> Steps[list[Decision]]:
        """See `Limiter.try_acquire_many`."""
        messages = [MessageDecisions(self.policy, envelope) for envelope in envelopes]
        plans = [(self.plan(part), part) for message in messages for part in message.envelopes]
        requests = [(plan.charges, self.intent(plan, part)) for plan, part in plans if plan.charges]
        verdicts: Iterator[Verdict] = iter(())
        if len(requests) == 1:  # one shard of a cluster may be away while others answer
            verdicts = iter([(yield partial(self._backend.apply, *requests[0]))])
        elif requests:
            verdicts = iter((yield partial(self._backend.apply_many, requests)))
        decisions = []
        for plan, part in plans:
            verdict = next(verdicts) if plan.charges else None
            decision = self.decide(plan, verdict)
            if not self.is_plain:
                decided = DecidedMessage(part, plan, decision, verdict)
                decision = yield from self._observers.observe_steps(self._backend, decided)
            decisions.append(decision)
        remaining = iter(decisions)
        return [
            message.combine(list(islice(remaining, len(message))), self) for message in messages
        ]

    def reserve_steps(self, envelope: Envelope, max_delay: int | None) -> Steps[Booking]:
        """See `Limiter.reserve`; `max_delay` is in milliseconds."""
        plan = self.plan(envelope)
        verdict: Verdict | None = None
        queue_subject: str | None = None
        if plan.charges and plan.never is not None:
            yield partial(self._backend.apply, plan.charges, self.intent(plan, envelope))
        elif plan.charges and not plan.is_limited:  # recorded for other tiers, and goes at once
            intent = self.intent(plan, envelope, "book")
            verdict = yield partial(self._backend.apply, plan.charges, intent)
        elif plan.charges:
            queue_subject = self.policy.sender_subject(envelope)
            intent = Intent(
                queue=(self._queue, queue_subject, BOOKING),
                max_delay=max_delay,
                idempotency=self._intents.idempotency(plan, envelope, "book"),
            )
            verdict = yield partial(self._apply_booking, plan.charges, intent)
        decision = self.decide(plan, verdict)
        if not self.is_plain:
            decided = DecidedMessage(envelope, plan, decision, verdict, queue_subject)
            try:
                decision = yield from self._observers.observe_steps(self._backend, decided)
            except BaseException:
                yield from self._give_back_steps(decision)
                raise
        if not decision:
            raise RateLimitExceeded(decision)
        if verdict is None:
            return Booking(decision, time.time_ns() // 1_000_000, 0.0)
        return Booking(decision, verdict.at, (verdict.at - verdict.now) / 1000, queue_subject)

    def acquire_steps(self, envelope: Envelope, timeout: int | None) -> Steps[Decision]:
        """See `Limiter.acquire`: a booking and one sleep until its time.

        timeout: in milliseconds. A wait that is cut short gives its booking back.
        """
        number = self._wait_queue.next_number()
        decision, at, delay, queue_subject = yield from self.reserve_steps(envelope, timeout)
        if queue_subject is None or not _is_refundable(decision):
            return decision
        waiter: Waiter | None = None
        try:
            waiter = self._wait_queue.join(queue_subject, at, number)
            if delay > 0:
                yield partial(self._sleep, delay)
            if not self._wait_queue.is_first(waiter):
                spare = math.inf if timeout is None else timeout / 1000 - delay
                longest = min(spare, LONGEST_WAIT_FOR_FIRST)
                yield partial(self._wait_until_first, self._wait_queue, waiter, longest)
        except BaseException:
            yield from self._give_back_steps(decision)
            raise
        finally:
            if waiter is not None:
                self._wait_queue.leave(waiter)
        return decision

    def _give_back_steps(self, decision: Decision) -> Steps[None]:
        """Refund a booking whose wait was broken off."""
        if _is_refundable(decision):
            try:
                yield from self.refund_steps(decision)
            except BackendError as error:  # must not hide why the wait was broken off
                log_warning("a wait that was broken off stays counted: %s", error)

    def refund_steps(self, decision: Decision) -> Steps[None]:
        """See `Limiter.refund`."""
        return refund_steps(self._backend, take_receipts(decision, self))

    def usage_steps(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        client: Client | None,
    ) -> Steps[tuple[Usage, ...]]:
        """See `Limiter.usage`."""
        if not isinstance(client, Client | None):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        key, sender = self.policy.subject(scope, subject)
        limits = self.policy.effective_limits(client or NOBODY, sender, self._backend.now())
        usages: list[Usage] = []
        for ledger in limits.ledgers_of(normal_scope(scope)):
            if not ledger.has_windows:
                continue
            readings = yield partial(self._backend.usage, ledger, key)
            usages += (
                Usage(limits.limit_of(count, i), each.used, each.remaining, each.empty_in / 1000)
                for count, of_count in zip(ledger.counts, readings, strict=True)
                for i, each in enumerate(of_count)
            )
        return tuple(usages)

    def reset_steps(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Steps[None]:
        """See `Limiter.reset`."""
        key, _ = self.policy.subject(scope, subject)
        ledgers = self.policy.ledgers_of(normal_scope(scope))
        if normal_scope(scope) == ("sender",):
            ledgers += self._queue, self.policy.queue(shadow=True)
        yield partial(self._backend.reset, ledgers, key)


def _is_refundable(decision: Decision) -> bool:
    """Return whether a refund of `decision` would take anything out."""
    return decision.refund_token is not None and decision.refund_token[1] is not None
