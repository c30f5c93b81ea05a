"""Claims: of several processes on one store, one does what all of them would do."""

from __future__ import annotations

from contextlib import suppress

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.limiter.marks import Marks

__all__ = ["Claims"]


class Claims:
    """Claims in a store, under the name of a policy; on every backend."""

    def __init__(self, store: Backend, name: str) -> None:
        self._marks = Marks(store, name)

    def take(self, what: str, seconds: float) -> bool:
        """Return whether this caller is the first within `seconds`; true while the store is away.

        what: what is claimed. Only a digest of it is stored.
        """
        try:
            return self._marks.set(f"claim {what}", max(1, round(seconds * 1000)))
        except BackendError as error:
            log_warning("an alert may come twice, because the store is away: %s", error)
            return True

    def give_back(self, what: str) -> None:
        """Let the next caller take what this one has claimed; nothing while the store is away."""
        with suppress(BackendError):
            self._marks.clear(f"claim {what}")
