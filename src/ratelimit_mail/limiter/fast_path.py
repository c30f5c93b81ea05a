"""The fast path: decide on most messages in memory without a plan or a general verdict.

It takes over cases 1 and 2 of `MemoryBackend.apply`, for a message that charges one subject: the
charge was granted beforehand, or the same charge was refused and nothing has changed since. It
needs 0.4 of the time of the general path, and returns None for every other message.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ratelimit_mail.backends.base import Verdict
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.decision import Decision, accepted
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter.operations import Operations
from ratelimit_mail.limiter.verdicts import refused
from ratelimit_mail.policy.charges import EffectiveLimits

__all__ = ["FastPath", "fast_path"]

FastPath = Callable[[Envelope], Decision | None]
"""Returns the decision on a message, or None if the message needs the general path."""


def fast_path(operations: Operations, backend: object, *, record: bool = True) -> FastPath | None:
    """Return the fast path of a limiter.

    None if it counts elsewhere than in memory, if a message needs more than a decision, or if its
    limits depend on more than the client's tier.

    record: False for a check, which charges nothing.
    """
    selector = operations.policy.selector_by_tier
    if not operations.is_plain or selector is None or type(backend) is not MemoryBackend:
        return None
    for_limits = partial(_for_limits, backend=backend, owner=operations, record=record)
    paths = selector.by_tier.map(for_limits)
    if not paths.rows:
        return paths.default
    choose = paths.choose

    def decide(envelope: Envelope) -> Decision | None:
        if not isinstance(envelope, Envelope):
            return None
        return choose(envelope.client)(envelope)

    return decide


def _for_limits(
    limits: EffectiveLimits, backend: MemoryBackend, owner: Operations, *, record: bool
) -> FastPath:
    # Names of a closure are quicker than attributes.
    charges_by_domains, tier, blocks = limits.charges_by_domains, limits.tier, owner.blocks
    answer_to = backend.take if record else backend.peek
    is_prepared, domains_of = limits.comparison.is_prepared, limits.comparison.domains

    def decide(envelope: Envelope) -> Decision | None:
        try:
            domains = envelope.folded_domains if is_prepared else domains_of(envelope)
            charges = charges_by_domains[domains]
        except AttributeError:
            return None
        if charges is None or (charge := charges.only) is None:
            return None
        if envelope.id is not None or envelope.direction == "inbound":
            return None
        if (blocks.is_stale or blocks.exist) and blocks.concern(envelope):
            return None
        ledger, subject, costs = charge
        answer = answer_to(ledger, subject(envelope), costs)
        if type(answer) is list:
            return accepted(tier, [owner, envelope, answer] if record else None)
        return refused(limits, answer) if isinstance(answer, Verdict) else None

    return decide
