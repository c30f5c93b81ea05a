"""PolicyService: from a request of Postfix's to an action. Theory of operation:

The recipients of a message are collected at RCPT, and it is charged once, for all of them together,
at the stage that `Stages.charge_at` names; `recipients.py` says for which of them. One that is
charged at DATA is confirmed at its end (`data_charges.py`), and one over a rate may be held
(`hold_queue.py`).

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
from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail._util.text import show
from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter import AsyncLimiter
from ratelimit_mail.limits import RecipientLimit
from ratelimit_mail.server.clients import client_of, client_text
from ratelimit_mail.server.collector import Collector
from ratelimit_mail.server.data_charges import DataCharges
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.hold_queue import HeldMailError, HoldQueue
from ratelimit_mail.server.postfix import Malformed, Request, Stage
from ratelimit_mail.server.recipients import RecipientsToCharge
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

__all__ = ["Excess", "PolicyService"]

MOST_ANSWERS: Final = 20_000
ANSWER_SECONDS: Final = 900.0
"""How long an answer is remembered. Postfix repeats a request within 100 seconds."""

SILENT_TRANSACTIONS: Final = 50
"""After so many messages without the stage that charges, it is missing in main.cf."""

T = TypeVar("T")

Excess = Literal["defer", "reject", "hold"]


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
        self.stats: Counter[str] = Counter()
        """How many requests there were, by `requests`, `accepted`, `deferred`, `rejected`, `held`,
        `unavailable`, `unknown-recipients`, `malformed`."""
        self._is_shared = is_shared or excess == "hold"
        self._direction: Literal["outbound", "inbound"] = direction
        self.collector = Collector() if collector is None else collector
        self._clock = clock
        self._warnings = RareWarnings(clock)
        self._recipients = RecipientsToCharge(
            limiter.policy, self.stages, self.collector, self._warnings, wall_clock
        )
        self._data_charges = DataCharges(self._start, self._warnings, clock)
        self._hold_queue: HoldQueue | None = None
        if held is not None:
            self._hold_queue = HoldQueue(held, hold_for, self._warnings, clock)
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._seen: set[Stage] = set()
        self._without_charge = 0
        self.use(limiter, tags or ClientTags())

    def use(self, limiter: AsyncLimiter, tags: ClientTags) -> None:
        """Decide by another limiter and another table of tags from now on.

        Raises ValueError if messages cannot be charged by the policy at these stages.
        """
        policy = limiter.policy
        self.stages.check(policy)
        self.limiter = limiter
        self._table = tags
        self._recipients.use(policy)
        own = [*policy.limits, *(limit for tier in policy.tiers for limit in tier.limits)]
        self._has_recipient_limit = any(isinstance(limit, RecipientLimit) for limit in own)
        self._holds = self.excess == "hold" and not self.is_shadow

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
        self._data_charges.is_end_known |= request.stage is Stage.END_OF_MESSAGE
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
        self._warnings.warn("malformed", "%s sent a malformed request: %s", peer, event.reason)
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
        self._data_charges.sweep(self.stages.give_back_after)
        self._recipients.note_dropped()

    async def close(self) -> None:
        """Wait until what is under way is complete."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note_without_charge(self, number: int) -> None:
        """Note that messages ended without the stage at which they would have been charged."""
        charge_at = self.stages.charge_at
        if charge_at in self._seen or charge_at is Stage.RCPT:
            return
        self._without_charge += number
        if self._without_charge >= SILENT_TRANSACTIONS:
            self._warnings.warn(
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
            self._data_charges.give_back(left)
            if self.stages.charge_at not in self._seen:
                self._note_without_charge(1)

    # The charge.

    async def _charge_safely(self, request: Request, connection: object, attempt: int) -> str:
        try:
            return await self._charge(request, connection, attempt)
        except Exception as error:  # a mistake must not open the limits
            self.stats["unavailable"] += 1
            log_warning("a request failed, and the message is deferred: %r", error)
            return action_of(UNAVAILABLE, request.stage)

    async def _charge(self, request: Request, connection: object, attempt: int) -> str:
        recipients = self._recipients.of(request)
        instance, stage = request.instance, request.stage
        if recipients is None:
            self.stats["unknown-recipients"] += 1
            self._warnings.warn(
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
            if self._holds and stage is not Stage.RCPT:
                decision = await self._book(request, envelope, limiter)
            else:
                decision = await self._admit(envelope, limiter)
            await self._data_charges.refund(instance)
        except BackendError as error:
            self.stats["unavailable"] += 1
            self._warnings.warn("store", "the store is away, and messages are deferred: %s", error)
            return self._answer_with(UNAVAILABLE, request, None)
        except HeldMailError:
            self.stats["unavailable"] += 1
            return self._answer_with(UNAVAILABLE, request, None)
        if decision is None:
            self.stats["held"] += 1
            action = HOLD_BOOKED
        else:
            action = self._answer_to(decision, request)
            if decision and self.stages.confirms:
                self._data_charges.add(instance, limiter, decision)
        is_refused = action != DUNNO and not action.startswith("HOLD ")
        if self.stages.confirms and not is_refused and instance not in self._data_charges:
            self._data_charges.note_confirmed(instance)
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

    # A message that is held, or was charged at DATA.

    async def _book(
        self, request: Request, envelope: Envelope, limiter: AsyncLimiter
    ) -> Decision | None:
        """Admit a message now, or book it and have it held."""
        waits_for_end = request.stage is Stage.DATA and self.stages.confirms
        complete_in = self.stages.give_back_after if waits_for_end else None
        return await self._held_mail().book(request, envelope, limiter, complete_in)

    async def release(self, most: int = 100) -> list[str]:
        """See `HoldQueue.release`."""
        return await self._held_mail().release(self.limiter, most)

    async def note_released(self, queue_ids: Sequence[str], missing: Sequence[str] = ()) -> None:
        """See `HoldQueue.note_released`."""
        await self._held_mail().note_released(self.limiter, queue_ids, missing)

    def _held_mail(self) -> HoldQueue:
        if self._hold_queue is None:
            raise ValueError("op: this server holds no messages; start it with --excess hold")
        return self._hold_queue

    async def _confirm(self, request: Request) -> str:
        """Count a message that was charged at DATA at the time at which it is complete."""
        self.collector.forget(request.instance)
        if self._hold_queue is not None:
            self._hold_queue.note_complete(request.queue_id)
        if await self._data_charges.confirm(request.instance):
            return DUNNO
        # The server was started after DATA: whether it was charged there is not known.
        self.stats["unknown-recipients"] += 1
        return self._answer_with(UNKNOWN_RECIPIENTS, request, None)

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
            "%s %s to %s from %s %s%s",
            lead,
            reply,
            request.queue_id or request.instance,
            show(request.sender),
            client_text(request),
            f" ({reason})" if reason else "",
        )
