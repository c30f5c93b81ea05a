"""The labels of metrics: few, of bounded number, and never an address."""

from __future__ import annotations

import threading
from typing import Final, NamedTuple

from ratelimit_mail.decision import Decision
from ratelimit_mail.limits import Limit

__all__ = ["OTHER", "DecisionLabels", "Labels"]

OTHER: Final = "other"
"""Stands for every value after the first ones, so that overrides cannot make endless series."""

MOST_VALUES: Final = 100


class DecisionLabels(NamedTuple):
    """The labels of one decision.

    limit: the name of the limit that decided, or its text; "block", "rule", "outage" for what else
        decided, and empty for a message that was accepted.
    result: the action: accept, defer, reject or hold.
    mode: "enforced", or "shadow" for limits that only report.
    """

    policy: str
    limit: str
    result: str
    mode: str


class Labels:
    """Makes labels; at most 100 policies and 100 limits have labels of their own."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._limits: dict[Limit, str] = {}

    def of_decision(self, policy: str, decision: Decision, mode: str) -> DecisionLabels:
        """Return the labels of a decision."""
        if decision.limit is not None:
            limit = self._limit(decision.limit)
        elif decision.block is not None:
            limit = "block"
        elif decision.rule is not None:  # whose words may name a mailing list
            limit = "rule"
        else:
            limit = "" if decision.allowed or not decision.degraded else "outage"
        return DecisionLabels(self.bounded("policy", policy), limit, decision.action.value, mode)

    def _limit(self, limit: Limit) -> str:
        label = self._limits.get(limit)
        if label is None:
            label = self.bounded("limit", limit.name or str(limit))
            if len(self._limits) < 10 * MOST_VALUES:
                self._limits[limit] = label
        return label

    def bounded(self, name: str, value: str) -> str:
        """Return a value of the label `name`, or OTHER if there are many, or it has an address."""
        seen = self._seen.setdefault(name, set())
        if value in seen:
            return value
        with self._lock:
            if len(seen) >= MOST_VALUES or "@" in value or len(value) > 200:
                return OTHER
            seen.add(value)
        return value
