"""Recorder: what measures a limiter's decisions, such as the metrics of `monitoring`."""

from __future__ import annotations

from typing import Protocol

from ratelimit_mail.decision import Decision

__all__ = ["Recorder"]


class Recorder(Protocol):
    """Is called for each decision, unlike a listener, which gets events.

    It is called by the thread or task that decides, so it must be quick and must not wait. What it
    raises is raised by the limiter.
    """

    def decided(self, policy: str, decision: Decision) -> None:
        """Record the decision on a message that is to go, not one of `check`."""
        ...

    def decided_in_shadow(self, policy: str, decision: Decision) -> None:
        """Record what limits that only report would have answered."""
        ...

    def waited(self, policy: str, seconds: float) -> None:
        """Record how long `acquire` has waited for an accepted message."""
        ...

    def called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """Record one call of a backend other than memory, such as `apply`, and how long it took."""
        ...
