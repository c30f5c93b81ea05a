"""The error tree: what this library raises beyond ValueError and TypeError."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimit_mail.decision import Decision

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "PolicyFileError",
    "RateLimitExceeded",
    "RateLimitMailError",
]


class RateLimitMailError(Exception):
    """The root of this library's own errors."""


class BackendError(RateLimitMailError):
    """A backend cannot do its work, and will not until somebody changes something.

    Say, another program's value stands where a count belongs, or the server is too old.
    """


class BackendUnavailable(BackendError):
    """A backend is away for now: no connection, no answer in time, no memory, still loading.

    A charge whose answer was lost may have been made, all of it, or not at all; in a cluster, where
    a message's counts stand in several slots, a part of it. `safe_to_repeat`: certainly nothing was
    done, or the same once more changes nothing.
    """

    safe_to_repeat = False


class RateLimitExceeded(RateLimitMailError):
    """A message may not go now, or not within the time that was given.

    `decision` says which limit spoke, and when the message would fit.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        wait = self.decision.retry_after
        when = "it can never go" if wait is None else f"it fits in {_in_words(wait)}"
        if self.decision.action.value == "hold":
            when = "a moderator decides"
        why = self.decision.limit or self.decision.rule or "the backend is away"
        return f"{self.decision.reply} ({why}; {when})"


class PolicyFileError(RateLimitMailError, ValueError):
    """A policy file cannot be read, or a policy cannot be written to one.

    `problems`: all that is wrong, a line each, with file, table and key.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def _in_words(seconds: float) -> str:
    """A length of time, exact to the millisecond."""
    exact = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return f"{exact} second" if exact == "1" else f"{exact} seconds"
