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
        """Record the decision on a message that is to go, not one of `check`.

        policy: its name.
        """
        ...

    def decided_in_shadow(self, policy: str, decision: Decision) -> None:
        """Record what limits that only report would have answered.

        policy: its name. decision: that on the message, whose `shadow` has those answers.
        """
        ...

    def waited(self, policy: str, seconds: float) -> None:
        """Record how long `acquire` has waited for an accepted message.

        policy: its name. seconds: from the call to the decision.
        """
        ...

    def called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """Record one call of a backend other than memory, such as `apply`, and how long it took.

        operation: the name of the method. seconds: how long it took.
        failed: whether it raised an error.
        """
        ...
