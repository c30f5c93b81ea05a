"""ConformanceTests: the base class of the suite, with an empty backend and a limiter on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

from ratelimit_mail.backends.base import Backend
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing.clock import ManualClock

__all__ = ["ConformanceTests", "envelope_to", "policy_with", "value_error"]


def envelope_to(
    recipients: int = 1, sender: str = "ann@uwo.ca", domain: str = "example.com"
) -> Envelope:
    """Return an envelope to a number of recipients of one domain."""
    return Envelope(sender, [f"r{i}@{domain}" for i in range(recipients)])


def policy_with(*limits: Limit, name: str = "conformance") -> Policy:
    """Return a policy with `limits` for every client."""
    return Policy(name=name, limits=limits, internal_domains=["uwo.ca"])


def value_error(words: str) -> AbstractContextManager[object]:
    """Expect a ValueError whose text has these words."""
    import pytest  # which a program that only uses the manual clock need not have

    return pytest.raises(ValueError, match=words)


class ConformanceTests(ABC):
    """Tests of the backend that a subclass creates."""

    @abstractmethod
    def backend(self, clock: Callable[[], int]) -> Backend:
        """Return an empty backend whose time is `clock`."""

    def limiter(self, *limits: Limit) -> tuple[Limiter, ManualClock]:
        """Return a limiter on an empty backend, and its clock."""
        clock = ManualClock()
        return Limiter(policy_with(*limits), self.backend(clock), sleep=clock.advance), clock
