"""Counts of decisions: in all, by tier, by limit and by sender."""

from __future__ import annotations

import attrs

from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.policy import Policy

__all__ = ["Counts", "Tally"]


@attrs.define
class Counts:
    """How many messages were accepted, deferred and rejected."""

    accepted: int = 0
    deferred: int = 0
    rejected: int = 0

    def add(self, action: Action) -> None:
        """Count one message."""
        if action is Action.ACCEPT:
            self.accepted += 1
        elif action is Action.DEFER:
            self.deferred += 1
        else:
            self.rejected += 1

    @property
    def refused(self) -> int:
        """The messages that did not go at once."""
        return self.deferred + self.rejected

    @property
    def messages(self) -> int:
        """All messages."""
        return self.accepted + self.refused


class Tally:
    """What the decisions of one replay come to."""

    def __init__(self, policy: Policy) -> None:
        self.all = Counts()
        self.by_tier: dict[str | None, Counts] = {tier.name: Counts() for tier in policy.tiers}
        self.by_limit = {str(limit): Counts() for limit in policy.all_limits}
        self.by_sender: dict[str, Counts] = {}

    def add(self, sender: str, decision: Decision) -> None:
        """Count the decision on a message of `sender`."""
        action = decision.action
        self.all.add(action)
        self.by_tier.setdefault(decision.tier, Counts()).add(action)
        self.by_sender.setdefault(sender, Counts()).add(action)
        if decision.limit is not None:
            self.by_limit[str(decision.limit)].add(action)

    @property
    def touched(self) -> int:
        """How many senders had a message deferred or rejected."""
        return sum(1 for counts in self.by_sender.values() if counts.refused)

    def most_touched(self, number: int) -> list[tuple[str, Counts]]:
        """The senders with the most messages refused; of equals, by name."""
        touched = [item for item in self.by_sender.items() if item[1].refused]
        return sorted(touched, key=lambda item: (-item[1].refused, item[0]))[:number]
