"""What the verbs of a limiter do, once for both colours; those of several steps as scripts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from ratelimit_mail._util.logger import warn
from ratelimit_mail._util.steps import Script
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Intent, Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.counting.charge import Charge
from ratelimit_mail.decision import Decision, Usage
from ratelimit_mail.envelope import NOBODY, Client, Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter.fast_path import ShortWay, short_way
from ratelimit_mail.limiter.intents import Asking
from ratelimit_mail.limiter.observers import Observing, Seen
from ratelimit_mail.limiter.partial import Parts
from ratelimit_mail.limiter.refunds import claimed, refunding
from ratelimit_mail.limiter.shadow import BOOKING, looking, looking_aside
from ratelimit_mail.limiter.verdicts import decide
from ratelimit_mail.limiter.wait_queue import LONGEST_TURN, Line, Place
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import Plan
from ratelimit_mail.scopes import normal_scope

if TYPE_CHECKING:
    from ratelimit_mail.events import Listener, Teller

__all__ = ["Booked", "Verbs", "milliseconds"]


LONGEST_WAIT: Final = 10**12

LONGEST_MEMORY: Final = 366 * 24 * 3600 * 1000


class Booked(NamedTuple):
    """A booking: its decision, its time in milliseconds, and how many seconds ahead that is.

    line_of: in whose line it stands; None where nothing is counted.
    """

    decision: Decision
    at: int
    delay: float
    line_of: str | None = None


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
    _plan: Callable[[Envelope], Plan]
    _sleep: Callable[[float], Any]
    _turn: Callable[[Place, float], Any]
    """Waits until nobody is before a place, or so many seconds."""
    _book: Callable[[Sequence[Charge], Intent], Verdict | Any]
    """What the backend's `apply` does; a booking that nobody waits for any more is taken back."""

    def __init__(
        self,
        policy: Policy,
        remember: float,
        node: str | None,
        on_event: Listener | Sequence[Listener] | Teller | None,
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
        self._asking = Asking(self._policy.counted_as, remembered)
        self._line = Line()
        self._observing = Observing(self._policy, self._asking, on_event)
        self._is_plain = self._observing.is_idle and not self._policy.partial
        """Whether a decision is all there is to it."""

    def _short_way(self, backend: object) -> ShortWay | None:
        """The short way, where messages are counted in memory and nothing else is to be done."""
        chooser = self._policy.chooser_by_tier
        if not self._is_plain or chooser is None or type(backend) is not MemoryBackend:
            return None
        return short_way(chooser, backend, self)

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._policy

    def _checking(self, envelope: Envelope) -> Script[Decision]:
        decisions = []
        whole = Parts(self._policy, envelope)
        for part in whole.envelopes:
            plan = self._plan(part)
            decision = yield from looking(self._backend, plan)
            if plan.shadow is not None:
                shadow = yield from looking_aside(self._backend, plan.shadow)
                decision = attrs.evolve(decision, shadow=shadow)
            decisions.append(decision)
        return whole.together(decisions, None)

    def _trying(self, envelope: Envelope) -> Script[Decision]:
        [decision] = yield from self._trying_many([envelope])
        return decision

    def _trying_many(self, envelopes: Iterable[Envelope]) -> Script[list[Decision]]:
        wholes = [Parts(self._policy, envelope) for envelope in envelopes]
        plans = [(self._plan(part), part) for whole in wholes for part in whole.envelopes]
        messages = [
            (plan.charges, self._asking.intent(plan, part)) for plan, part in plans if plan.charges
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
                seen = Seen(part, plan, decision, verdict)
                decision = yield from self._observing.script(self._backend, seen)
            decisions.append(decision)
        answered = iter(decisions)
        return [whole.together(list(islice(answered, len(whole))), self) for whole in wholes]

    def _reserving(self, envelope: Envelope, patience: int | None) -> Script[Booked]:
        plan = self._plan(envelope)
        verdict: Verdict | None = None
        line_of: str | None = None
        if plan.charges and plan.never is not None:
            yield partial(self._backend.apply, plan.charges, self._asking.intent(plan, envelope))
        elif plan.charges:
            once = self._asking.once(plan, envelope, "book")
            line_of = self._policy.owner(envelope.sender)
            line = (self._queue, line_of, BOOKING)
            intent = Intent(line=line, patience=patience, once=once)
            verdict = yield partial(self._book, plan.charges, intent)
        decision = decide(plan, verdict, self)
        if not self._is_plain:
            seen = Seen(envelope, plan, decision, verdict, line_of)
            try:
                decision = yield from self._observing.script(self._backend, seen)
            except BaseException:
                yield from self._giving_back(decision)
                raise
        if not decision:
            raise RateLimitExceeded(decision)
        if verdict is None:
            return Booked(decision, time.time_ns() // 1_000_000, 0.0)
        return Booked(decision, verdict.at, (verdict.at - verdict.now) / 1000, line_of)

    def _acquiring(self, envelope: Envelope, patience: int | None) -> Script[Decision]:
        """A reservation, and a sleep until its time; a wait that is cut short is taken back."""
        number = self._line.number()
        decision, at, delay, line_of = yield from self._reserving(envelope, patience)
        if line_of is None or not _is_counted(decision):
            return decision
        place: Place | None = None
        try:
            place = self._line.join(line_of, at, number)
            if delay > 0:
                yield lambda: self._sleep(delay)
            if not self._line.is_first(place):
                spare = math.inf if patience is None else patience / 1000 - delay
                yield lambda: self._turn(place, min(spare, LONGEST_TURN))
        except BaseException:
            yield from self._giving_back(decision)
            raise
        finally:
            if place is not None:
                self._line.leave(place)
        return decision

    def _giving_back(self, decision: Decision) -> Script[None]:
        """Take out what a wait was charged that is broken off."""
        if _is_counted(decision):
            try:
                yield from self._refunding(decision)
            except BackendError as error:  # which must not hide why the wait was broken off
                warn("a wait that was broken off stays counted: %s", error)

    def _refunding(self, decision: Decision) -> Script[None]:
        return refunding(self._backend, claimed(decision, self))

    def _using(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        client: Client | None,
    ) -> Script[tuple[Usage, ...]]:
        if not isinstance(client, Client | None):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        named, sender = self._policy.subject(scope, subject)
        ordered = normal_scope(scope)
        sheet = self._policy.sheet(client or NOBODY, sender, self._backend.present())
        usages: list[Usage] = []
        for ledger in sheet.ledgers_of(ordered):
            readings = yield partial(self._backend.read, ledger, named)
            usages += (
                Usage(sheet.limit_of(count, i), each.used, each.remaining, each.empty_in / 1000)
                for count, of_count in zip(ledger.counts, readings, strict=True)
                for i, each in enumerate(of_count)
            )
        return tuple(usages)

    def _resetting(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Script[None]:
        named, _ = self._policy.subject(scope, subject)
        ledgers = self._policy.ledgers_of(normal_scope(scope))
        if normal_scope(scope) == ("sender",):
            ledgers += self._queue, self._policy.queue(shadow=True)
        yield lambda: self._backend.forget(ledgers, named)


def _is_counted(decision: Decision) -> bool:
    """Whether there is anything that a refund would take out."""
    return decision.claim is not None and decision.claim[1] is not None
