"""Tally: counts of decisions, in all and by tier, limit, rule and sender."""

from __future__ import annotations

from typing import Final, TypeVar

import attrs

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.decision import ACCEPT, DEFER, REJECT, Action, Decision
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy import Policy
from ratelimit_mail.rules import Block, Rule

__all__ = ["KINDS", "DecisionCounts", "Tally"]

KINDS: Final = {
    ACCEPT: "accepted",
    DEFER: "deferred",
    REJECT: "rejected",
    Action.HOLD: "held",
}
"""The field of DecisionCounts for each action."""

MOST_CAUSES: Final = 10_000


@attrs.define
class DecisionCounts:
    """How many messages were accepted, deferred, rejected, and held for a moderator."""

    accepted: int = 0
    deferred: int = 0
    rejected: int = 0
    held: int = 0

    def add(self, action: Action) -> None:
        """Count one message."""
        if action is DEFER:
            self.deferred += 1
        elif action is REJECT:
            self.rejected += 1
        elif action is ACCEPT:
            self.accepted += 1
        else:
            self.held += 1

    @property
    def refused(self) -> int:
        """The number of messages that were deferred or rejected."""
        return self.deferred + self.rejected

    @property
    def messages(self) -> int:
        """The number of all messages."""
        return self.accepted + self.refused + self.held

    def of(self, kinds: tuple[str, ...]) -> dict[str, int]:
        """Return the counts of some kinds, by name."""
        return {kind: getattr(self, kind) for kind in kinds}


Key = TypeVar("Key")


def _counts(counts_by: dict[Key, DecisionCounts], key: Key) -> DecisionCounts:
    """Return the counts of a key, which may be new."""
    counts = counts_by.get(key)
    if counts is None:
        counts = counts_by[key] = DecisionCounts()
    return counts


class Tally:
    """The counts of the decisions of one replay. A sender with a refused message is affected.

    Senders that the policy takes for one are one, under the spelling that came first.
    """

    def __init__(self, policy: Policy) -> None:
        limits = policy.all_limits
        self._key_of = sender_keys(policy).__getitem__
        self._senders = BoundedCache(self._sender)
        self._spellings: dict[str, str] = {}
        """The spelling of each sender that came first, by its key."""
        self._causes: dict[int, tuple[object, DecisionCounts, set[str]]] = {}
        """The counts and the affected senders of each limit, rule and block, by its identity.

        The object must stay, as long as its identity is used.
        """
        self.by_tier: dict[str | None, DecisionCounts] = {
            tier.name: DecisionCounts() for tier in policy.tiers
        }
        self.by_limit = {str(limit): DecisionCounts() for limit in limits if limit.enforce}
        self.by_rule: dict[str, DecisionCounts] = {}
        self.by_shadow = {str(limit): DecisionCounts() for limit in limits if not limit.enforce}
        """The decisions of limits that only report."""
        self.by_sender: dict[str, DecisionCounts] = {}
        self.affected_by: dict[str, set[str]] = {limit: set() for limit in self.by_limit}
        """The senders who had a message refused by each limit or rule."""

    def add(self, sender: str, decision: Decision) -> None:
        """Count the decision on a message of `sender`."""
        spelling, counts = self._senders[sender]
        tier = self.by_tier.get(decision.tier)
        if tier is None:
            tier = self.by_tier[decision.tier] = DecisionCounts()
        action, shadow = decision.action, decision.shadow
        if action is ACCEPT and shadow is None:
            counts.accepted += 1
            tier.accepted += 1
            return
        counts.add(action)
        tier.add(action)
        cause = decision.limit or decision.rule or decision.block
        if action is Action.HOLD:
            _counts(self.by_rule, str(cause)).add(action)
        elif cause is not None:
            _, of_cause, affected = self._causes.get(id(cause)) or self._new_cause(cause)
            of_cause.add(action)
            affected.add(spelling)
        if shadow is not None and shadow.limit is not None:
            _counts(self.by_shadow, str(shadow.limit)).add(shadow.action)

    def _sender(self, sender: str) -> tuple[str, DecisionCounts]:
        """Return the spelling of a sender that came first, and its counts."""
        spelling = self._spellings.setdefault(self._key_of(sender), sender)
        return spelling, _counts(self.by_sender, spelling)

    @property
    def all(self) -> DecisionCounts:
        """The counts of all messages."""
        tiers = self.by_tier.values()
        return DecisionCounts(
            **{kind: sum(getattr(each, kind) for each in tiers) for kind in KINDS.values()}
        )

    def _new_cause(self, cause: Limit | Rule | Block) -> tuple[object, DecisionCounts, set[str]]:
        # All blocks because of one limit together, whatever they block.
        name = f"block: {cause.reason}" if isinstance(cause, Block) else str(cause)
        is_limit = not isinstance(cause, Rule | Block)
        counts = _counts(self.by_limit if is_limit else self.by_rule, name)
        if len(self._causes) >= MOST_CAUSES:
            self._causes.clear()
        known = cause, counts, self.affected_by.setdefault(name, set())
        self._causes[id(cause)] = known
        return known

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of decision to show; `held` only if there are held messages."""
        return tuple(kind for kind in KINDS.values() if kind != "held" or self.all.held)

    @property
    def affected(self) -> int:
        """The number of senders who had a message deferred or rejected."""
        return sum(1 for counts in self.by_sender.values() if counts.refused)

    def most_affected(self, number: int) -> list[tuple[str, DecisionCounts]]:
        """Return the senders with the most refused messages, then by name."""
        affected = [item for item in self.by_sender.items() if item[1].refused]
        return sorted(affected, key=lambda item: (-item[1].refused, item[0]))[:number]
