"""What is done about a decision once it is made: limits that only report, and whom to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from ratelimit_mail._util.steps import Steps
from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.shadow import BOOKING, shadow_steps
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import Plan

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener
    from ratelimit_mail.events.detector import EventDetector

__all__ = ["DecidedMessage", "Observers"]


class DecidedMessage(NamedTuple):
    """A message, how it was decided on, and in whose line it was booked, if it was."""

    envelope: Envelope
    plan: Plan
    decision: Decision
    verdict: Verdict | None
    queue_subject: str | None = None


class Observers:
    """What one limiter does about its decisions; it never changes what they say.

    is_idle: whether that is nothing.
    """

    def __init__(
        self,
        policy: Policy,
        intents: Intents,
        on_event: Listener | Sequence[Listener] | Dispatcher | None,
    ) -> None:
        self._intents = intents
        self._queue = policy.queue(shadow=True)
        self._detector = None if on_event is None else _detector_for(policy, on_event)
        self.is_idle = self._detector is None and not policy.has_shadows

    def script(self, backend: Any, seen: DecidedMessage) -> Steps[Decision]:
        """The decision, with what limits that only report say, and told to those who listen."""
        envelope, plan, decision, verdict, queue_subject = seen
        if plan.shadow is not None:
            queue, max_delay = None, 0
            if queue_subject is not None and verdict is not None:
                queue = (self._queue, queue_subject, BOOKING)
                max_delay = verdict.at - verdict.now
            shadow = yield from shadow_steps(
                backend, self._intents, envelope, plan.shadow, decision, queue, max_delay
            )
            if shadow is not None:
                answer, receipt = shadow
                decision = attrs.evolve(decision, shadow=answer)
                if decision.refund_token is not None and receipt is not None:
                    decision.refund_token.append(receipt)
        if self._detector is not None:
            now = backend.now() if verdict is None else verdict.now
            yield from self._detector.observe_steps(backend, envelope, plan, decision, now)
        return decision


def _detector_for(
    policy: Policy, on_event: Listener | Sequence[Listener] | Dispatcher
) -> EventDetector:
    # Here, because most limiters have nobody to tell.
    from ratelimit_mail.events import Dispatcher
    from ratelimit_mail.events.detector import EventDetector

    dispatcher = on_event if isinstance(on_event, Dispatcher) else Dispatcher(on_event)
    return EventDetector(policy, dispatcher)
