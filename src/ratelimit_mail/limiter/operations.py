"""What the verbs of a limiter do, once for both colours; those of several steps as scripts."""

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
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision, Usage
from ratelimit_mail.envelope import NOBODY, Client, Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter.fast_path import FastPath, fast_path
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.observers import DecidedMessage, Observers
from ratelimit_mail.limiter.partial import MessageDecisions
from ratelimit_mail.limiter.refunds import refund_steps, take_receipts
from ratelimit_mail.limiter.shadow import BOOKING, check_shadow_steps, check_steps
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limiter.wait_queue import LONGEST_TURN, Waiter, WaitQueue
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import normal_scope

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener

__all__ = ["Booking", "Operations", "milliseconds"]


LONGEST_WAIT: Final = 10**12

LONGEST_MEMORY: Final = 366 * 24 * 3600 * 1000


class Booking(NamedTuple):
    """A booking: its decision, its time in milliseconds, and how many seconds ahead that is.

    line_of: in whose line it stands; None where nothing is counted.
    """

    decision: Decision
    at: int
    delay: float
    queue_subject: str | None = None


def milliseconds(name: str, seconds: float | None) -> int | None:
    """A length of time that a caller gives; None, infinity and ages are any length."""
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{name}: seconds are needed, or None, not {show(seconds)}")
    if seconds > LONGEST_WAIT:
        return None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name}: {seconds} is no number of seconds; 0 or more are needed")
    # Rounded first: 1.001 * 1000 is a little less than 1001.
    return int(round(seconds * 1000, 6))


