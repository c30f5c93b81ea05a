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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.steps import Steps
from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.backends.base import Intent, Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.counting.charge import ONE_MESSAGE, Charge, Ledger
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import NOBODY, Client, Envelope
from ratelimit_mail.exceptions import BackendError, BackendUnavailable, RateLimitExceeded
from ratelimit_mail.limiter.blocks import Blocks
from ratelimit_mail.limiter.fast_path import fast_paths
from ratelimit_mail.limiter.intents import Intents
from ratelimit_mail.limiter.observers import DecidedMessage, Observers
from ratelimit_mail.limiter.partial import MessageDecisions
from ratelimit_mail.limiter.refunds import (
    ENVELOPE,
    RECEIPTS,
    Receipts,
    envelope_of,
    is_settled,
    mark_settled,
    receipts_of,
    refund_steps,
    take_receipts,
    tokens_of,
)
from ratelimit_mail.limiter.shadow import answer_to_check, check_shadow_steps, check_steps
from ratelimit_mail.limiter.verdicts import blocking_limit, decide, refused
from ratelimit_mail.limiter.wait_queue import LONGEST_WAIT_FOR_FIRST, Waiter, WaitQueue
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import ChargePlan, EffectiveLimits
from ratelimit_mail.scopes import Scope, envelope_values, normal_scope, split_subject

if TYPE_CHECKING:
    from ratelimit_mail.events import Dispatcher, Listener, Recorder
    from ratelimit_mail.rules import Block
    from ratelimit_mail.usage import SubjectUsage, Usage

__all__ = ["Booking", "Operations", "milliseconds"]

LONGEST_WAIT: Final = 10**12
"""Seconds; a longer timeout is no timeout."""

MOST_EARLY: Final = 2
"""How often a sleep may end before the booked time by the backend's clock."""

MOST_IN_TOP: Final = 10_000

MORE_WITH_CONCESSIONS: Final = 100
"""How many subjects more `top` looks at if some senders have limits of their own."""

LONGEST_MEMORY: Final = 366 * 24 * 3600 * 1000


class Booking(NamedTuple):
    """A booked message: its decision, its time in milliseconds, and the seconds until then.

    limits, charges: the limits that apply to it, and what it was charged.
    queue_subject: the sender in whose queue it stands; None if nothing was charged.
    """

    decision: Decision
    at: int
    delay: float
    limits: EffectiveLimits
    charges: Sequence[Charge] = ()
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
    if not seconds >= 0:  # NaN included; an int may be too large for a float
        raise ValueError(
            f"{name}: {show(seconds)} is not a number of seconds; 0 or more are needed"
        )
    # Rounded first: 1.001 * 1000 is a little less than 1001.
    return int(round(seconds * 1000, 6))


