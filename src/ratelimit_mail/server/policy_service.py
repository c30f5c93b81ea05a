"""PolicyService: from a request of Postfix's to an action. Theory of operation:

Recipients come one by one at RCPT, and are collected by the message's `instance`. The message is
charged once, for all of them together, at the stage that `Stages.charge_at` names. There, Postfix
says how many recipients it accepted (`recipient_count`), each accepted RCPT counted, but names one
only if it is alone. So the recipients are:

1. The one that is named, if one alone was accepted.
2. Those that were collected, if there are no more than were accepted. A recipient that was named
   twice, or in two spellings, is one.
3. If there are more, rules behind this service have refused some. The message is charged for as
   many as were accepted, external ones first: never too little, and too much only if an internal
   one was accepted in place of an external one. Where the charge depends on which recipients they
   are (a directory, or a limit per recipient), it is charged for all that were collected.
4. If fewer requests came than recipients were accepted, some are not known. If the server was
   started in the middle of the transaction, or a bound was reached, the message is deferred.
   Otherwise Postfix did not ask. It never asks about `postmaster` without a domain, which is
   internal; what else it does not ask about, because of its configuration, is charged as external.

A request that is repeated (Postfix asks again over a new connection if the first one breaks) gets
the same answer, and is not charged again: from memory, and with a shared store by the id of the
envelope also after the server was killed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

import attrs

from ratelimit_mail._util.logger import log_info, log_warning
from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import DomainSet
from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter import AsyncLimiter
from ratelimit_mail.limits import RateLimit, RecipientLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.scopes import is_per_recipient
from ratelimit_mail.server.clients import client_of
from ratelimit_mail.server.collector import Collector, Transaction
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.postfix import Malformed, Request, Stage
from ratelimit_mail.server.replies import (
    DUNNO,
    HOLD_BOOKED,
    MALFORMED,
    UNKNOWN_RECIPIENTS,
    action_of,
    refusal_of,
)
from ratelimit_mail.server.stages import Stages
from ratelimit_mail.smtp_reply import UNAVAILABLE, Reply

__all__ = ["PolicyService", "in_shadow"]

MOST_ANSWERS: Final = 20_000
ANSWER_SECONDS: Final = 900.0
"""How long an answer is remembered. Postfix repeats a request within 100 seconds."""

POSTMASTER: Final = "postmaster"
"""What Postfix accepts without asking: RFC 5321 (4.5.1) demands that it is accepted."""

MOST_ADMITTED: Final = 20_000
"""Messages that were charged at DATA and are not complete."""

FINISH_SECONDS: Final = 10.0
"""How long Postfix may need from the last answer until a message is in its hold queue."""

LONGEST_TRANSACTION: Final = 86_400.0
"""Seconds."""

UNKNOWN_DOMAIN: Final = "recipient.unknown.invalid"
"""The domain of recipients of which Postfix says only that they exist (RFC 6761)."""

MOST_UNKNOWN: Final = 100_000

SILENT_TRANSACTIONS: Final = 50
"""After so many messages without the stage that charges, it is missing in main.cf."""

WARN_SECONDS: Final = 60.0

T = TypeVar("T")

Excess = Literal["defer", "reject", "hold"]


def in_shadow(policy: Policy) -> Policy:
    """Return the policy with limits that only report."""

    def reported(limits: Any) -> list[Any]:
        return [attrs.evolve(limit, enforce=False) for limit in limits]

    tiers = [attrs.evolve(tier, limits=reported(tier.limits)) for tier in policy.tiers]
    return policy.evolve(limits=reported(policy.limits), tiers=tiers)


@attrs.frozen
class _Admitted:
    """A message that was charged at DATA and is not complete."""

    limiter: AsyncLimiter
    decision: Decision
    at: float


class _Answer(NamedTuple):
    """An answer, or the task that is to find it. attempt: how many came before it."""

    at: float
    task: asyncio.Task[str]
    connection: object
    attempt: int


class PolicyService:
    """Answers the requests of mail servers.

    limiter: decides; `use` replaces it when the policy has changed.
    stages: which requests Postfix makes, and at which a message is charged.
    excess: what happens to a message above a rate; None is what its limit says. `hold` books it and
        has Postfix hold it; it needs `held`.
    held: the list of held messages. hold_for: the longest time for which a message is booked, in
        seconds; one that would have to wait longer is refused as its limit says.
    is_shadow: answers `DUNNO` to everything, and logs what it would have answered.
    is_shared: whether the store survives this process, so that ids are worth their price.
    direction: of all messages.
    clock: seconds that only grow. wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        limiter: AsyncLimiter,
        *,
        stages: Stages | None = None,
        tags: ClientTags | None = None,
        excess: Excess | None = None,
        held: HeldMail | None = None,
        hold_for: float | None = 86_400.0,
        is_shadow: bool = False,
        is_shared: bool = False,
        direction: Literal["outbound", "inbound"] = "outbound",
        collector: Collector | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if excess == "hold" and held is None:
            raise ValueError("excess: 'hold' needs a list of held messages")
        self.stages = stages or Stages()
        self.is_shadow = is_shadow
        self.excess = excess
        self.held = held
        self.stats: Counter[str] = Counter()
        """How many requests there were, by `requests`, `accepted`, `deferred`, `rejected`, `held`,
        `unavailable`, `unknown-recipients`, `malformed`."""
        self._hold_for = hold_for
        self._is_shared = is_shared or excess == "hold"
        self._direction: Literal["outbound", "inbound"] = direction
        self.collector = Collector() if collector is None else collector
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = wall_clock()
        self._lost_until: float | None = None
        """Until when transactions were forgotten because there were too many."""
        self._bypassed = False
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._admitted: OrderedDict[str, _Admitted] = OrderedDict()
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        self._incomplete_until: OrderedDict[str, float] = OrderedDict()
        """Queue ids of held messages that are not in Postfix's hold queue yet."""
        self._missing_since: OrderedDict[str, float] = OrderedDict()
        """Queue ids of messages that were released and not found in Postfix's hold queue."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._seen: set[Stage] = set()
        self._without_charge = 0
        self._warned_at: dict[str, float] = {}
        self.use(limiter, tags or ClientTags())

    def use(self, limiter: AsyncLimiter, tags: ClientTags) -> None:
        """Decide by another limiter and another table of tags from now on.

        Raises ValueError if messages cannot be charged by the policy at these stages.
        """
        policy = limiter.policy
        self.stages.check(policy)
        self.limiter = limiter
        self._table = tags
        self._internal = DomainSet(policy.internal_domains, with_local=True)
        own = [*policy.limits, *(limit for tier in policy.tiers for limit in tier.limits)]
        self._depends_on_recipients = policy.directory is not None or any(
            isinstance(limit, RateLimit)
            and (limit.direction == "inbound" or is_per_recipient(limit.scope))
            for limit in own
        )
        self._has_recipient_limit = any(isinstance(limit, RecipientLimit) for limit in own)

    def answer_at_once(self, request: Request, connection: object) -> str | None:
        """Return the action if it needs no limit: a recipient is collected, or nothing is counted.

        None if `answer` must be awaited.
        """
        stages, stage = self.stages, request.stage
        if stage is stages.charge_at or (stage is Stage.END_OF_MESSAGE and stages.confirms):
            return None
        self.stats["requests"] += 1
        self._seen.add(stage)
        self._leave(request.instance, connection)
        if stage is Stage.RCPT and stage in stages:
            now = self._clock()
            self.collector.add(request.instance, request.recipient, connection, now)
        return DUNNO

    async def answer(self, request: Request, connection: object) -> str:
        """Return the action that answers a request. A store that is away is a temporary failure."""
        action = self.answer_at_once(request, connection)
        if action is not None:
            return action
        return await asyncio.shield(self.answer_later(request, connection))

    def answer_later(self, request: Request, connection: object) -> asyncio.Task[str]:
        """Return the task that finds the answer which `answer_at_once` does not have.

        It goes on if the connection breaks: Postfix asks again over another one.
        """
        self.stats["requests"] += 1
        self._seen.add(request.stage)
        self._leave(request.instance, connection)
        if request.stage is not self.stages.charge_at:
            return self._start(self._confirm(request))
        # A client whose DATA was refused may name more recipients, and come again with the same
        # instance.
        key = f"{request.instance} {request.recipient_count} {request.recipient}"
        known = self._answers.get(key)
        attempt = 0
        if known is not None and known.connection is connection and known.task.done():
            # Postfix repeats a request over another connection only: the client has come again
            # after a refusal, without RSET.
            attempt, known = known.attempt + 1, None
        if known is None:
            task = self._start(self._charge_safely(request, connection, attempt))
            known = self._answers[key] = _Answer(self._clock(), task, connection, attempt)
            self._answers.move_to_end(key)
            if len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
        return known.task

    def answer_malformed(self, event: Malformed, peer: str) -> str:
        """Return the action that answers what is not a request."""
        self.stats["malformed"] += 1
        self._warn("malformed", "%s sent a malformed request: %s", peer, event.reason)
        return MALFORMED

    def disconnect(self, connection: object) -> None:
        """Note that a connection has ended."""
        self.collector.disconnect(connection)

    def sweep(self) -> None:
        """Forget what is over: call this every few seconds."""
        now = self._clock()
        if forgotten := self.collector.expire(now):
            self._note_without_charge(forgotten)
        while self._answers:
            key, answer = next(iter(self._answers.items()))
            if now - answer.at < ANSWER_SECONDS:
                break
            del self._answers[key]
        while self._admitted:
            instance, admitted = next(iter(self._admitted.items()))
            if now - admitted.at < self.stages.give_back_after:
                break
            self._give_back(instance)
        if self.collector.dropped:
            self._warn(
                "dropped",
                "%d transactions were forgotten because too many were open; they are deferred",
                self.collector.dropped,
            )
            self.collector.dropped = 0
            self._lost_until = self._wall_clock()

    async def close(self) -> None:
        """Wait until what is under way is complete."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # The recipients.

    def _note_without_charge(self, number: int) -> None:
        """Note that messages ended without the stage at which they would have been charged."""
        charge_at = self.stages.charge_at
        if charge_at in self._seen or charge_at is Stage.RCPT:
            return
        self._without_charge += number
        if self._without_charge >= SILENT_TRANSACTIONS:
            self._warn(
                "silent",
                "NOTHING IS COUNTED: after %d messages, Postfix has not asked at %s;"
                " `ratelimit-mail serve --print-main-cf` prints what is missing in main.cf",
                self._without_charge,
                charge_at.value,
            )

    def _leave(self, instance: str, connection: object) -> None:
        """Note which message a connection is about; what it has left before is over."""
        left = self.collector.follow(instance, connection)
        if left is not None and left != instance:
            if left in self._admitted:
                self._give_back(left)
            if self.stages.charge_at not in self._seen:
                self._note_without_charge(1)

    def _recipients(self, request: Request) -> list[str] | None:
        """Return the recipients to charge; None if the message must come again."""
        if request.stage is Stage.RCPT:
            return [request.recipient]
        number, instance = request.recipient_count, request.instance
        is_asked = Stage.RCPT in self.stages
        transaction = self.collector.find(instance) if is_asked else None
        if number == 1 and request.recipient:
            if is_asked and transaction is None and request.recipient.lower() != POSTMASTER:
                self._note_unseen(instance)
            return [request.recipient]
        if is_asked and (transaction is None or transaction.requests < number):
            if self._may_be_lost(instance):
                return None
            return self._with_unseen(transaction, number, instance)
        if transaction is None:
            return self._unknown(number, instance)
        if transaction.is_overfull:
            return None
        collected = list(transaction.recipients)
        if len(collected) <= number or self._depends_on_recipients:
            return collected
        return self._costliest(collected, number)

    def _may_be_lost(self, instance: str) -> bool:
        """Return whether a message may have begun before this server did, or was forgotten."""
        begun = _begun(instance)
        if begun is None:
            return self._wall_clock() - self._started < self.stages.give_back_after
        if self.collector.dropped or (self._lost_until is not None and begun <= self._lost_until):
            return True
        return self._started - LONGEST_TRANSACTION < begun < self._started

    def _with_unseen(
        self, transaction: Transaction | None, number: int, instance: str
    ) -> list[str] | None:
        """Return the recipients of a message of which some were not asked about at RCPT.

        Postfix asks about all but `postmaster` without a domain, unless a rule before this service
        permits some of them. One of them is taken for `postmaster`, until it is known that there is
        such a rule, and the others for external recipients.
        """
        unseen = number - (0 if transaction is None else transaction.requests)
        if transaction is None or unseen > 1:
            self._note_unseen(instance)
        unknown = self._unknown(unseen, instance)
        if transaction is None or unknown is None:
            return unknown
        if not self._bypassed:
            unknown[0] = POSTMASTER
        return [*transaction.recipients, *unknown]

    def _unknown(self, number: int, instance: str) -> list[str] | None:
        """Return as many external recipients, the same for the same message."""
        if number > MOST_UNKNOWN:
            return None
        return [f"{instance}-{i}@{UNKNOWN_DOMAIN}" for i in range(number)]

    def _note_unseen(self, instance: str) -> None:
        """Note that Postfix accepted recipients without asking, and say so."""
        if self._may_be_lost(instance):
            return
        self._bypassed = True
        self._warn(
            "unseen",
            "Postfix accepts recipients without asking at RCPT, and they are counted as external"
            " ones: a rule before check_policy_service permits them, or it is missing in"
            " smtpd_recipient_restrictions",
        )

    def _costliest(self, collected: list[str], number: int) -> list[str]:
        """Return as many of the recipients as were accepted, those that cost most first."""
        policy = self.limiter.policy
        envelope = Envelope.from_smtp("", collected)
        by_key: dict[str, tuple[str, str]] = {}
        for address, domain in zip(envelope.recipients, envelope.domains, strict=True):
            by_key.setdefault(policy.comparison.address(address), (address, domain))
        each = sorted(by_key.values(), key=lambda pair: self._internal[pair[1]])
        return [address for address, _ in each[:number]]

    # The charge.

    async def _charge_safely(self, request: Request, connection: object, attempt: int) -> str:
        try:
            return await self._charge(request, connection, attempt)
        except Exception as error:  # a mistake must not open the limits
            self.stats["unavailable"] += 1
            log_warning("a request failed, and the message is deferred: %r", error)
            return action_of(UNAVAILABLE, request.stage)

    async def _charge(self, request: Request, connection: object, attempt: int) -> str:
        recipients = self._recipients(request)
        instance, stage = request.instance, request.stage
        if recipients is None:
            self.stats["unknown-recipients"] += 1
            self._warn(
                "unknown",
                "the recipients of message %s are not known, and it is deferred: it began before"
                " the server did, or too much was to be remembered",
                show(request.queue_id or instance),
            )
            return self._answer_with(UNKNOWN_RECIPIENTS, request, None)
        envelope = Envelope.from_smtp(
            request.sender,
            recipients,
            client=client_of(request.attributes, self._table),
            id=f"postfix {request.queue_id} {instance} {attempt}" if self._is_shared else None,
            direction=self._direction,
            size=request.size,
        )
        limiter = self.limiter
        if stage is Stage.RCPT:
            refusal = self._recipient_limit_refusal(request, envelope, connection, limiter)
            if refusal is not None:
                return self._answer_with(refusal, request, None)
        try:
            if self.excess == "hold" and not self.is_shadow and stage is not Stage.RCPT:
                action = await self._book(request, envelope, limiter)
            else:
                decision = await self._admit(envelope, limiter)
                action = self._answer_to(decision, request)
                if (earlier := self._admitted.pop(instance, None)) is not None:
                    await self._refund(earlier)
                if decision and self.stages.confirms:
                    self._note_admitted(instance, _Admitted(limiter, decision, self._clock()))
        except BackendError as error:
            self.stats["unavailable"] += 1
            self._warn("store", "the store is away, and messages are deferred: %s", error)
            return self._answer_with(UNAVAILABLE, request, None)
        is_refused = action != DUNNO and not action.startswith("HOLD ")
        if self.stages.confirms and not is_refused and instance not in self._admitted:
            self._note_confirmed(instance)
        if stage is Stage.END_OF_MESSAGE and action == DUNNO:  # a refused client may go on with it
            self.collector.forget(instance)
        return action

    async def _admit(self, envelope: Envelope, limiter: AsyncLimiter) -> Decision:
        decision = await limiter.try_acquire(envelope)
        if decision.recipients is None or all(decision.recipients.values()):
            return decision
        if len(envelope.recipients) == 1 and decision:
            return decision
        # There is one reply for all recipients: if some are refused, the message comes again.
        refused = next(each for each in decision.recipients.values() if not each)
        if decision:
            await limiter.refund(decision)
            refused = attrs.evolve(refused, action=Action.DEFER)
        return refused

    def _recipient_limit_refusal(
        self, request: Request, envelope: Envelope, connection: object, limiter: AsyncLimiter
    ) -> Reply | None:
        """Return the reply that a recipient limit gives at RCPT, where recipients come singly."""
        self.collector.add(request.instance, request.recipient, connection, self._clock())
        if not self._has_recipient_limit or self._direction == "inbound":
            return None
        transaction = self.collector.find(request.instance)
        if transaction is None:
            return None
        number = len(transaction.recipients)
        whole = attrs.evolve(envelope, recipients=list(transaction.recipients), id=None)
        never = limiter.policy.plan(whole).never if number > 1 else None
        if isinstance(never, RecipientLimit):
            return Decision(Action.REJECT, None, never).reply
        return None

    async def _book(self, request: Request, envelope: Envelope, limiter: AsyncLimiter) -> str:
        """Admit a message now, or book it and have it held."""
        assert self.held is not None  # noqa: S101 - checked when the service was made
        queue_id = request.queue_id
        try:
            # Without a queue id, it could not be released.
            max_delay = self._hold_for if queue_id else 0.0
            reservation = await limiter.reserve(envelope, max_delay=max_delay)
        except RateLimitExceeded as error:
            if error.decision.action is Action.HOLD and queue_id:
                # What had this queue id is gone: its time must not release this message.
                await asyncio.to_thread(self.held.replace, queue_id)
            return self._answer_to(error.decision, request)
        if reservation.delay <= 0:
            if self.stages.confirms:
                admitted = _Admitted(limiter, reservation.decision, self._clock())
                self._note_admitted(request.instance, admitted)
            return self._answer_to(reservation.decision, request)
        waits_for_end = request.stage is Stage.DATA and self.stages.confirms
        self._note_incomplete(
            queue_id, self.stages.give_back_after if waits_for_end else FINISH_SECONDS
        )
        self._missing_since.pop(queue_id, None)
        try:
            await asyncio.to_thread(self.held.add, queue_id, envelope, reservation.at)
        except Exception as error:
            self._warn("held", "the list of held messages cannot be written: %r", error)
            await reservation.cancel()
            self.stats["unavailable"] += 1
            return self._answer_with(UNAVAILABLE, request, None)
        self.stats["held"] += 1
        log_info(
            "held %s from %s by %s until it fits, in %.0f s",
            queue_id,
            show(request.sender),
            _client_text(request),
            reservation.delay,
        )
        return HOLD_BOOKED

    async def release(self, most: int = 100) -> list[str]:
        """Return the queue ids of held messages that may go now; each is counted as sent now.

        One whose room was taken meanwhile is booked anew, first in its sender's queue.
        """
        if self.held is None:
            raise ValueError("op: this server holds no messages; start it with --excess hold")
        limiter = self.limiter
        now = round(time.time() * 1000)
        queue_ids = []
        for message in await asyncio.to_thread(self.held.due, now, most):
            missing = self._incomplete_until.get(message.queue_id, 0.0) - self._clock()
            if missing > 0:
                # postsuper would not find it, and it would then be held for ever.
                at = now + round(min(missing, FINISH_SECONDS) * 1000)
                await asyncio.to_thread(self.held.rebook, message.queue_id, at)
                continue
            if not message.is_redeemed:
                # The id finds the booking; after it was lost, the message is booked again.
                try:
                    reservation = await limiter.reserve(message.envelope)
                    decision = await reservation.redeem()
                except RateLimitExceeded as error:
                    decision = error.decision
                if not decision:
                    wait = 60.0 if decision.retry_after is None else decision.retry_after
                    at = round(time.time() * 1000 + wait * 1000)
                    await asyncio.to_thread(self.held.rebook, message.queue_id, at)
                    continue
                await asyncio.to_thread(self.held.redeem, message.queue_id)
            queue_ids.append(message.queue_id)
        return queue_ids

    async def note_released(self, queue_ids: Sequence[str], missing: Sequence[str] = ()) -> None:
        """Note which messages Postfix has released, and which are not in its hold queue.

        Postfix puts a message there when it is complete, which may be after its time. It stays
        counted, and is looked for again: at first after ten seconds, then after as long as it has
        been missing, for a day. When it is released at last, it is counted at that moment.
        """
        held = self.held
        if held is None:
            raise ValueError("op: this server holds no messages; start it with --excess hold")
        for queue_id in queue_ids:
            if self._missing_since.pop(queue_id, None) is not None:
                message = await asyncio.to_thread(held.find, queue_id)
                if message is not None and message.is_redeemed:
                    await self._count_now(message.envelope)
        gone = list(queue_ids)
        for queue_id in missing:
            since = self._missing_since.setdefault(queue_id, self._clock())
            waited = self._clock() - since
            if waited >= LONGEST_TRANSACTION:
                del self._missing_since[queue_id]
                log_warning("%s was not in the hold queue for a day: it is forgotten", queue_id)
                gone.append(queue_id)
            else:
                at = round((time.time() + max(FINISH_SECONDS, waited)) * 1000)
                await asyncio.to_thread(held.rebook, queue_id, at)
        while len(self._missing_since) > MOST_ANSWERS:
            self._missing_since.popitem(last=False)
        await asyncio.to_thread(held.remove, gone)

    async def _count_now(self, envelope: Envelope) -> None:
        """Move a held message that was counted at its time to the time at which it is sent."""
        try:
            reservation = await self.limiter.reserve(envelope)
            await self.limiter.settle(reservation.decision)
        except (BackendError, RateLimitExceeded) as error:
            self._warn("settle", "a message stays counted at its time: %s", error)

    # A message that was charged at DATA.

    async def _confirm(self, request: Request) -> str:
        """Count a message that was charged at DATA at the time at which it is complete."""
        instance = request.instance
        self.collector.forget(instance)
        if request.queue_id in self._incomplete_until:
            self._note_incomplete(request.queue_id, FINISH_SECONDS)
        admitted = self._admitted.pop(instance, None)
        if admitted is not None:
            self._note_confirmed(instance)
            try:
                await admitted.limiter.settle(admitted.decision)
            except BackendError as error:
                self._warn("settle", "a message stays counted at its DATA: %s", error)
            return DUNNO
        if instance in self._confirmed:  # Postfix asks again, because the connection broke
            return DUNNO
        # The server was started after DATA: whether it was charged there is not known.
        self.stats["unknown-recipients"] += 1
        return self._answer_with(UNKNOWN_RECIPIENTS, request, None)

    def _note_admitted(self, instance: str, admitted: _Admitted) -> None:
        """Note that a message was charged at DATA."""
        self._admitted[instance] = admitted
        if len(self._admitted) > MOST_ADMITTED:
            self._give_back(next(iter(self._admitted)))

    def _note_incomplete(self, queue_id: str, seconds: float) -> None:
        """Note for how long a held message is not to be released, unless its end comes earlier."""
        self._incomplete_until[queue_id] = self._clock() + seconds
        self._incomplete_until.move_to_end(queue_id)
        if len(self._incomplete_until) > MOST_ANSWERS:
            self._incomplete_until.popitem(last=False)

    def _note_confirmed(self, instance: str) -> None:
        """Note that nothing is to be done at END-OF-MESSAGE."""
        self._confirmed[instance] = None
        if len(self._confirmed) > MOST_ANSWERS:
            self._confirmed.popitem(last=False)

    def _give_back(self, instance: str) -> None:
        """Refund a message that was charged at DATA and did not complete."""
        admitted = self._admitted.pop(instance, None)
        if admitted is None:
            return
        if Stage.END_OF_MESSAGE not in self._seen:
            # Perhaps Postfix does not ask there at all; then this would open the limits.
            self._warn(
                "no end",
                "Postfix has not asked at end-of-message yet: a message that may have been dropped"
                " after DATA stays counted",
            )
            return
        self._start(self._refund(admitted))

    async def _refund(self, admitted: _Admitted) -> None:
        try:
            await admitted.limiter.refund(admitted.decision)
        except BackendError as error:
            self._warn("refund", "a message that was dropped after DATA stays counted: %s", error)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The answer.

    def _answer_to(self, decision: Decision, request: Request) -> str:
        if decision:
            self.stats["accepted"] += 1
            if self.is_shadow and decision.shadow is not None and not decision.shadow:
                self._log_refusal("would answer", refusal_of(decision.shadow, self.excess), request)
            return DUNNO
        if decision.action is Action.HOLD and not self.is_shadow:
            self.stats["held"] += 1
            log_info("held %s for a moderator: %s", request.queue_id, decision.rule)
            return f"HOLD {decision.reply.text}"
        return self._answer_with(refusal_of(decision, self.excess), request, decision)

    def _answer_with(self, reply: Reply, request: Request, decision: Decision | None) -> str:
        """Return the action of a refusal, and log it."""
        if self.is_shadow:
            self._log_refusal("would answer", reply, request, decision)
            return DUNNO
        self.stats["deferred" if reply.code < 500 else "rejected"] += 1
        if decision is not None or reply.code >= 500:
            self._log_refusal("answered", reply, request, decision)
        return action_of(reply, request.stage)

    def _log_refusal(
        self, lead: str, reply: Reply, request: Request, decision: Decision | None = None
    ) -> None:
        reason = "" if decision is None else (decision.limit or decision.block or decision.rule)
        log_info(
            "%s %s to %s from %s by %s%s",
            lead,
            reply,
            request.queue_id or request.instance,
            show(request.sender),
            _client_text(request),
            f" ({reason})" if reason else "",
        )

    def _warn(self, kind: str, text: str, *values: object) -> None:
        """Log a warning, one of a kind a minute."""
        now = self._clock()
        if now - self._warned_at.get(kind, float("-inf")) >= WARN_SECONDS:
            self._warned_at[kind] = now
            log_warning(text, *values)


def _client_text(request: Request) -> str:
    """Return who submits a message, for the log."""
    attributes = request.attributes
    user = attributes.get("sasl_username") or "no login"
    return f"{show(user)} at {show(attributes.get('client_address', ''))}"


def _begun(instance: str) -> float | None:
    """Return when a transaction began, in seconds since the epoch, if the instance says it.

    Postfix writes its process id, seconds, microseconds and a number, in hexadecimal digits.
    """
    words = instance.split(".")
    try:
        return int(words[1], 16) + int(words[2], 16) / 1_000_000
    except (IndexError, ValueError):
        return None
