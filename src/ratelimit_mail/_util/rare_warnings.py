"""Warnings that come with every message are logged once a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ratelimit_mail._util.logger import log_warning

__all__ = ["RareWarnings"]

WARN_SECONDS: Final = 60.0


class RareWarnings:
    """Logs warnings, one of a kind a minute. clock: seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._warned_at: dict[str, float] = {}

    def warn(self, kind: str, text: str, *values: object) -> None:
        """Log a warning, if there was none of its kind lately."""
        now = self._clock()
        if now - self._warned_at.get(kind, float("-inf")) >= WARN_SECONDS:
            self._warned_at[kind] = now
            log_warning(text, *values)
