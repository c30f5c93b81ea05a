"""The exceptions that this library raises, besides ValueError and TypeError."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimit_mail.decision import Decision

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "ConnectionPoolFull",
    "OutboxError",
    "PolicyFileError",
    "RateLimitExceeded",
    "RateLimitMailError",
    "TransportUnavailable",
]


class RateLimitMailError(Exception):
    """The base class of this library's own exceptions."""


class BackendError(RateLimitMailError):
    """A backend cannot do its work until an administrator changes something.

    For example, the key of a count holds another program's value, or the server is too old.
    """


class BackendUnavailable(BackendError):
    """A backend is unavailable for now: no connection, a timeout, no memory, or still loading.

    If the answer to a charge was lost, the charge may have been made in full or not at all; in a
    cluster, if a message's counts are in several slots, also in part.

    `safe_to_repeat`: True if certainly nothing was done, or if doing it again changes nothing.
    """

    safe_to_repeat = False


class ConnectionPoolFull(BackendError):
    """All connections of the application's own client were in use for too long.

    The backend is not away, so `on_backend_error` does not apply. Nothing was sent, so the call can
    be repeated; a larger `max_connections` prevents the error.
    """


class RateLimitExceeded(RateLimitMailError):
    """A message may not be sent now, or not before the timeout.

    `decision` names the limit, and says when the message would fit.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        wait = self.decision.retry_after
        when = "it can never go" if wait is None else f"it fits in {_seconds_text(wait)}"
        if self.decision.block is not None:
            when = "until it is unblocked" if wait is None else f"for {_seconds_text(wait)}"
        if self.decision.action.value == "hold":
            when = "a moderator decides"
        return f"{self.decision.reply} ({self._reason()}; {when})"

    def _reason(self) -> str:
        if self.decision.block is not None:
            return str(self.decision.block)
        return str(self.decision.limit or self.decision.rule or "the backend is away")


class OutboxError(RateLimitMailError):
    """The file of an outbox cannot be used: the disk is full, or the file is locked or damaged."""


class TransportUnavailable(RateLimitMailError):
    """A transport cannot send for now, and has not sent this message.

    `reason`: the text of the exception.

    For example, the mail server does not answer, or it refuses the login. The outbox tries again
    later; the message is not to blame.

    `reply`: the server's reply, as code and text; None if there was none.
    """

    def __init__(self, reason: str, reply: tuple[int, bytes | str] | None = None) -> None:
        super().__init__(reason)
        self.reply = reply


class PolicyFileError(RateLimitMailError, ValueError):
    """A policy file cannot be read, or a policy cannot be written to one.

    `problems`: one line for each thing that is wrong, with file, table and key.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def _seconds_text(seconds: float) -> str:
    """Return a length of time in words, exact to the millisecond."""
    exact = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return f"{exact} second" if exact == "1" else f"{exact} seconds"
