"""What is done about a decision once it is made: limits that only report, and whom to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from ratelimit_mail._util.steps import Script
from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.intents import Asking
from ratelimit_mail.limiter.shadow import BOOKING, shadowing
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import Plan

if TYPE_CHECKING:
    from ratelimit_mail.events import Listener, Teller
    from ratelimit_mail.events.watch import Watch

__all__ = ["Observing", "Seen"]


class Seen(NamedTuple):
    """A message, how it was decided on, and in whose line it was booked, if it was."""

    envelope: Envelope
    plan: Plan
    decision: Decision
    verdict: Verdict | None
    line_of: str | None = None


class Observing:
    """What one limiter does about its decisions; it never changes what they say.

    is_idle: whether that is nothing.
    """

    def __init__(
        self,
        policy: Policy,
        asking: Asking,
        on_event: Listener | Sequence[Listener] | Teller | None,
    ) -> None:
        self._asking = asking
        self._queue = policy.queue(shadow=True)
        self._watch = None if on_event is None else _watch(policy, on_event)
        self.is_idle = self._watch is None and not policy.has_shadows

    def script(self, backend: Any, seen: Seen) -> Script[Decision]:
        """The decision, with what limits that only report say, and told to those who listen."""
        envelope, plan, decision, verdict, line_of = seen
        if plan.shadow is not None:
            line, patience = None, 0
            if line_of is not None and verdict is not None:
                line = (self._queue, line_of, BOOKING)
                patience = verdict.at - verdict.now
            shadow = yield from shadowing(
                backend, self._asking, envelope, plan.shadow, decision, line, patience
            )
            if shadow is not None:
                answer, receipt = shadow
                decision = attrs.evolve(decision, shadow=answer)
                if decision.claim is not None and receipt is not None:
                    decision.claim.append(receipt)
        if self._watch is not None:
            now = backend.present() if verdict is None else verdict.now
            yield from self._watch.seeing(backend, envelope, plan, decision, now)
        return decision


def _watch(policy: Policy, on_event: Listener | Sequence[Listener] | Teller) -> Watch:
    # Here, because most limiters have nobody to tell.
    from ratelimit_mail.events import Teller
    from ratelimit_mail.events.watch import Watch

    return Watch(policy, on_event if isinstance(on_event, Teller) else Teller(on_event))
