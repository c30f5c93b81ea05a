"""Translate the errors of redis-py to this library's, without passwords."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from redis import exceptions

from ratelimit_mail._util.text import escape
from ratelimit_mail.exceptions import BackendError, BackendUnavailable, ConnectionPoolFull

__all__ = [
    "CLIENT_ERRORS",
    "TIMED_OUT",
    "UNREACHABLE",
    "NotSent",
    "PoolFull",
    "backend_error",
    "is_pool_full",
]

CLIENT_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""What a redis-py client raises if a command fails."""

UNREACHABLE: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.SlotNotCoveredError,
    OSError,
)
"""The node did not answer, or there is no node for the slot."""

TIMED_OUT: Final = (exceptions.TimeoutError, TimeoutError)
"""The server did not answer in time, or did not accept a connection in time."""

_TEMPORARY: Final = (
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
"""Errors that end by themselves, or once an administrator has acted on the server."""

_TEMPORARY_TEXTS: Final = (
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

_NOT_PERMITTED_TEXTS: Final = ("NOPERM", "ACL failure", "can't run this command", "can't access")

_FILE_TEXTS: Final = ("No such file", "Permission denied", "Is a directory", "Not a directory")
"""The ssl module does not say which file it means."""

LONGEST_PATH: Final = 400

TLS_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

NO_SETTINGS: Final[Mapping[str, Any]] = {}

_TOO_OLD_TEXT: Final = "Write commands not allowed after non deterministic commands"


class NotSent(exceptions.ConnectionError):
    """A command was not sent, because there was no connection."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class PoolFull(exceptions.RedisError):
    """All connections of the client were in use for `seconds`; the command was not sent."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"all connections were in use for {seconds:g} seconds")


_POOL_FULL_TEXTS: Final = ("Too many connections", "No connection available")
"""Before redis-py 7, a full pool has no class of its own. A Sentinel pool and a cluster client
quote the error of the pool in one of theirs."""


def is_pool_full(error: BaseException) -> bool:
    """Return whether a command was not sent because all connections of a pool were in use."""
    return isinstance(error, exceptions.MaxConnectionsError | PoolFull) or (
        isinstance(error, exceptions.ConnectionError | exceptions.RedisClusterException)
        and any(each in str(error) for each in _POOL_FULL_TEXTS)
    )


def backend_error(
    error: BaseException, server: str, settings: Mapping[str, Any] = NO_SETTINGS
) -> BackendError:
    """Return this library's error for an error of redis-py.

    server: a description of the server, without user name and password.
    settings: those of the client's connections, by which a TLS file that is missing is named.
    """
    if isinstance(error, NotSent):
        translated = backend_error(error.error, server, settings)
        if isinstance(translated, BackendUnavailable):
            translated.safe_to_repeat = True
        return translated
    if is_pool_full(error):
        reason = str(error) if isinstance(error, PoolFull) else "all connections were in use"
        return ConnectionPoolFull(
            f"{server} was not asked, because {reason}: the client's pool of connections is too"
            " small (max_connections)"
        )
    text = " ".join(str(error).split())[:200]
    if isinstance(error, exceptions.AuthenticationError) or text.startswith("WRONGPASS"):
        return BackendUnavailable(f"{server} refuses the user name or the password")
    if isinstance(error, exceptions.NoPermissionError) or any(
        each in text for each in _NOT_PERMITTED_TEXTS
    ):
        return BackendError(
            f"{server} does not permit this user what the backend needs: {text}. It calls EVALSHA"
            " and EVAL, and in them TIME, DEL and commands on lists, strings, hashes, sorted sets"
            " and expiry, for keys that begin with its prefix; for `top` also SCAN"
        )
    if _TOO_OLD_TEXT in text:
        return BackendError(
            f"{server} is too old: Redis 5.0 or newer is needed, or Valkey, because before that"
            " a script that reads the clock may not write"
        )
    if isinstance(error, _TEMPORARY) or any(each in text for each in _TEMPORARY_TEXTS):
        if any(each in text for each in _FILE_TEXTS):
            text += "".join(f"; {name}: '{path}'" for name, path in _unreadable(settings))
        return BackendUnavailable(f"{server} is away: {type(error).__name__}: {text}")
    return BackendError(f"{server}: {type(error).__name__}: {text}")


def _unreadable(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a file for TLS which cannot be read, with the file."""
    for name in TLS_FILES:
        if settings.get(name) and not os.access(settings[name], os.R_OK):
            yield name, escape(str(settings[name])[:LONGEST_PATH])