class Operations:
    """The way from an envelope to charges, and from a verdict on them to a decision."""

    _backend: Any
    """Its methods give their results, or what to await for them; so does what follows."""
    _plan: Callable[[Envelope], ChargePlan]
    _sleep: Callable[[float], Any]
    _turn: Callable[[Waiter, float], Any]
    """Waits until nobody is before a place, or so many seconds."""
    _book: Callable[[Sequence[Charge], Intent], Verdict | Any]
    """What the backend's `apply` does; a booking that nobody waits for any more is taken back."""

    def __init__(
        self,
        policy: Policy,
        remember: float,
        node: str | None,
        on_event: Listener | Sequence[Listener] | Dispatcher | None,
    ) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"policy: a Policy is needed, not {show(policy)}")
        self._policy = policy.at_node(node)
        self._queue = self._policy.queue()
        remembered = milliseconds("remember", remember) or 0
        if not 0 < remembered <= LONGEST_MEMORY:
            raise ValueError(
                f"remember: {show(remember)} is no number of seconds from 0.001 to a year"
            )
        self._intents = Intents(self._policy.counted_as, remembered)
        self._wait_queue = WaitQueue()
        self._observers = Observers(self._policy, self._intents, on_event)
        self._is_plain = self._observers.is_idle and not self._policy.partial
        """Whether a decision is all there is to it."""

    def _fast_path(self, backend: object) -> FastPath | None:
        """The short way, where messages are counted in memory and nothing else is to be done."""
        selector = self._policy.selector_by_tier
        if not self._is_plain or selector is None or type(backend) is not MemoryBackend:
            return None
        return fast_path(selector, backend, self)

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._policy

    def _check_steps(self, envelope: Envelope) -> Steps[Decision]:
        decisions = []
        whole = MessageDecisions(self._policy, envelope)
        for part in whole.envelopes:
            plan = self._plan(part)
            decision = yield from check_steps(self._backend, plan)
            if plan.shadow is not None:
                shadow = yield from check_shadow_steps(self._backend, plan.shadow)
                decision = attrs.evolve(decision, shadow=shadow)
            decisions.append(decision)
        return whole.together(decisions, None)

    def _try_acquire_steps(self, envelope: Envelope) -> Steps[Decision]:
        [decision] = yield from self._try_acquire_many_steps([envelope])
        return decision

    def _try_acquire_many_steps(self, envelopes: Iterable[Envelope]) -> Steps[list[Decision]]:
        wholes = [MessageDecisions(self._policy, envelope) for envelope in envelopes]
        plans = [(self._plan(part), part) for whole in wholes for part in whole.envelopes]
        messages = [
            (plan.charges, self._intents.intent(plan, part)) for plan, part in plans if plan.charges
        ]
        verdicts: Iterator[Verdict] = iter(())
        if len(messages) == 1:  # one part of a cluster may be away while others answer
            verdicts = iter([(yield partial(self._backend.apply, *messages[0]))])
        elif messages:
            verdicts = iter((yield partial(self._backend.apply_many, messages)))
        decisions = []
        for plan, part in plans:
            verdict = next(verdicts) if plan.charges else None
            decision = decide(plan, verdict, self)
            if not self._is_plain:
                seen = DecidedMessage(part, plan, decision, verdict)
                decision = yield from self._observers.script(self._backend, seen)
            decisions.append(decision)
        answered = iter(decisions)
        return [whole.together(list(islice(answered, len(whole))), self) for whole in wholes]

    def _reserve_steps(self, envelope: Envelope, max_delay: int | None) -> Steps[Booking]:
        plan = self._plan(envelope)
        verdict: Verdict | None = None
        queue_subject: str | None = None
        if plan.charges and plan.never is not None:
            yield partial(self._backend.apply, plan.charges, self._intents.intent(plan, envelope))
        elif plan.charges:
            idempotency = self._intents.idempotency(plan, envelope, "book")
            queue_subject = self._policy.owner(envelope.sender)
            queue = (self._queue, queue_subject, BOOKING)
            intent = Intent(queue=queue, max_delay=max_delay, idempotency=idempotency)
            verdict = yield partial(self._book, plan.charges, intent)
        decision = decide(plan, verdict, self)
        if not self._is_plain:
            seen = DecidedMessage(envelope, plan, decision, verdict, queue_subject)
            try:
                decision = yield from self._observers.script(self._backend, seen)
            except BaseException:
                yield from self._give_back_steps(decision)
                raise
        if not decision:
            raise RateLimitExceeded(decision)
        if verdict is None:
            return Booking(decision, time.time_ns() // 1_000_000, 0.0)
        return Booking(decision, verdict.at, (verdict.at - verdict.now) / 1000, queue_subject)

    def _acquire_steps(self, envelope: Envelope, max_delay: int | None) -> Steps[Decision]:
        """A reservation, and a sleep until its time; a wait that is cut short is taken back."""
        number = self._wait_queue.number()
        decision, at, delay, queue_subject = yield from self._reserve_steps(envelope, max_delay)
        if queue_subject is None or not _is_counted(decision):
            return decision
        place: Waiter | None = None
        try:
            place = self._wait_queue.join(queue_subject, at, number)
            if delay > 0:
                yield lambda: self._sleep(delay)
            if not self._wait_queue.is_first(place):
                spare = math.inf if max_delay is None else max_delay / 1000 - delay
                yield lambda: self._turn(place, min(spare, LONGEST_TURN))
        except BaseException:
            yield from self._give_back_steps(decision)
            raise
        finally:
            if place is not None:
                self._wait_queue.leave(place)
        return decision

    def _give_back_steps(self, decision: Decision) -> Steps[None]:
        """Take out what a wait was charged that is broken off."""
        if _is_counted(decision):
            try:
                yield from self._refund_steps(decision)
            except BackendError as error:  # which must not hide why the wait was broken off
                log_warning("a wait that was broken off stays counted: %s", error)

    def _refund_steps(self, decision: Decision) -> Steps[None]:
        return refund_steps(self._backend, take_receipts(decision, self))

    def _usage_steps(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        client: Client | None,
    ) -> Steps[tuple[Usage, ...]]:
        if not isinstance(client, Client | None):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        named, sender = self._policy.subject(scope, subject)
        ordered = normal_scope(scope)
        effective = self._policy.effective_limits(client or NOBODY, sender, self._backend.now())
        usages: list[Usage] = []
        for ledger in effective.ledgers_of(ordered):
            readings = yield partial(self._backend.usage, ledger, named)
            usages += (
                Usage(effective.limit_of(count, i), each.used, each.remaining, each.empty_in / 1000)
                for count, of_count in zip(ledger.counts, readings, strict=True)
                for i, each in enumerate(of_count)
            )
        return tuple(usages)

    def _reset_steps(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Steps[None]:
        named, _ = self._policy.subject(scope, subject)
        ledgers = self._policy.ledgers_of(normal_scope(scope))
        if normal_scope(scope) == ("sender",):
            ledgers += self._queue, self._policy.queue(shadow=True)
        yield lambda: self._backend.reset(ledgers, named)


def _is_counted(decision: Decision) -> bool:
    """Whether there is anything that a refund would take out."""
    return decision.refund_token is not None and decision.refund_token[1] is not None
