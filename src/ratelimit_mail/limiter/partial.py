"""Partial answers: decide on arriving mail recipient by recipient, and combine the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.decision import ACCEPT, Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy import Policy

__all__ = ["MessageDecisions"]

BEST_FIRST: Final = (Action.DEFER, Action.HOLD, Action.REJECT)


class MessageDecisions:
    """The envelopes that get a decision of their own for one message, and how they combine.

    envelopes: one, the message itself; for arriving mail under a policy with partial answers one
        for each owner of a mailbox, however many of the owner's addresses the message names.
    """

    def __init__(self, policy: Policy, envelope: Envelope) -> None:
        if not isinstance(envelope, Envelope):
            raise TypeError(f"an Envelope is needed, not {show(envelope)}")
        self.envelopes = [envelope]
        self._owner_of: dict[str, str] = {}
        self._owners: list[str] = []
        if policy.partial and envelope.direction == "inbound":
            owner_by_key: dict[str, str] = {}
            for each in envelope.recipients:
                owner = policy.owner(each)
                key = policy.comparison.address(owner)
                self._owner_of[each] = owner_by_key.setdefault(key, owner)
            self._owners = list(owner_by_key.values())
            self.envelopes = [_for_one(envelope, owner) for owner in self._owners]

    def __len__(self) -> int:
        return len(self.envelopes)

    def combine(self, decisions: Sequence[Decision], owner: object) -> Decision:
        """Return one decision for the message from those on each of its envelopes.

        The message is accepted if any recipient is; otherwise it gets the mildest decision. What
        shadow limits say is combined in the same way.

        owner: whoever may refund the decision; None for a check.
        """
        if not self._owners:
            return decisions[0]
        whole = self._combine(decisions)
        shadows = [each.shadow for each in decisions if each.shadow is not None]
        shadow = self._combine(shadows) if len(shadows) == len(decisions) else None
        token = [owner] if whole and owner is not None else None
        return attrs.evolve(whole, refund_token=token, shadow=shadow)

    def _combine(self, decisions: Sequence[Decision]) -> Decision:
        by_owner = dict(zip(self._owners, decisions, strict=True))
        recipients = {each: by_owner[owner] for each, owner in self._owner_of.items()}
        degraded = any(each.degraded for each in decisions)
        if any(decisions):
            tier = decisions[0].tier
            return Decision(ACCEPT, 0.0, None, tier, degraded=degraded, recipients=recipients)
        best = min(decisions, key=lambda each: (BEST_FIRST.index(each.action), _wait(each)))
        return attrs.evolve(best, degraded=degraded, recipients=recipients)


def _wait(decision: Decision) -> float:
    return float("inf") if decision.retry_after is None else decision.retry_after


def _for_one(envelope: Envelope, recipient: str) -> Envelope:
    """Return `envelope` with one recipient."""
    return attrs.evolve(envelope, recipients=(recipient,))
