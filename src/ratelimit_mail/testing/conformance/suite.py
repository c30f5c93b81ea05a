"""What every part of the suite stands on: an empty backend, and a limiter on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ratelimit_mail.backends.base import Backend
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing.clock import ManualClock

__all__ = ["Suite", "letter", "policy_of"]


def letter(
    recipients: int = 1, sender: str = "ann@uwo.ca", domain: str = "example.com"
) -> Envelope:
    """A message to so many recipients of one domain."""
    return Envelope(sender, [f"r{i}@{domain}" for i in range(recipients)])


def policy_of(*limits: Limit, name: str = "conformance") -> Policy:
    """A policy of `limits` for everybody."""
    return Policy(name=name, limits=limits, internal_domains=["uwo.ca"])


class Suite(ABC):
    """Tests of a backend that a subclass gives."""

    @abstractmethod
    def backend(self, clock: Callable[[], int]) -> Backend:
        """An empty backend whose time is `clock`."""

    def limiter(self, *limits: Limit) -> tuple[Limiter, ManualClock]:
        """A limiter on an empty backend, and its clock."""
        clock = ManualClock()
        return Limiter(policy_of(*limits), self.backend(clock), sleep=clock.advance), clock
