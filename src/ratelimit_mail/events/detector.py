"""EventDetector: derives events from a limiter's decisions, and hands them to a dispatcher."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail._util.steps import Steps, run
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Backend, Reading
from ratelimit_mail.counting.charge import Charge, Ledger
from ratelimit_mail.decision import ACCEPT, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.events import Dispatcher
from ratelimit_mail.events.denials import Denial, DenialPeriod, DenialTracker
from ratelimit_mail.events.expected_recipients import ExpectedRecipientsTracker
from ratelimit_mail.events.factory import (
    back_to_normal,
    denial_events,
    expected_recipients_exceeded,
    near_limit,
    subject_of_denial,
)
from ratelimit_mail.events.near_limit import NearLimitTracker, UsageQuery
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits

__all__ = ["EventDetector"]

MOST_SUBJECTS: Final = 100_000

LARGEST_BURST: Final = 1000


class EventDetector:
    """Derive events from every decision of one limiter, and dispatch them.

    near: the share of a limit that must be used for a NearLimit, above 0 and at most 1.
    burst, burst_seconds: how many denials after the first, within how many seconds, cause a
        BurstAfterDenial.
    most_subjects: the largest number of subjects to remember. If there are more, the oldest are
        forgotten, and may be reported again.

    Each limiter reports each kind of event at most once per subject, limit and window of that
    limit. Several processes each report what they see. If one process does all the counting, it
    reports NearLimit with the message that reaches the mark. If other processes count too, it
    reports NearLimit with its next message of the subject, at most a twentieth of the window
    late, or ten seconds if that is longer. The same holds for reservations in the future.
    Thread-safe, and safe for event loops.
    """

    def __init__(
        self,
        policy: Policy,
        dispatcher: Dispatcher,
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
        self._policy = policy
        self._dispatcher = dispatcher
        self._lock = threading.Lock()
        self._warnings = RareWarnings(time.monotonic)
        self._usage = NearLimitTracker(near, most_subjects)
        self._denials = DenialTracker(burst, math.ceil(burst_seconds * 1000), most_subjects)
        self._expected = ExpectedRecipientsTracker(most_subjects)
        self.expects = any(each.expected_recipients is not None for each in policy.overrides)

    def size(self) -> int:
        """Return how many entries are remembered."""
        with self._lock:
            return len(self._usage) + len(self._denials) + len(self._expected)

    def observe_steps(
        self,
        backend: Any,
        envelope: Envelope,
        plan: ChargePlan,
        decision: Decision,
        now: int,
        *,
        expects: bool = True,
    ) -> Steps[None]:
        """Dispatch the events that follow from `decision`, made at `now`; never raise an Exception.

        backend: the backend whose counts are read if necessary, sync or async.
        expects: whether expected numbers of recipients are compared too.
        """
        try:
            queries = self._observe(envelope, plan, decision, now)
            for query in queries:
                yield from self._read_usage_steps(backend, envelope, query, now)
            if expects and self.expects and decision.action is ACCEPT and not decision.degraded:
                yield from self._expected_recipients_steps(backend, envelope, plan, now)
        except Exception as error:
            self._log_error(error)

    def marks(self, limits: EffectiveLimits, ledger: Ledger) -> tuple[tuple[int, int], ...]:
        """Return the units of a ledger with the usage from which a NearLimit is due."""
        return self._usage.marks(limits, ledger)

    def must_see(self, ledger: Ledger, subject: str, now: int) -> bool:
        """Return whether `observe_charge` may do anything for a subject far from each mark."""
        # Of a subject that is tracked, each charge is needed.
        return self._usage.is_tracked(ledger, subject) or self._denials.may_have_ended(now)

    def observe_charge(
        self,
        backend: Backend,
        envelope: Envelope,
        limits: EffectiveLimits,
        charge: Charge,
        now: int,
    ) -> None:
        """Do the same for an accepted message with one charge, if no override expects recipients.

        It needs no plan of the message, and takes a fifth of the time.
        """
        try:
            ended: Sequence[DenialPeriod] = ()
            with self._lock:
                if self._denials.may_have_ended(now):
                    ended = self._denials.pop_ended(now)
                query = self._usage.record_charge(limits, charge, now)
            for period in ended:
                self._dispatcher.dispatch(back_to_normal(self._policy.name, period, now))
            if query is not None:
                run(self._read_usage_steps(backend, envelope, query, now))
        except Exception as error:
            self._log_error(error)

    def _observe(
        self, envelope: Envelope, plan: ChargePlan, decision: Decision, now: int
    ) -> list[UsageQuery]:
        """Dispatch the events about denials, and return the counts that must be read."""
        queries: list[UsageQuery] = []
        denial: Denial | None = None
        accepted = decision.action is ACCEPT
        # A decision without a limit and without a rule is due to an outage.
        is_denial = not accepted and (decision.limit is not None or decision.rule is not None)
        subject = subject_of_denial(envelope, plan, decision.limit) if is_denial else ("", "")
        with self._lock:
            ended = self._denials.pop_ended(now)
            if is_denial:
                denial = self._denials.record(envelope, subject, decision, now)
            if plan.charges and not decision.degraded:
                queries = self._usage.record(plan, accepted, now)
        for period in ended:
            self._dispatcher.dispatch(back_to_normal(self._policy.name, period, now))
        if denial is not None:
            for event in denial_events(self._policy.name, envelope, decision, denial, now):
                self._dispatcher.dispatch(event)
        return queries

    def _read_usage_steps(
        self, backend: Any, envelope: Envelope, query: UsageQuery, now: int
    ) -> Steps[None]:
        """Read counts, and dispatch an event for each limit that reached its mark."""
        readings: Sequence[Sequence[Reading]] | None
        try:
            readings = yield partial(backend.usage, query.ledger, query.subject)
        except BackendError:
            readings = None
        with self._lock:
            reached = self._usage.update(query, readings, now)
        for limit, used in reached:
            if used <= limit.limit:  # above the limit, denials are reported instead
                event = near_limit(self._policy.name, envelope, query, limit, used, now)
                self._dispatcher.dispatch(event)

    def _expected_recipients_steps(
        self, backend: Any, envelope: Envelope, plan: ChargePlan, now: int
    ) -> Steps[None]:
        """Dispatch an event for each override whose expected number of recipients is passed."""
        if envelope.direction == "inbound":
            return
        overrides = self._policy.expecting_overrides(envelope, now)
        if not overrides:
            return
        subject, _ = self._policy.subject("sender", envelope.sender)
        with self._lock:
            query = self._expected.record(overrides, plan, subject, len(envelope.recipients), now)
        if query is None:
            return
        reading: int | None = None
        if query.ledger is not None:
            try:
                [[only]] = yield partial(backend.usage, query.ledger, query.subject)
                reading = only.used
            except BackendError:
                pass
        with self._lock:
            exceeded = self._expected.update(query, reading, now)
        for override, recipients in exceeded:
            event = expected_recipients_exceeded(
                self._policy.name, envelope, query, override, recipients, now
            )
            self._dispatcher.dispatch(event)

    def _log_error(self, error: Exception) -> None:
        """Log an unexpected error, at most once a minute; the decision stays as it is."""
        self._warnings.warn(
            "lost", "events are lost: %s: %s", type(error).__name__, show(str(error))
        )


def _number(name: str, value: Any, *, at_most: float | None = None, whole: bool = False) -> None:
    kinds, kind = (int, "a whole number") if whole else (int | float, "a number")
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{name}: {kind} is needed, not {show(value)}")
    if not 0 < value <= (math.inf if at_most is None else at_most):
        bound = "" if at_most is None else f" and at most {at_most}"
        raise ValueError(f"{name}: {show(value)} is not above 0{bound}")
