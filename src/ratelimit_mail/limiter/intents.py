"""What is asked of a backend beside the charges, and how the same question is known again."""

from __future__ import annotations

from ratelimit_mail.backends.base import REFUSE, TAKE, Idempotency, Intent
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy.charges import ChargePlan

__all__ = ["Intents"]


class Intents:
    """The intents of one limiter.

    name: what its counts are kept under. remembered: how many milliseconds an answer is.
    """

    def __init__(self, name: str, remembered: int) -> None:
        self._name = name
        self._remembered = remembered

    def intent(self, plan: ChargePlan, envelope: Envelope, verb: str = "take") -> Intent:
        """What `try_acquire` asks of a backend."""
        if envelope.id is None:
            return TAKE if plan.never is None else REFUSE
        return Intent(
            refused=plan.never is not None, idempotency=self.idempotency(plan, envelope, verb)
        )

    def idempotency(self, plan: ChargePlan, envelope: Envelope, verb: str) -> Idempotency | None:
        """How the backend knows the same question again, whatever the strangers in it wrote."""
        if envelope.id is None:
            return None
        import hashlib  # slow to import, and not all have ids

        asked = [self._name, plan.effective_limits.tier or "", verb, envelope.id, envelope.sender]
        asked += envelope.recipients
        for ledger, subject, costs in plan.charges:
            asked += ledger.name, subject, str([costs[count.unit] for count in ledger.counts])
        # No part holds a line break.
        name = hashlib.blake2b("\n".join(asked).encode(), digest_size=16).hexdigest()
        return Idempotency(name, self._remembered)
