"""What the verbs of a limiter do, once for both colours; those of several steps as scripts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ratelimit_mail.backends.base import REFUSE, TAKE, Intent, Once, Verdict
from ratelimit_mail.charge import Charge
from ratelimit_mail.decision import ACCEPT, Action, Decision, Usage
from ratelimit_mail.envelope import NOBODY, Client, Envelope
from ratelimit_mail.exceptions import BackendError, BackendUnavailable, RateLimitExceeded
from ratelimit_mail.journal import warn
from ratelimit_mail.planning import Plan, keepings_of, queue_of
from ratelimit_mail.policy import Policy
from ratelimit_mail.scripts import Script
from ratelimit_mail.showing import show
from ratelimit_mail.subjects import named_subject, normal_scope
from ratelimit_mail.waiting import LONGEST_TURN, Line, Place

__all__ = ["Booked", "Verbs", "milliseconds"]

BOOKING: Final = (1, 0, 0, 0)
"""What one booking adds to a sender's queue."""


LONGEST_WAIT: Final = 10**12

LONGEST_MEMORY: Final = 366 * 24 * 3600 * 1000


class Booked(NamedTuple):
    """A booking: its decision, its time in milliseconds, and how many seconds ahead that is."""

    decision: Decision
    at: int
    delay: float


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


