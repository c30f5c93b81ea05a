"""What a limiter asks of a backend beside the charges, and how a repeated request is recognised."""

from __future__ import annotations

from ratelimit_mail.backends.base import REFUSE, TAKE, Idempotency, Intent
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import WITHOUT_CASE, Comparison

__all__ = ["Intents"]


class Intents:
    """The intents of one limiter.

    name: the name under which it counts. lifetime: for how many milliseconds the answer to an
    envelope with an id is remembered. comparison: how addresses are compared; a request in another
    spelling of its addresses is the same request.
    """

    def __init__(self, name: str, lifetime: int, comparison: Comparison = WITHOUT_CASE) -> None:
        self._comparison = comparison
        self._name = name
        self._lifetime = lifetime

    def intent(self, plan: ChargePlan, envelope: Envelope, operation: str = "take") -> Intent:
        """Return what `try_acquire` asks of the backend."""
        if envelope.id is None:
            return TAKE if plan.never is None else REFUSE
        return Intent(
            refused=plan.never is not None, idempotency=self.idempotency(plan, envelope, operation)
        )

    def idempotency(
        self, plan: ChargePlan, envelope: Envelope, operation: str
    ) -> Idempotency | None:
        """Return how the backend recognises the same request, or None without an id.

        The key is a hash of everything that makes the request, because senders choose what is
        in an envelope.
        """
        if envelope.id is None:
            return None
        import hashlib  # slow to import, and few programs use ids

        request = [
            self._name,
            plan.effective_limits.tier or "",
            operation,
            envelope.id,
            self._comparison.address(envelope.sender),
        ]
        request += self._comparison.recipients(envelope)
        for ledger, subject, costs in plan.charges:
            request += ledger.name, subject, str([costs[count.unit] for count in ledger.counts])
        # No item holds a line break.
        name = hashlib.blake2b("\n".join(request).encode(), digest_size=16).hexdigest()
        return Idempotency(name, self._lifetime)
