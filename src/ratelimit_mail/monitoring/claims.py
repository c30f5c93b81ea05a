"""Claims: of several processes on one store, one does what all of them would do."""

from __future__ import annotations

import hashlib
from typing import Final

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail.backends.base import Backend, Idempotency, Intent
from ratelimit_mail.counting.charge import Count, Ledger
from ratelimit_mail.counting.window import Retention
from ratelimit_mail.exceptions import BackendError

__all__ = ["Claims"]

SPAN: Final = 1000
"""Milliseconds for which the charge of a claim itself is remembered; nothing reads it."""


class Claims:
    """Claims in a store, under the name of a policy.

    A claim is a request with an id, charged to a count that limits nothing: the store answers a
    repetition with the first answer, and says so. So it works on every backend.
    """

    def __init__(self, store: Backend, name: str) -> None:
        self._store = store
        self._ledger = Ledger(f"{name}:claims", (Count(0, (), Retention(SPAN)),), SPAN)
        self._name = name

    def take(self, what: str, seconds: float) -> bool:
        """Return whether this caller is the first within `seconds`; true while the store is away.

        what: what is claimed. Only a digest of it is stored.
        """
        digest = hashlib.blake2b(what.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        idempotency = Idempotency(f"{self._name}:claim:{digest}", max(1, round(seconds * 1000)))
        intent = Intent(idempotency=idempotency)
        try:
            return not self._store.apply([(self._ledger, digest, (1, 0, 0, 0))], intent).repeated
        except BackendError as error:
            log_warning("an alert may come twice, because the store is away: %s", error)
            return True
