"""What goes wrong with a server, in this library's errors and without its secrets."""

from __future__ import annotations

from typing import Final

from redis import exceptions

from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["CLIENT_ERRORS", "UNREACHABLE", "NotSent", "backend_error"]

CLIENT_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""What a client of redis-py raises when a command fails."""

UNREACHABLE: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.SlotNotCoveredError,
    OSError,
)
"""No answer of the node that was asked, or no such node."""

_PASSING: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.SlotNotCoveredError,
    OSError,
)
"""What passes by itself, or once an administrator has done something on the server."""

_PASSING_WORDS: Final = (
    "BUSY ",
    "LOADING ",
    "MASTERDOWN ",
    "MISCONF ",
    "NOREPLICAS ",
    "OOM ",
    "READONLY ",
    "UNBLOCKED ",
    "Redis Cluster cannot be connected",
    "slots are not covered",
    "could not agree on a valid slots cache",
)

_NOT_PERMITTED: Final = ("NOPERM", "ACL failure", "can't run this command", "can't access")

_TOO_OLD: Final = "Write commands not allowed after non deterministic commands"


class NotSent(exceptions.ConnectionError):
    """There was no connection to send a command by."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def backend_error(error: BaseException, where: str) -> BackendError:
    """The error to raise for `error` from the server that `where` tells."""
    if isinstance(error, NotSent):
        found = backend_error(error.error, where)
        if isinstance(found, BackendUnavailable):
            found.safe_to_repeat = True
        return found
    text = " ".join(str(error).split())[:200]
    if isinstance(error, exceptions.AuthenticationError) or text.startswith("WRONGPASS"):
        return BackendUnavailable(f"{where} refuses the user name or the password")
    if isinstance(error, exceptions.NoPermissionError) or any(
        word in text for word in _NOT_PERMITTED
    ):
        return BackendError(
            f"{where} does not permit this user what the backend needs: {text}. It calls EVALSHA"
            " and EVAL, and in them TIME and commands on lists, strings and expiry, for keys that"
            " begin with its prefix"
        )
    if _TOO_OLD in text:
        return BackendError(
            f"{where} is too old: Redis 5.0 or newer is needed, or Valkey, because before that"
            " a script that reads the clock may not write"
        )
    if isinstance(error, _PASSING) or any(word in text for word in _PASSING_WORDS):
        return BackendUnavailable(f"{where} is away: {type(error).__name__}: {text}")
    return BackendError(f"{where}: {type(error).__name__}: {text}")
