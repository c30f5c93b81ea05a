"""Watch: from decisions to events."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Reading
from ratelimit_mail.decision import ACCEPT, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.events import Dispatcher
from ratelimit_mail.events.denials import DenialTracker, Refused
from ratelimit_mail.events.factory import (
    back_to_normal,
    near_limit,
    refusal_events,
    refused_subject,
)
from ratelimit_mail.events.near_limit import NearLimits, ToRead
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan

__all__ = ["Watch"]

MOST_SUBJECTS: Final = 100_000

LARGEST_BURST: Final = 1000

WARN_EVERY: Final = 60.0
"""Seconds between two lines in the log about what should not be."""


class Watch:
    """Sees every decision of one limiter, and has the events told that follow from it.

    near: the part of a limit that must be used for a NearLimit, above 0 and at most 1.
    burst, burst_seconds: how many refusals after the first, within how many seconds, make a
        BurstAfterDenial.
    most_subjects: of how many subjects anything is remembered; for more, the oldest are
        forgotten, and may be told of again.

    Each kind of event is told at most once per subject, limit and window of that limit, by each
    limiter: several processes each tell what they see. NearLimit is told with the very message
    that reaches the mark where one process does all the counting; where others count too, at most
    a twentieth of the window later, or ten seconds where that is more, with this process's next
    message of the subject. The same holds for what was booked for a future moment. Safe for
    threads and event loops.
    """

    def __init__(
        self,
        policy: Policy,
        teller: Dispatcher,
        *,
        near: float = 0.8,
        burst: int = 10,
        burst_seconds: float = 60.0,
        most_subjects: int = MOST_SUBJECTS,
    ) -> None:
        _number("near", near, at_most=1)
        _number("burst", burst, at_most=LARGEST_BURST, whole=True)
        _number("burst_seconds", burst_seconds, at_most=24 * 3600)
        _number("most_subjects", most_subjects, whole=True)
        self._policy = policy.name
        self._teller = teller
        self._lock = threading.Lock()
        self._complains_again = 0.0
        self._nearness = NearLimits(near, most_subjects)
        self._denials = DenialTracker(burst, math.ceil(burst_seconds * 1000), most_subjects)

    def size(self) -> int:
        """How many entries it remembers."""
        with self._lock:
            return len(self._nearness) + len(self._denials)

    def seeing(
        self, backend: Any, envelope: Envelope, plan: ChargePlan, decision: Decision, now: int
    ) -> Steps[None]:
        """See `decision` on `envelope`, made at `now`; never raises an Exception.

        backend: whose counts are read, where they must be; it gives readings, or what to await
            for them.
        """
        to_read = self.look(envelope, plan, decision, now)
        if to_read:
            yield from self.reading(backend, envelope, to_read, now)

    def look(
        self, envelope: Envelope, plan: ChargePlan, decision: Decision, now: int
    ) -> list[ToRead] | None:
        """The first half of `seeing`, which waits for nothing: what `reading` must then read."""
        try:
            return self._look(envelope, plan, decision, now)
        except Exception as error:
            self._complain(error)
            return None

    def _look(
        self, envelope: Envelope, plan: ChargePlan, decision: Decision, now: int
    ) -> list[ToRead] | None:
        to_read: list[ToRead] | None = None
        refused: Refused | None = None
        accepted = decision.action is ACCEPT
        # What is neither a limit's word nor a rule's is an outage's.
        is_refusal = not accepted and (decision.limit is not None or decision.rule is not None)
        subject = refused_subject(envelope, plan, decision.limit) if is_refusal else ("", "")
        with self._lock:
            over = self._denials.over(now)
            if is_refusal:
                refused = self._denials.refuse(envelope, subject, decision, now)
            if plan.charges and not decision.degraded:
                to_read = self._nearness.spend(plan, accepted, now)
        for denied in over:
            self._teller.tell(back_to_normal(self._policy, denied, now))
        if refused is not None:
            for event in refusal_events(self._policy, envelope, decision, refused, now):
                self._teller.tell(event)
        return to_read

    def reading(
        self, backend: Any, envelope: Envelope, to_read: list[ToRead], now: int
    ) -> Steps[None]:
        """The second half of `seeing`: read counts, and have told what is near its limit."""
        try:
            for asked in to_read:
                readings: Sequence[Sequence[Reading]] | None
                try:
                    readings = yield partial(backend.usage, asked.ledger, asked.subject)
                except BackendError:
                    readings = None
                with self._lock:
                    reached = self._nearness.learn(asked, readings, now)
                for limit, used in reached:
                    if used <= limit.limit:  # above it, refused attempts are told of instead
                        event = near_limit(self._policy, envelope, asked, limit, used, now)
                        self._teller.tell(event)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Log what should not be, once a minute; the decision is not harmed."""
        moment = time.monotonic()
        if moment >= self._complains_again:
            self._complains_again = moment + WARN_EVERY
            log_warning("events are lost: %s: %s", type(error).__name__, show(str(error)))


def _number(name: str, value: object, *, at_most: float | None = None, whole: bool = False) -> None:
    kinds, kind = (int, "a whole number") if whole else (int | float, "a number")
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name}: {kind} is needed, not {show(value)}")
    if not 0 < value <= (math.inf if at_most is None else at_most):
        bound = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name}: {show(value)} is not above 0{bound}")