class Operations:
    """The operations of one limiter, sync or async.

    backend: its methods return results; those of an AsyncLimiter's return awaitables of them.
    store: the backend that the caller gave, without what answers during an outage.
    sleep: waits for a number of seconds.
    wait_until_first: waits until a waiter is first in its queue, at most so many seconds.
    apply_booking: `backend.apply` for a booking; it refunds a booking whose caller is gone.
    finish: runs steps to their end, also if the caller is cancelled meanwhile, or interrupted by a
        signal handler. A second argument is the exception that the caller ends with.
    finish_closed: begins to run steps to their end, and returns; for a caller that is closed.
    remember, node, on_event, metrics: as `Limiter` documents them.

    queue: the ledger of its senders' queues.
    fast_paths: what decides on most messages in memory; None elsewhere.
    """

    def __init__(
        self,
        policy: Policy,
        backend: Any,
        store: object,
        *,
        sleep: Callable[[float], Any],
        wait_until_first: Callable[[WaitQueue, Waiter, float], Any],
        apply_booking: Callable[[Sequence[Charge], Intent], Any],
        finish: Callable[..., Any],
        finish_closed: Callable[[Steps[None]], None],
        remember: float,
        node: str | None,
        on_event: Listener | Sequence[Listener] | Dispatcher | None,
        metrics: Recorder | None = None,
    ) -> None:
        self.policy = policy.at_node(node)
        self.plan: Callable[[Envelope], ChargePlan] = self.policy.planner(backend.now)
        self.backend = backend
        self._sleep = sleep
        self._wait_until_first = wait_until_first
        self._apply_booking = apply_booking
        self.finish = finish
        self._finish_closed = finish_closed
        self.queue = self.policy.queue()
        lifetime = milliseconds("remember", remember) or 0
        if not 0 < lifetime <= LONGEST_MEMORY:
            raise ValueError(
                f"remember: {show(remember)} is not a number of seconds from 0.001 to a year"
            )
        self._intents = Intents(self.policy.counted_as, lifetime, self.policy.comparison)
        self.intent = self._intents.intent
        self._wait_queue = WaitQueue()
        self.observers = Observers(self.policy, self._intents, on_event, metrics)
        self._metrics = metrics
        self.blocks = Blocks(self.policy, backend, store)
        self.counts_in_memory = isinstance(store, MemoryBackend)
        self.is_plain = (
            self.observers.is_idle and not self.policy.partial and not self.policy.blocks_on_excess
        )
        """Whether a message needs only a decision: no shadow limits, events, parts or lock-out."""
        self.fast_paths = fast_paths(self, store)

    @property
    def measures_waits(self) -> bool:
        """Whether each wait is measured, also one of no length."""
        return self._metrics is not None

    def decide(self, plan: ChargePlan, verdict: Verdict | None, envelope: Envelope) -> Decision:
        """Return the decision on a plan; `verdict` is None if nothing was charged."""
        return decide(plan, verdict, self, envelope)

    def check_without_steps(self, envelope: Envelope) -> Decision | ChargePlan | None:
        """Return the answer of `Limiter.check`, or the plan whose charges decide it alone.

        None if it takes `check_steps`.
        """
        paths = self.fast_paths
        if paths is not None and (decision := paths.check(envelope)) is not None:
            return decision
        if not self.is_plain or self.blocks.concern(envelope):
            return None
        plan = self.plan(envelope)
        if not plan.charges or plan.never is not None:
            return answer_to_check(plan, None)
        return plan

    def check_steps(self, envelope: Envelope) -> Steps[Decision]:
        """See `Limiter.check`."""
        decisions = []
        message = MessageDecisions(self.policy, envelope)
        plans = [(part, self.plan(part)) for part in message.envelopes]
        yield from self.blocks.refresh_steps(is_charged=any(plan.charges for _, plan in plans))
        for part, plan in plans:
            if (block := self.blocks.find(part)) is not None:
                decisions.append(self.blocks.decision(block, plan.effective_limits.tier))
                continue
            decision = yield from check_steps(self.backend, plan)
            if plan.shadow is not None and plan.shadow.effective_limits.limits:
                shadow = yield from check_shadow_steps(self.backend, plan.shadow)
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
        planned = [(self.plan(part), part) for message in messages for part in message.envelopes]
        yield from self.blocks.refresh_steps(is_charged=any(plan.charges for plan, _ in planned))
        plans = [(plan, part, self.blocks.find(part)) for plan, part in planned]
        requests = [
            (plan.charges, self.intent(plan, part))
            for plan, part, block in plans
            if plan.charges and block is None
        ]
        verdicts: Iterator[Verdict] = iter(())
        if len(requests) == 1:  # one shard of a cluster may be away while others answer
            verdicts = iter([(yield partial(self.backend.apply, *requests[0]))])
        elif requests:
            verdicts = iter((yield partial(self.backend.apply_many, requests)))
        decisions = []
        for plan, part, block in plans:
            if block is not None:
                decision = self.blocks.decision(block, plan.effective_limits.tier)
                self.observers.record(decision)
                decisions.append(decision)
                continue
            verdict = next(verdicts) if plan.charges else None
            decision = self.decide(plan, verdict, part)
            if (limit := blocking_limit(decision)) is not None:
                yield from self._block_excess_steps(part, limit)
            if not self.is_plain:
                decided = DecidedMessage(part, plan, decision, verdict)
                decision = yield from self.observers.observe_steps(self.backend, decided)
            decisions.append(decision)
        remaining = iter(decisions)
        return [
            message.combine(list(islice(remaining, len(message))), self) for message in messages
        ]

    def reserve_steps(self, envelope: Envelope, max_delay: int | None) -> Steps[Booking]:
        """See `Limiter.reserve`; `max_delay` is in milliseconds."""
        plan = self.plan(envelope)
        tier, is_charged = plan.effective_limits.tier, bool(plan.charges)
        yield from self._check_blocks_steps(envelope, tier, is_charged=is_charged)
        verdict: Verdict | None = None
        queue_subject: str | None = None
        if plan.charges and plan.never is not None:
            verdict = yield partial(self.backend.apply, plan.charges, self.intent(plan, envelope))
        elif plan.charges and not plan.is_limited:  # recorded for other tiers, and goes at once
            intent = self.intent(plan, envelope, "book")
            verdict = yield partial(self.backend.apply, plan.charges, intent)
        elif plan.charges:
            queue_subject = self.policy.sender_subject(envelope)
            intent = Intent(
                queue=(self.queue, queue_subject, ONE_MESSAGE),
                max_delay=max_delay,
                idempotency=self._intents.idempotency(plan, envelope, "book"),
            )
            verdict = yield partial(self._apply_booking, plan.charges, intent)
        decision = self.decide(plan, verdict, envelope)
        if not self.is_plain:
            decided = DecidedMessage(envelope, plan, decision, verdict, queue_subject)
            try:
                decision = yield from self.observers.observe_steps(self.backend, decided)
            except BaseException as error:
                yield from self.finish_after_steps(error, self._give_back_steps(decision))
                raise
        if not decision:
            raise RateLimitExceeded(decision)
        if verdict is None:
            return Booking(decision, time.time_ns() // 1_000_000, 0.0, plan.effective_limits)
        delay = (verdict.at - verdict.now) / 1000
        return Booking(
            decision, verdict.at, delay, plan.effective_limits, plan.charges, queue_subject
        )

    def _check_blocks_steps(
        self, envelope: Envelope, tier: str | None, *, is_charged: bool = True
    ) -> Steps[None]:
        """Raise RateLimitExceeded if `envelope` is blocked."""
        yield from self.blocks.refresh_steps(is_charged=is_charged)
        if (block := self.blocks.find(envelope)) is not None:
            decision = self.blocks.decision(block, tier)
            self.observers.record(decision)
            raise RateLimitExceeded(decision)

    def acquire_steps(self, envelope: Envelope, timeout: int | None) -> Steps[Decision]:
        """See `Limiter.acquire`: a booking, a sleep until its time, and its redemption.

        timeout: in milliseconds. A wait that is cut short gives its booking back, also if these
        steps are closed.
        """
        begin = 0 if self._metrics is None else self.backend.now()
        number = self._wait_queue.next_number()
        booking = yield from self.reserve_steps(envelope, timeout)
        decision, at, delay, _, _, queue_subject = booking
        if queue_subject is None or not _is_refundable(decision):
            return self._measured(decision, begin)
        if decision.repeated and timeout is not None and delay > timeout / 1000:
            # It was booked by an earlier call, which may have had more time: it stays booked.
            redeemed, _ = yield partial(self.finish, self._redeem_steps(booking))
            if not redeemed:
                raise RateLimitExceeded(redeemed)
            return self._measured(decision, begin)
        spare = math.inf if timeout is None else timeout / 1000
        early, first_at = 0, at
        try:
            while True:
                spare -= delay
                # A message that is booked anew stays ahead of its sender's later ones.
                waiter = self._wait_queue.join(queue_subject, first_at, number)
                try:
                    if delay > 0:
                        yield partial(self._sleep, delay)
                    has_waited = delay > 0
                    while not self._wait_queue.is_first(waiter):
                        has_waited = True
                        longest = min(spare, LONGEST_WAIT_FOR_FIRST)
                        yield partial(self._wait_until_first, self._wait_queue, waiter, longest)
                    # It could go at once, and has not waited; with an id, perhaps since long ago.
                    if not has_waited and not decision.repeated:
                        return self._measured(decision, begin)
                    yield from self._check_blocks_steps(envelope, decision.tier)
                    redeemed, booked_at = yield partial(self.finish, self._redeem_steps(booking))
                except BackendUnavailable:  # its place stands, and its time has come
                    return self._measured(decision, begin)
                finally:
                    self._wait_queue.leave(waiter)
                is_early = booked_at == at and delay > 0
                early += is_early
                # A sleep that keeps ending too early, by the backend's clock, is taken at its word.
                # In an outage the place stands as it was booked.
                if redeemed or redeemed.degraded or early > MOST_EARLY:
                    return self._measured(decision, begin)
                # It woke too early, or messages settled meanwhile took its room.
                delay, at = redeemed.retry_after or 0.0, booked_at
                if delay > spare and not is_early:
                    raise RateLimitExceeded(redeemed)
        except BaseException as error:
            yield from self.finish_after_steps(error, self._give_back_steps(decision))
            raise

    def _measured(self, decision: Decision, begin: int) -> Decision:
        """Measure how long a message has waited since `begin`."""
        if self._metrics is not None:
            seconds = max(0, self.backend.now() - begin) / 1000
            self._metrics.waited(self.policy.name, seconds)
        return decision

    def redeem_steps(self, booking: Booking) -> Steps[Decision]:
        """See `Reservation.redeem`."""
        decision, _ = yield from self._redeem_steps(booking)
        return decision

    def _redeem_steps(self, booking: Booking) -> Steps[tuple[Decision, int]]:
        """Redeem a booking; return the decision and the time for which it is booked now."""
        decision = booking.decision
        token = decision.refund_token
        if token is None or len(token) <= RECEIPTS:
            raise ValueError("the reservation was cancelled or refunded, so it cannot be used")
        if is_settled(token):
            raise ValueError("the message of the reservation was settled: it has been sent")
        if token[RECEIPTS] is None or booking.queue_subject is None:  # nothing limits it
            return decision, booking.at
        yield from self.blocks.refresh_steps()
        if (block := self.blocks.find(token[ENVELOPE])) is not None:
            return self.blocks.decision(block, decision.tier), booking.at
        verdict: Verdict = yield partial(self.backend.redeem, token[RECEIPTS], booking.charges)
        if verdict.receipt is not None:
            token[RECEIPTS] = verdict.receipt
        if verdict.refusals:
            return refused(booking.limits, verdict), verdict.at
        if verdict.at > verdict.now:  # the backend is away
            wait = (verdict.at - verdict.now) / 1000
            away = Decision(Action.DEFER, wait, None, decision.tier, degraded=True)
            return away, verdict.at
        for number in range(RECEIPTS + 1, len(token)):
            with suppress(BackendError):  # shadow limits never change a decision
                token[number] = yield partial(self.backend.settle, token[number])
        return decision, verdict.at

    def settle_steps(self, decision: Decision, not_reached: Collection[str]) -> Steps[None]:
        """See `Limiter.settle`; `not_reached` are the recipients that were refused."""
        for token, recipients in tokens_of(decision, self):
            envelope = envelope_of(token)
            reached = [
                each for each in recipients or envelope.recipients if each not in not_reached
            ]
            if not reached:
                yield from refund_steps(self.backend, receipts_of([token]))
                continue
            plan: ChargePlan | None = None
            if recipients is None and len(reached) < len(envelope.recipients):
                plan = self.plan(attrs.evolve(envelope, recipients=reached))
                if plan.never is not None:  # the limits have changed since: all of it is charged
                    plan = None
            for number, receipt in enumerate(token[RECEIPTS:], RECEIPTS):
                if receipt is None:
                    continue
                charges = None if plan is None else plan.charges
                if plan is not None and number > RECEIPTS and plan.shadow is not None:
                    charges = plan.shadow.charges
                token[number] = yield partial(self.backend.settle, receipt, charges)
            mark_settled(token)

    def is_settled(self, decision: Decision) -> bool:
        """Return whether a decision was settled or refunded by hand."""
        return all(
            is_settled(token) or len(token) <= RECEIPTS for token, _ in tokens_of(decision, self)
        )

    def refund_envelope_steps(self, envelope: Envelope) -> Steps[None]:
        """See `Limiter.refund`: take out what an envelope with an id was charged."""
        if envelope.id is None:
            raise ValueError("an Envelope without an id cannot be refunded: refund its Decision")
        receipts: Receipts = []
        for part in MessageDecisions(self.policy, envelope).envelopes:
            plan = self.plan(part)
            queue: Charge = (self.queue, self.policy.sender_subject(part), ONE_MESSAGE)
            plans = [each for each in (plan, plan.shadow) if each is not None and each.charges]
            for each, operation in product(plans, ("take", "book")):
                intent = Intent(
                    queue=queue if operation == "book" else None,
                    idempotency=self._intents.idempotency(each, part, operation),
                    recall=True,
                )
                verdict: Verdict = yield partial(self.backend.apply, each.charges, intent)
                if verdict.receipt is not None:
                    receipts.append(([], verdict.receipt))
        if not receipts:
            raise ValueError(
                f"nothing to refund: no accepted message with the id {show(envelope.id)} and these"
                " addresses is remembered"
            )
        yield from refund_steps(self.backend, receipts)

    def finish_after_steps(self, error: BaseException | None, steps: Steps[None]) -> Steps[None]:
        """Run `steps` to their end after `error`, if any, with which their caller ends."""
        if isinstance(error, GeneratorExit):  # a generator that is closed can yield nothing
            self._finish_closed(steps)
        else:
            yield partial(self.finish, steps, error)

    def _give_back_steps(self, decision: Decision) -> Steps[None]:
        """Refund a booking whose wait was broken off."""
        if _is_refundable(decision):
            try:
                yield from self.refund_steps(decision)
            except BackendError as error:  # must not hide why the wait was broken off
                log_warning("a wait that was broken off stays counted: %s", error)

    def refund_steps(self, decision: Decision) -> Steps[None]:
        """See `Limiter.refund`."""
        return refund_steps(self.backend, take_receipts(decision, self))

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
        yield from self.blocks.refresh_steps()
        return (yield from self._usages_steps(normal_scope(scope), key, sender, client))

    def _usages_steps(
        self, scope: Scope, key: str, sender: str | None, client: Client | None
    ) -> Steps[tuple[Usage, ...]]:
        """Return the usage of each limit of a subject; those that only report are last."""
        from ratelimit_mail.usage import Usage  # few programs ask

        effective = self.policy.effective_limits(client or NOBODY, sender, self.backend.now())
        block = self.blocks.of_subject(scope, key)
        usages: list[Usage] = []
        for limits, ledger in _limited_ledgers(effective, scope):
            try:
                readings = yield partial(self.backend.usage, ledger, key)
            except BackendError as error:
                if limits is effective:
                    raise
                log_warning("the usage of shadow limits is not known: %s", error)
                continue
            usages += (
                Usage(
                    limits.limit_of(count, i),
                    each.used,
                    each.remaining,
                    each.empty_in / 1000,
                    block,
                )
                for count, of_count in zip(ledger.counts, readings, strict=True)
                for i, each in enumerate(of_count)
            )
        return tuple(usages)

    def top_steps(
        self, scope: str | Sequence[str], n: int, client: Client | None
    ) -> Steps[tuple[SubjectUsage, ...]]:
        """See `Limiter.top`."""
        from ratelimit_mail.usage import SubjectUsage

        ordered = normal_scope(scope)
        if not 1 <= whole_number("n", n) <= MOST_IN_TOP:
            raise ValueError(f"n: {show(n)} is not a number of subjects from 1 to {MOST_IN_TOP}")
        if not isinstance(client, Client | None):
            raise TypeError(f"client: a Client is needed, not {show(client)}")
        yield from self.blocks.refresh_steps()
        effective = self.policy.effective_limits(client or NOBODY, None, self.backend.now())
        # Some senders have limits of their own, by which they are ranked below: more are needed.
        concessions = self.policy.overrides or self.policy.exemptions
        needed = n + MORE_WITH_CONCESSIONS if concessions else n
        keys: dict[str, None] = {}
        for _, ledger in _limited_ledgers(effective, ordered):
            keys.update(dict.fromkeys((yield partial(self.backend.top, ledger, needed))))
        if "sender" in ordered and len(ordered) == 1:
            keys.update(dict.fromkeys(self._overridden_senders()))
        subjects: list[SubjectUsage] = []
        for key in keys:
            values = split_subject(ordered, key)
            sender = values.get("sender")
            if (submitter := values.get("submitter", "")).startswith("sender:"):
                sender = sender or submitter.removeprefix("sender:")
            usages = yield from self._usages_steps(ordered, key, sender, client)
            share = max((each.used / each.limit.limit for each in usages), default=0.0)
            if share > 0:
                subject = None if ordered == ("global",) else tuple(values.values())
                shown = subject[0] if subject is not None and len(subject) == 1 else subject
                subjects.append(
                    SubjectUsage(scope=ordered, subject=shown, share=share, usages=usages)
                )
        subjects.sort(key=lambda each: (-each.share, str(each.subject)))
        return tuple(subjects[:n])

    def _overridden_senders(self) -> Iterator[str]:
        """Yield the first addresses that overrides name: their limits may be lower than most."""
        named = (each for override in self.policy.overrides for each in override.senders)
        addresses = (each for each in named if "@" in each.strip("@"))
        for address in islice(addresses, MORE_WITH_CONCESSIONS):
            yield self.policy.subject("sender", address)[0]

    def block_steps(
        self,
        subject: str | Sequence[str] | None,
        scope: str | Sequence[str],
        seconds: float | None,
        reason: str | None,
    ) -> Steps[Block]:
        """See `Limiter.block`."""
        block = yield from self.blocks.add_steps(subject, scope, seconds, reason)
        self.observers.report_block(block)
        return block

    def _block_excess_steps(self, envelope: Envelope, limit: RateLimit) -> Steps[None]:
        """Block the subject of the limit that refused a message, as the limit says.

        During an outage it is not blocked: the message is refused all the same.
        """
        sender = self.policy.resolved(envelope).envelope
        values = envelope_values(limit.scope, sender, self.policy.comparison)
        if "sender" in values:
            values["sender"] = sender.sender
        subject: str | tuple[str, ...] | None = tuple(values[word] for word in limit.scope)
        if len(limit.scope) == 1:
            subject = None if limit.scope == ("global",) else values[limit.scope[0]]
        try:
            block = yield from self.blocks.add_automatic_steps(
                subject,
                limit.scope,
                f"exceeded {limit}",
                has_login=envelope.client.user is not None,
            )
            if block is not None:
                self.observers.report_block(block)
        except BackendError as error:
            log_warning("a subject that exceeded a limit could not be blocked: %s", error)

    def pushback_steps(
        self, envelope: Envelope | str, reply: object, seconds: float
    ) -> Steps[Block | None]:
        """See `Limiter.pushback`."""
        self.blocks.check_seconds(seconds)
        from ratelimit_mail.smtp_errors import as_text, pushback_seconds  # few programs need it

        wait = pushback_seconds(reply, seconds)
        if wait is None:
            return None
        sender = envelope.sender if isinstance(envelope, Envelope) else envelope
        longer = yield from self.blocks.longer_block_steps(sender, "sender", wait)
        if longer is not None:  # such as an administrator's
            return longer
        return (yield from self.block_steps(sender, "sender", wait, f"provider: {as_text(reply)}"))

    def unblock_steps(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Steps[bool]:
        """See `Limiter.unblock`."""
        block = yield from self.blocks.remove_steps(subject, scope)
        if block is not None:
            self.observers.report_unblock(block, self.backend.now())
        return block is not None

    def reset_steps(
        self, subject: str | Sequence[str] | None, scope: str | Sequence[str]
    ) -> Steps[None]:
        """See `Limiter.reset`."""
        key, _ = self.policy.subject(scope, subject)
        ledgers = self.policy.ledgers_of(normal_scope(scope))
        if normal_scope(scope) == ("sender",):
            ledgers += self.queue, self.policy.queue(shadow=True)
        yield partial(self.backend.reset, ledgers, key)


def _limited_ledgers(
    effective: EffectiveLimits, scope: Scope
) -> Iterator[tuple[EffectiveLimits, Ledger]]:
    """Yield the ledgers per `scope` that have limits, those of limits that only report last."""
    for limits in (effective, effective.shadow):
        for ledger in () if limits is None else limits.ledgers_of(scope):
            if limits is not None and ledger.has_windows:
                yield limits, ledger


def _is_refundable(decision: Decision) -> bool:
    """Return whether a refund of `decision` would take anything out."""
    token = decision.refund_token
    return token is not None and len(token) > RECEIPTS and token[RECEIPTS] is not None
