"""Drive an EventDetector in tests: send messages by a manual clock and collect the events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ratelimit_mail import Client, Decision, Envelope, Limiter, Policy
from ratelimit_mail._util.steps import run
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import Reading
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.events import Dispatcher, Event
from ratelimit_mail.events.detector import EventDetector
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock
from rlm_testkit.builders import envelope_to

__all__ = ["CountingBackend", "EventScene", "utc"]


class CountingBackend(MemoryBackend):
    """Count in memory, and count how often the usage is read."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.clock = clock
        self.reads = 0

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        self.reads += 1
        return super().usage(ledger, subject)


class EventScene:
    """A policy, a limiter whose decisions a detector observes, and a manual clock."""

    def __init__(
        self, *limits: Limit, backend: CountingBackend | None = None, **options: Any
    ) -> None:
        names = {
            "tiers",
            "internal_domains",
            "grants",
            "overrides",
            "exemptions",
            "directory",
        } & options.keys()
        changes = {name: options.pop(name) for name in names}
        self.policy = Policy(name="campus", limits=limits, **changes)
        self.backend = backend or CountingBackend(ManualClock(0))
        self.clock = self.backend.clock
        self.limiter = Limiter(self.policy, self.backend)
        self._events: list[Event] = []
        self.dispatcher = Dispatcher(self._events.append, most_waiting=10**6)
        self.detector = EventDetector(self.policy, self.dispatcher, **options)

    def send(
        self,
        sender: str = "ann@uwo.ca",
        recipients: int | Sequence[str] = 1,
        client: Client | None = None,
    ) -> Decision:
        """Send a message, and let the detector observe the decision."""
        envelope = envelope_to(recipients, sender, client)
        decision = self.limiter.try_acquire(envelope)
        self.observe(envelope, decision)
        return decision

    def observe(self, envelope: Envelope, decision: Decision) -> None:
        """Let the detector observe a decision."""
        plan = self.policy.plan(envelope)
        now = self.clock()
        run(self.detector.observe_steps(self.backend, envelope, plan, decision, now))

    def new_events(self) -> list[Event]:
        """Return the events since the last call."""
        assert self.dispatcher.flush(60)
        events, self._events[:] = self._events[:], []
        return events

    def new_kinds(self) -> list[str]:
        """Return the names of the kinds of the events since the last call."""
        return [type(event).__name__ for event in self.new_events()]


def utc(seconds: float) -> datetime:
    """Return a time that many seconds after the epoch."""
    return datetime.fromtimestamp(seconds, UTC)
