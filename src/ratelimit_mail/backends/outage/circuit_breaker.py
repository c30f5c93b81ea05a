"""A circuit breaker: an outage is noticed once, and retried at growing intervals by one call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ratelimit_mail._util.logger import log_info, log_warning
from ratelimit_mail.exceptions import BackendUnavailable

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "CircuitBreaker"]

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 0.5
"""Seconds between two tries: with a second for an answer, all is normal again within two."""


class CircuitBreaker:
    """Whether a backend is away, and which call may try it; safe for threads and event loops."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.is_closed = True
        """Whether calls go through: the backend is not known to be away."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pause = FIRST_PAUSE
        self._next_try = 0.0
        self._trying = False
        self._reason = ""
        self._unreported: BackendUnavailable | None = None

    def may_try(self) -> bool:
        """Return whether this call may try the backend; it must then report how that went."""
        with self._lock:
            if self._trying or self._monotonic() < self._next_try:
                return False
            self._trying = True
            return True

    def succeeded(self) -> None:
        """Record that the backend has answered."""
        with self._lock:
            was_away, self.is_closed = not self.is_closed, True
            self._trying = False
        if was_away:
            log_info("the backend is back")

    def failed(self, error: BackendUnavailable, *, tried: bool, is_reported: bool = True) -> None:
        """Record that the backend has not answered.

        tried: by a call that `may_try` let through, not by one that began before the outage.
        is_reported: whether the call raises `error`; if not, the next `error()` returns it.
        """
        with self._lock:
            begins, self.is_closed = self.is_closed, False
            if begins:
                self._pause = FIRST_PAUSE
            elif tried:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if begins or tried:
                self._next_try = self._monotonic() + self._pause
            self._trying = self._trying and not tried
            self._reason = str(error)
            self._unreported = None if is_reported else error
        if begins:
            log_warning("the backend is away: %s", error)

    def cancelled(self) -> None:
        """Record that the call that tried was cancelled: the next call may try."""
        with self._lock:
            self._trying = False

    def error(self) -> BackendUnavailable:
        """Return the error for a call that was not even tried."""
        with self._lock:
            unreported, self._unreported = self._unreported, None
        error = unreported
        if error is None:
            error = BackendUnavailable(f"{self._reason} (not tried again for this call)")
        error.safe_to_repeat = True
        return error

    def next_try_in(self) -> float:
        """Return the seconds until the backend is tried again."""
        with self._lock:
            return max(FIRST_PAUSE, self._next_try - self._monotonic())
