"""Counts of decisions: in all, by tier, by limit, by rule and by sender."""

from __future__ import annotations

from typing import Final

import attrs

from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.policy import Policy

__all__ = ["KINDS", "Counts", "Tally"]

KINDS: Final = {
    Action.ACCEPT: "accepted",
    Action.DEFER: "deferred",
    Action.REJECT: "rejected",
    Action.HOLD: "held",
}
"""What each action is called once it is done; the names of the fields of Counts."""


@attrs.define
class Counts:
    """How many messages were accepted, deferred, rejected, and held for a moderator."""

    accepted: int = 0
    deferred: int = 0
    rejected: int = 0
    held: int = 0

    def add(self, action: Action) -> None:
        """Count one message."""
        kind = KINDS[action]
        setattr(self, kind, getattr(self, kind) + 1)

    @property
    def refused(self) -> int:
        """The messages that were deferred or rejected."""
        return self.deferred + self.rejected

    @property
    def messages(self) -> int:
        """All messages."""
        return self.accepted + self.refused + self.held

    def of(self, kinds: tuple[str, ...]) -> dict[str, int]:
        """The counts of some kinds, by name."""
        return {kind: getattr(self, kind) for kind in kinds}


class Tally:
    """What the decisions of one replay come to."""

    def __init__(self, policy: Policy) -> None:
        self.all = Counts()
        self.by_tier: dict[str | None, Counts] = {tier.name: Counts() for tier in policy.tiers}
        self.by_limit = {str(limit): Counts() for limit in policy.all_limits if limit.enforce}
        self.by_rule: dict[str, Counts] = {}
        self.by_shadow = {str(limit): Counts() for limit in policy.all_limits if not limit.enforce}
        """What limits that only report would have answered."""
        self.by_sender: dict[str, Counts] = {}
        self.touched_by: dict[str, set[str]] = {limit: set() for limit in self.by_limit}
        """The senders of whom each limit or rule refused a message."""

    def add(self, sender: str, decision: Decision) -> None:
        """Count the decision on a message of `sender`."""
        action = decision.action
        self.all.add(action)
        self.by_tier.setdefault(decision.tier, Counts()).add(action)
        self.by_sender.setdefault(sender, Counts()).add(action)
        if decision.limit is not None:
            self.by_limit.setdefault(str(decision.limit), Counts()).add(action)
        elif decision.rule is not None:
            self.by_rule.setdefault(str(decision.rule), Counts()).add(action)
        spoke = decision.limit or decision.rule
        if spoke is not None and action is not Action.HOLD:
            self.touched_by.setdefault(str(spoke), set()).add(sender)
        shadow = decision.shadow
        if shadow is not None and shadow.limit is not None:
            self.by_shadow.setdefault(str(shadow.limit), Counts()).add(shadow.action)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of decision worth a column: `held` only where there are moderators."""
        return tuple(kind for kind in KINDS.values() if kind != "held" or self.all.held)

    @property
    def touched(self) -> int:
        """How many senders had a message deferred or rejected."""
        return sum(1 for counts in self.by_sender.values() if counts.refused)

    def most_touched(self, number: int) -> list[tuple[str, Counts]]:
        """The senders with the most messages refused; of equals, by name."""
        touched = [item for item in self.by_sender.items() if item[1].refused]
        return sorted(touched, key=lambda item: (-item[1].refused, item[0]))[:number]
