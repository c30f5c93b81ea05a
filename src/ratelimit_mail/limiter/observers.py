"""What follows a decision without changing it: shadow limits and events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from ratelimit_mail._util.steps import Steps, run
from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.memory.backend import Marks
from ratelimit_mail.counting.charge import ONE_MESSAGE, Ledger
from ratelimit_mail.decision import ACCEPT, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.quick_charges import QuickCharge
from ratelimit_mail.limiter.shadow import shadow_charger, shadow_steps
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener, Recorder
    from ratelimit_mail.events.detector import EventDetector
    from ratelimit_mail.rules import Block

__all__ = ["DecidedMessage", "Observers", "QuickObserver"]

QuickObserver = Callable[[Envelope, QuickCharge, str, Decision, int, bool], Decision]
"""Observes a message with one charge.

Its arguments are the subject, the decision and its moment, and whether the subject surely has not
reached a mark.
"""


class DecidedMessage(NamedTuple):
    """A message and the decision on it; if it was booked, the sender in whose queue it stands."""

    envelope: Envelope
    plan: ChargePlan
    decision: Decision
    verdict: Verdict | None
    queue_subject: str | None = None


class Observers:
    """The observers of one limiter's decisions.

    is_idle: whether there are none.
    """

    def __init__(
        self,
        policy: Policy,
        intents: Intents,
        on_event: Listener | Sequence[Listener] | Dispatcher | None,
        metrics: Recorder | None = None,
    ) -> None:
        self._intents = intents
        self._queue = policy.queue(shadow=True)
        self._policy = policy.name
        self._dispatcher = None if on_event is None else _dispatcher(on_event)
        self._detector: EventDetector | None = None
        self._shadow_detector: EventDetector | None = None
        if self._dispatcher is not None:
            self._detector = _detector(policy, self._dispatcher)
            if policy.has_shadow:
                # What it denies must not delay that others are back to normal.
                self._shadow_detector = _detector(policy, self._dispatcher)
        self._metrics = metrics
        self.is_idle = self._detector is None and metrics is None and not policy.has_shadow

    def observe_steps(self, backend: Any, decided: DecidedMessage) -> Steps[Decision]:
        """Return the decision with the answer of the shadow limits, and emit its events."""
        envelope, plan, decision, verdict, queue_subject = decided
        self.record(decision)
        if plan.shadow is not None:
            queue, max_delay = None, 0
            if queue_subject is not None and verdict is not None and plan.shadow.is_limited:
                queue = (self._queue, queue_subject, ONE_MESSAGE)
                max_delay = verdict.at - verdict.now
            shadow = yield from shadow_steps(
                backend, self._intents, envelope, plan.shadow, decision, queue, max_delay
            )
            if shadow is not None:
                answer, receipt = shadow
                if plan.shadow.effective_limits.limits:
                    decision = attrs.evolve(decision, shadow=answer)
                    if self._metrics is not None:
                        self._metrics.decided_in_shadow(self._policy, answer)
                if decision.refund_token is not None and receipt is not None:
                    decision.refund_token.append(receipt)
                if self._shadow_detector is not None:
                    now = backend.now() if verdict is None else verdict.now
                    yield from self._shadow_detector.observe_steps(
                        backend, envelope, plan.shadow, answer, now, expects=False
                    )
        if self._detector is not None:
            now = backend.now() if verdict is None else verdict.now
            yield from self._detector.observe_steps(backend, envelope, plan, decision, now)
        return decision

    def quick_observer(
        self,
        backend: MemoryBackend,
        planner: Callable[[Envelope], ChargePlan],
        limits: EffectiveLimits,
    ) -> QuickObserver | None:
        """Return what does the same for messages with one charge under `limits`, in memory.

        Most messages need no plan for that. None if there is nothing to observe.

        planner: returns the plan of a message.
        """
        if self.is_idle:
            return None
        shadow_limits, detector, metrics = limits.shadow, self._detector, self._metrics
        needs_plan = self._shadow_detector is not None or (
            detector is not None and detector.expects
        )
        charge_shadow = None
        if shadow_limits is not None:
            charge_shadow = shadow_charger(backend, shadow_limits)

        def observe(
            envelope: Envelope,
            charge: QuickCharge,
            subject: str,
            decision: Decision,
            now: int,
            is_far: bool,
        ) -> Decision:
            shadow = charge.shadow
            is_accepted = decision.action is ACCEPT  # in a fifth of the time of `bool(decision)`
            if needs_plan or not is_accepted or (charge_shadow is not None and shadow is None):
                verdict = Verdict(now, now)
                message = DecidedMessage(envelope, planner(envelope), decision, verdict)
                return run(self.observe_steps(backend, message))
            if metrics is not None:
                metrics.decided(self._policy, decision)
            if charge_shadow is not None and shadow is not None:
                charge_shadow(envelope, shadow, decision)
                if decision.shadow is not None and metrics is not None:
                    metrics.decided_in_shadow(self._policy, decision.shadow)
            if detector is not None:
                ledger = charge.ledger
                if not is_far or detector.must_see(ledger, subject, now):
                    taken = (ledger, subject, charge.costs)
                    detector.observe_charge(backend, envelope, limits, taken, now)
            return decision

        return observe

    def marks_getter(self, limits: EffectiveLimits) -> Callable[[Ledger], Marks] | None:
        """Return what returns the marks that a quick observer needs; None if it needs none."""
        return None if self._detector is None else partial(self._detector.marks, limits)

    def record(self, decision: Decision) -> None:
        """Measure a decision."""
        if self._metrics is not None:
            self._metrics.decided(self._policy, decision)

    def report_block(self, block: Block) -> None:
        """Emit the event of a new block."""
        if self._dispatcher is not None:
            from ratelimit_mail.events.factory import blocked

            self._dispatcher.dispatch(blocked(self._policy, block))

    def report_unblock(self, block: Block, now: int) -> None:
        """Emit the event of a block that was lifted."""
        if self._dispatcher is not None:
            from ratelimit_mail.events.factory import unblocked

            self._dispatcher.dispatch(unblocked(self._policy, block, now))


def _dispatcher(on_event: Listener | Sequence[Listener] | Dispatcher) -> Dispatcher:
    # Imported here, because most limiters have no listener.
    from ratelimit_mail.events import Dispatcher

    return on_event if isinstance(on_event, Dispatcher) else Dispatcher(on_event)


def _detector(policy: Policy, dispatcher: Dispatcher) -> EventDetector:
    from ratelimit_mail.events.detector import EventDetector

    return EventDetector(policy, dispatcher)
