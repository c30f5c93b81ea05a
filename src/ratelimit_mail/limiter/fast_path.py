"""The fast paths: decide on most messages in memory without a plan or a general verdict.

They take over a message that charges one subject, and has no id. Nearly always its charge was
granted beforehand, or was refused and nothing has changed since (cases 1 and 2 of
`MemoryBackend.apply`): then they need 0.3 of the time of the general path. Otherwise they ask
`apply`. They leave every other message to the general path.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ratelimit_mail._util.steps import run
from ratelimit_mail.backends.base import CHECK, TAKE
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.backends.memory.backend import NearReceipt
from ratelimit_mail.decision import Decision, accepted
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.observers import DecidedMessage
from ratelimit_mail.limiter.quick_charges import quick_charges
from ratelimit_mail.limiter.refunds import ENVELOPE, RECEIPTS, settled
from ratelimit_mail.limiter.verdicts import refused, refused_until
from ratelimit_mail.policy.charges import EffectiveLimits
from ratelimit_mail.policy.selection import LimitSelector
from ratelimit_mail.scopes import subject_getter

if TYPE_CHECKING:
    from ratelimit_mail.limiter.operations import Operations

__all__ = ["FastPath", "FastPaths", "fast_paths"]

FastPath = Callable[[Envelope], Decision | None]
"""Returns the decision on a message, or None if the message needs the general path."""


class FastPaths(NamedTuple):
    """The fast paths of one limiter.

    try_acquire, check: as the methods of `Limiter`.
    acquire: accepts a message that may go at once, and has no earlier one of its sender before it.
    settle: settles the message of a decision; returns False if that needs the general path.
    """

    try_acquire: FastPath
    check: FastPath
    acquire: FastPath
    settle: Callable[[Decision], bool]


def fast_paths(operations: Operations, backend: object) -> FastPaths | None:
    """Return the fast paths of a limiter.

    None if it counts elsewhere than in memory, or if the limits of most messages depend on more
    than the client's tier.
    """
    selector = operations.policy.selector_by_sender
    if selector is None or type(backend) is not MemoryBackend:
        return None
    decider = partial(_decider, selector, operations, backend)
    # That a refusal blocks the subject takes the general path.
    refuses = not operations.policy.blocks_on_excess
    return FastPaths(
        decider(record=True, refuses=refuses),
        # The answer of shadow limits to a check takes the general path.
        _needs_general if selector.has_shadow else decider(record=False, refuses=True),
        _acquirer(operations, backend, decider(record=True, refuses=False)),
        _settler(operations, backend),
    )


def _needs_general(_: Envelope) -> None:
    return None


def _decider(
    selector: LimitSelector,
    operations: Operations,
    backend: MemoryBackend,
    *,
    record: bool,
    refuses: bool,
) -> FastPath:
    """Return the function that decides.

    record: False charges nothing. refuses: False returns None for a message that does not fit, and
        changes nothing then.
    """
    for_limits = partial(
        _for_limits, backend=backend, owner=operations, record=record, refuses=refuses
    )
    paths = selector.by_tier.map(for_limits)
    if not paths.rows and not selector.concedes:
        return paths.default
    choose, concedes, names_sender = paths.choose, selector.concedes, selector.names_sender

    def decide(envelope: Envelope) -> Decision | None:
        if not isinstance(envelope, Envelope) or (concedes and names_sender(envelope)):
            return None
        return choose(envelope.client)(envelope)

    return decide


def _for_limits(
    limits: EffectiveLimits,
    backend: MemoryBackend,
    owner: Operations,
    *,
    record: bool,
    refuses: bool,
) -> FastPath:
    # Names of a closure are quicker than attributes.
    tier, blocks, observers = limits.tier, owner.blocks, owner.observers
    is_prepared, domains_of = limits.comparison.is_prepared, limits.comparison.domains
    charges = quick_charges(limits, backend, record=record, marks_of=observers.marks_getter(limits))
    observe = observers.quick_observer(backend, owner.plan, limits) if record else None
    intent = TAKE if record else CHECK

    def decide(envelope: Envelope) -> Decision | None:
        try:
            domains = envelope.folded_domains if is_prepared else domains_of(envelope)
        except AttributeError:  # not an Envelope
            return None
        charge = charges[domains]
        if charge is None or envelope.id is not None or envelope.direction == "inbound":
            return None
        if (blocks.is_stale or blocks.exist) and blocks.concern(envelope):
            return None
        subject_of, answer_to = charge.subject_of, charge.answer_to
        subject = subject_of(envelope)
        answer = answer_to(subject)
        if type(answer) is list:  # nearly always
            decision = accepted(tier, [owner, envelope, answer] if record else None)
            if observe is None:
                return decision
            is_far, now = True, answer[0][3]
        elif isinstance(answer, NearReceipt):
            decision = accepted(tier, [owner, envelope, answer])
            is_far, now = False, answer[0][3]
        elif type(answer) is tuple:
            if not refuses:
                return None
            decision, is_far, now = refused_until(limits, answer), False, answer[0]
        else:
            if not refuses and charge.ledger.counts_denied:
                return None
            verdict = backend.apply([(charge.ledger, subject, charge.costs)], intent)
            now, _, receipt, refusals, *_ = verdict
            if refusals and not refuses:
                return None
            if refusals:
                decision, is_far = refused(limits, verdict), False
            else:
                decision = accepted(tier, [owner, envelope, receipt] if record else None)
                is_far = observe is not None and backend.is_below(receipt, charge.marks)
        if observe is None:
            return decision
        return observe(envelope, charge, subject, decision, now, is_far)

    return decide


def _acquirer(operations: Operations, backend: MemoryBackend, accept: FastPath) -> FastPath:
    if operations.measures_waits:
        return _needs_general
    has_bookings, queue = backend.has_bookings, operations.queue
    sender = subject_getter(("sender",), operations.policy.comparison)

    def acquire(envelope: Envelope) -> Decision | None:
        # A booking that is made between these two calls is not an earlier one.
        if not isinstance(envelope, Envelope) or has_bookings(queue, sender(envelope)):
            return None
        decision = accept(envelope)
        if decision is not None:
            return decision
        # Perhaps it has several charges; where a refusal changes nothing, they may be tried.
        if envelope.id is not None or operations.blocks.concern(envelope):
            return None
        plan = operations.plan(envelope)
        if plan.never is not None or not plan.charges or plan.counts_denied:
            return None
        verdict = backend.apply(plan.charges)
        if verdict.refusals:
            return None
        decision = operations.decide(plan, verdict, envelope)
        if operations.observers.is_idle:
            return decision
        message = DecidedMessage(envelope, plan, decision, verdict)
        return run(operations.observers.observe_steps(backend, message))

    return acquire


def _settler(operations: Operations, backend: MemoryBackend) -> Callable[[Decision], bool]:
    settle_pending = backend.settle_pending

    def settle(decision: Decision) -> bool:
        token = decision.refund_token
        if token is None or len(token) != RECEIPTS + 1 or decision.recipients is not None:
            return False
        by, envelope, receipt = token
        if by is not operations or type(envelope) is not Envelope or not settle_pending(receipt):
            return False
        token[ENVELOPE] = settled(envelope)
        return True

    return settle
