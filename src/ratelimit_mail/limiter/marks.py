"""Marks: names that all processes of a backend share, each set once and forgotten after a time.

A mark is a request with an id that charges nothing: the backend answers the first one, and knows
every later one as a repetition. So a mark is set in one step, by exactly one process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ratelimit_mail.backends.base import Backend, Idempotency, Intent, Message
from ratelimit_mail.counting.charge import NO_COSTS, Count, Ledger
from ratelimit_mail.counting.window import Retention
from ratelimit_mail.limiter.sync import Limiter

__all__ = ["Marks"]


class Marks:
    """The marks in a backend under a name, such as that of a policy."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._ledger = Ledger(f"{self._name}:marks", (Count(0, (), Retention(1)),), 1)

    @classmethod
    def of(cls, limiter: Limiter) -> Marks:
        """Return the marks of a limiter, under the name of its policy.

        An outage of the backend is handled as the limiter's `on_backend_error` says: with
        `"allow"`, a mark that could not be set counts as set now, and one that could not be read
        as not set.
        """
        operations = limiter._operations
        return cls(operations.backend, operations.policy.counted_as)

    def set(self, name: str, milliseconds: int) -> bool:
        """Set a mark for a time. Return False if it was set before."""
        return not self._backend.apply(*self._request(name, milliseconds)).repeated

    def set_all(self, marks: Sequence[tuple[str, int]]) -> list[bool]:
        """Call `set` for each of several marks and times, in one call of the backend."""
        requests = [self._request(*each) for each in marks]
        return [not verdict.repeated for verdict in self._backend.apply_many(requests)]

    def are_set(self, names: Sequence[str]) -> list[bool]:
        """Return for each of several marks whether it is set."""
        requests = [self._request(each, 1, recall=True) for each in names]
        return [verdict.repeated for verdict in self._backend.apply_many(requests)]

    def clear(self, name: str) -> None:
        """Clear a mark, if it is set."""
        receipt = self._backend.apply(*self._request(name, 1, recall=True)).receipt
        if receipt is not None:
            self._backend.refund(receipt)

    def read_text(self, name: str) -> str | None:
        """Return the text that `write_text` has stored under a name, or None."""
        return self._backend.read_register(f"{self._name}:{name}").entries.get("text")

    def write_text(self, name: str, text: str | None) -> None:
        """Store a text under a name, until None is stored there."""
        self._backend.write_register(f"{self._name}:{name}", {"text": text})

    def _request(self, name: str, milliseconds: int, *, recall: bool = False) -> Message:
        text = f"{self._name}\n{name}"
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        # The subject only spreads marks over the slots of a cluster.
        charge = (self._ledger, f"mark {digest[:2]}", NO_COSTS)
        return [charge], Intent(idempotency=Idempotency(digest, milliseconds), recall=recall)
