"""An outage of a backend: noticed once, tried again at growing intervals, by one call at a time."""

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
    """Whether a backend is away, and who may try it. Safe for threads and event loops."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.is_over = True
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pause = FIRST_PAUSE
        self._next_try = 0.0
        self._try_acquire_steps = False
        self._why = ""

    def may_try(self) -> bool:
        """Whether this call may try the backend; it then says how that `worked` or `failed`."""
        with self._lock:
            if self._try_acquire_steps or self._monotonic() < self._next_try:
                return False
            self._try_acquire_steps = True
            return True

    def worked(self) -> None:
        """The backend has answered."""
        with self._lock:
            was_away, self.is_over = not self.is_over, True
            self._try_acquire_steps = False
        if was_away:
            log_info("the backend is back")

    def failed(self, error: BackendUnavailable, *, tried: bool) -> None:
        """The backend has not answered.

        tried: by a call that `may_try` let through, not by one that came before the outage.
        """
        with self._lock:
            begins, self.is_over = self.is_over, False
            if begins:
                self._pause = FIRST_PAUSE
            elif tried:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if begins or tried:
                self._next_try = self._monotonic() + self._pause
            self._try_acquire_steps = self._try_acquire_steps and not tried
            self._why = str(error)
        if begins:
            log_warning("the backend is away: %s", error)

    def broken_off(self) -> None:
        """The call that tried was cancelled: the next may try."""
        with self._lock:
            self._try_acquire_steps = False

    def error(self) -> BackendUnavailable:
        """What to raise for a call that was not even tried."""
        error = BackendUnavailable(f"{self._why} (not tried again for this call)")
        error.safe_to_repeat = True
        return error

    def next_try_in(self) -> float:
        """Seconds until the backend is tried again."""
        with self._lock:
            return max(FIRST_PAUSE, self._next_try - self._monotonic())
