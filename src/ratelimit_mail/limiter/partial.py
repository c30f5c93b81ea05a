"""What of a message is decided on by itself: all of it, or each of its recipients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.decision import ACCEPT, Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy import Policy

__all__ = ["MessageDecisions"]

KINDEST: Final = (Action.DEFER, Action.HOLD, Action.REJECT)


class MessageDecisions:
    """The parts of one message under one policy.

    envelopes: a part each. Where the policy asks for partial answers, mail that arrives has one
        for each owner of a mailbox, however many of his addresses it names.
    """

    def __init__(self, policy: Policy, envelope: Envelope) -> None:
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        self.envelopes = [envelope]
        self._owner_of: dict[str, str] = {}
        self._owners: list[str] = []
        if policy.partial and envelope.direction == "inbound":
            self._owner_of = {each: policy.owner(each) for each in envelope.recipients}
            self._owners = list(dict.fromkeys(self._owner_of.values()))
            self.envelopes = [_for_one(envelope, owner) for owner in self._owners]

    def __len__(self) -> int:
        return len(self.envelopes)

    def together(self, decisions: Sequence[Decision], limiter: object) -> Decision:
        """One decision of those on each part.

        A message is accepted if any recipient is; else it fares as the one that fares best. What
        limits that only report say of it is put together in the same way.

        limiter: who may refund it; None for what was only looked at.
        """
        if not self._owners:
            return decisions[0]
        whole = self._together(decisions)
        shadows = [each.shadow for each in decisions if each.shadow is not None]
        shadow = self._together(shadows) if len(shadows) == len(decisions) else None
        refund_token = [limiter] if whole and limiter is not None else None
        return attrs.evolve(whole, refund_token=refund_token, shadow=shadow)

    def _together(self, decisions: Sequence[Decision]) -> Decision:
        by_owner = dict(zip(self._owners, decisions, strict=True))
        recipients = {each: by_owner[owner] for each, owner in self._owner_of.items()}
        degraded = any(each.degraded for each in decisions)
        if any(decisions):
            tier = decisions[0].tier
            return Decision(ACCEPT, 0.0, None, tier, degraded=degraded, recipients=recipients)
        best = min(decisions, key=lambda each: (KINDEST.index(each.action), _wait(each)))
        return attrs.evolve(best, degraded=degraded, recipients=recipients)


def _wait(decision: Decision) -> float:
    return float("inf") if decision.retry_after is None else decision.retry_after


def _for_one(envelope: Envelope, recipient: str) -> Envelope:
    """Return `envelope` with one recipient only."""
    return attrs.evolve(envelope, recipients=(recipient,))