class Verbs:
    """The way from an envelope to charges, and from a verdict on them to a decision."""

    _backend: Any
    """Its methods give their results, or what to await for them; so does what follows."""
    _sleep: Callable[[float], Any]
    _turn: Callable[[Place, float], Any]
    """Waits until nobody is before a place, or so many seconds."""
    _book: Callable[[Sequence[Charge], Intent], Verdict | Any]
    """What the backend's `apply` does; a booking that nobody waits for any more is taken back."""

    def __init__(self, policy: Policy, remember: float) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"policy: a Policy is needed, not {show(policy)}")
        self._policy = policy
        self._plan = policy.planner()
        self._queue = queue_of(policy.name, keepings_of(policy.all_limits), policy.shard)
        self._remembered = milliseconds("remember", remember) or 0
        if not 0 < self._remembered <= LONGEST_MEMORY:
            raise ValueError(
                f"remember: {show(remember)} is no number of seconds from 0.001 to a year"
            )
        self._line = Line()

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._policy

    def _decide(self, plan: Plan, verdict: Verdict | None) -> Decision:
        """The decision on a plan; without a verdict, on one that needs no backend."""
        if plan.never is not None:
            return Decision(Action.REJECT, None, plan.never, plan.sheet.tier)
        if verdict is None:
            return Decision(ACCEPT, 0.0, None, plan.sheet.tier, [self, None])
        if verdict.refusals:
            return self._refused(plan, verdict)
        if verdict.degraded:
            return self._degraded(plan, verdict)
        return Decision(ACCEPT, 0.0, None, plan.sheet.tier, [self, verdict.receipt])

    def _degraded(self, plan: Plan, verdict: Verdict) -> Decision:
        """The decision that no limit had a part in, because the backend is away."""
        claim = [self, verdict.receipt]
        if verdict.receipt is None and verdict.at > verdict.now:
            action, wait = Action.DEFER, (verdict.at - verdict.now) / 1000
            return Decision(action, wait, None, plan.sheet.tier, None, degraded=True)
        return Decision(ACCEPT, 0.0, None, plan.sheet.tier, claim, degraded=True)

    def _intent(self, plan: Plan, envelope: Envelope) -> Intent:
        """What `try_acquire` asks of a backend."""
        if envelope.id is None:
            return TAKE if plan.never is None else REFUSE
        return Intent(refused=plan.never is not None, once=self._once(plan, envelope, "take"))

    def _once(self, plan: Plan, envelope: Envelope, verb: str) -> Once | None:
        """How the backend knows the same question again, whatever the strangers in it wrote."""
        if envelope.id is None:
            return None
        import hashlib  # slow to import, and not all have ids

        asked = [self._policy.name, plan.sheet.tier or "", verb, envelope.id, envelope.sender]
        asked += envelope.recipients
        for ledger, subject, costs in plan.charges:
            asked += ledger.name, subject, str([costs[count.unit] for count in ledger.counts])
        # No part holds a line break.
        name = hashlib.blake2b("\n".join(asked).encode(), digest_size=16).hexdigest()
        return Once(name, self._remembered)

    def _refused(self, plan: Plan, verdict: Verdict) -> Decision:
        """The decision on charges that do not fit, and the limit that speaks.

        That is one that rejects before one that defers, then the one that holds longest.
        """
        harshest: tuple[bool, int] | None = None
        for count, window, room_at in verdict.refusals:
            refusing = plan.sheet.limit_of(count, window)
            rank = (refusing.on_excess == "reject", room_at)
            if harshest is None or rank > harshest:
                limit, harshest = refusing, rank
        action = Action.REJECT if limit.on_excess == "reject" else Action.DEFER
        wait = (verdict.at - verdict.now) / 1000
        return Decision(action, wait, limit, plan.sheet.tier, degraded=verdict.degraded)

    def _trying_many(self, envelopes: Iterable[Envelope]) -> Script[list[Decision]]:
        plans = [(self._plan(envelope), envelope) for envelope in envelopes]
        messages = [
            (plan.charges, self._intent(plan, envelope)) for plan, envelope in plans if plan.charges
        ]
        verdicts: Iterator[Verdict] = iter(())
        if messages:
            verdicts = iter((yield lambda: self._backend.apply_many(messages)))
        return [self._decide(plan, next(verdicts) if plan.charges else None) for plan, _ in plans]

    def _reserving(self, envelope: Envelope, patience: int | None) -> Script[Booked]:
        plan = self._plan(envelope)
        if plan.never is not None:
            if plan.charges:
                refused = self._intent(plan, envelope)
                yield lambda: self._backend.apply(plan.charges, refused)
            raise RateLimitExceeded(self._decide(plan, None))
        if not plan.charges:
            return Booked(self._decide(plan, None), time.time_ns() // 1_000_000, 0.0)
        once = self._once(plan, envelope, "book")
        line = (self._queue, envelope.sender, BOOKING)
        intent = Intent(line=line, patience=patience, once=once)
        verdict: Verdict = yield lambda: self._book(plan.charges, intent)
        if verdict.degraded and not verdict.refusals:
            decision = self._degraded(plan, verdict)
            if not decision:
                raise RateLimitExceeded(decision)
        elif verdict.receipt is None:
            raise RateLimitExceeded(self._refused(plan, verdict))
        return Booked(self._decide(plan, verdict), verdict.at, (verdict.at - verdict.now) / 1000)

    def _acquiring(self, envelope: Envelope, patience: int | None) -> Script[Decision]:
        """A reservation, and a sleep until its time; a wait that is cut short is taken back."""
        number = self._line.number()
        decision, at, delay = yield from self._reserving(envelope, patience)
        if not _is_counted(decision):
            return decision
        place: Place | None = None
        try:
            place = self._line.join(envelope.sender, at, number)
            if delay > 0:
                yield lambda: self._sleep(delay)
            if not self._line.is_first(place):
                spare = math.inf if patience is None else patience / 1000 - delay
                yield lambda: self._turn(place, min(spare, LONGEST_TURN))
        except BaseException:
            try:
                yield from self._refunding(decision)
            except BackendError as error:  # which must not hide why the wait was broken off
                warn("a wait that was broken off stays counted: %s", error)
            raise
        finally:
            if place is not None:
                self._line.leave(place)
        return decision

    def _refunding(self, decision: Decision) -> Script[None]:
        receipt = self._claimed(decision)
        if receipt is not None:
            try:
                yield lambda: self._backend.take_out(receipt)
            except BackendError as error:
                # Where only the answer was lost, a second try could take another's charge out.
                if not isinstance(error, BackendUnavailable) or error.safe_to_repeat:
                    decision.claim.append(receipt)  # type: ignore[union-attr]
                raise

    def _claimed(self, decision: Decision) -> Any:
        """What a refund must take out; whoever comes second finds it gone."""
        if not isinstance(decision, Decision):
            raise TypeError(f"a Decision is needed, not {show(decision)}")
        if decision.claim is None:
            raise ValueError(f"nothing to refund: {decision} was not accepted, or only looked at")
        if decision.claim[0] is not self:
            raise ValueError(f"{decision} is another limiter's; it must be refunded there")
        try:
            return decision.claim.pop(1)
        except IndexError:
            raise ValueError(f"{decision} has been refunded or cancelled already") from None

    def _using(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        client: Client | None,
    ) -> Script[tuple[Usage, ...]]:
        if not isinstance(client, Client | None):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        named = named_subject(scope, subject)
        sheet = self._policy.sheet(client or NOBODY)
        ledger = sheet.ledger_of(normal_scope(scope))
        if ledger is None:
            return ()
        readings = yield lambda: self._backend.read(ledger, named)
        return tuple(
            Usage(sheet.limit_of(count, i), each.used, each.remaining, each.empty_in / 1000)
            for count, of_count in zip(ledger.counts, readings, strict=True)
            for i, each in enumerate(of_count)
        )

    def _resetting(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Script[None]:
        named = named_subject(scope, subject)
        ledgers = self._policy.ledgers_of(normal_scope(scope))
        if normal_scope(scope) == ("sender",):
            ledgers.append(self._queue)
        yield lambda: self._backend.forget(ledgers, named)


def _is_counted(decision: Decision) -> bool:
    """Whether there is anything that a refund would take out."""
    return decision.claim is not None and decision.claim[1] is not None
