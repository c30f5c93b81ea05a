"""The windows of this library as a strategy of `limits`, for frameworks that take one.

Importing this module makes the strategy `exact-window` and storages such as
`ratelimit-mail+memory:` and `ratelimit-mail+redis://...` known to `limits`, and so to Flask-Limiter
and slowapi.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, NoReturn

from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import Storage, StorageTypes
from limits.strategies import STRATEGIES, RateLimiter
from limits.util import WindowStats

from ratelimit_mail._util.text import show
from ratelimit_mail.backends import from_url
from ratelimit_mail.backends.base import CHECK, TAKE, Backend, Intent, Verdict
from ratelimit_mail.backends.urls import REDIS
from ratelimit_mail.counting.charge import Charge, Count, Ledger, costs_of, retention_for
from ratelimit_mail.counting.window import Window
from ratelimit_mail.exceptions import BackendError

__all__ = ["BackendStorage", "ExactWindowRateLimiter"]

PREFIX: Final = "ratelimit-mail+"
NAME: Final = "exact-window"


class BackendStorage(Storage):
    """A storage of `limits` that holds a backend of this library, for ExactWindowRateLimiter.

    uri: the URL of a store, as `backends.from_url` takes it, behind `ratelimit-mail+`.
    wrap_exceptions: whether exceptions are raised as `limits.errors.StorageError`.
    backend: a backend, instead of a URL.
    """

    STORAGE_SCHEME = [PREFIX + each for each in ("memory", "sqlite", *REDIS)]  # noqa: RUF012

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        if backend is None:
            backend = from_url((uri or "memory:").removeprefix(PREFIX))
        self.backend: Backend = backend

    @contextmanager
    def wrapped_errors(self) -> Iterator[None]:
        """Raise a backend's errors as StorageError if that was asked for."""
        try:
            yield
        except BackendError as error:
            if self.wrap_exceptions:
                raise StorageError(error) from error
            raise

    @property
    def base_exceptions(self) -> type[Exception]:
        """The exceptions of a backend."""
        return BackendError

    def check(self) -> bool:
        """Return whether the backend answers."""
        try:
            self.backend.read_register("limits")
        except BackendError:
            return False
        return True

    def incr(self, key: str, expiry: int, amount: int = 1) -> NoReturn:
        """Raise NotImplementedError: counts are for the strategy `exact-window` only.

        key, expiry, amount: as those of `limits`.
        """
        raise NotImplementedError(f"this storage needs the strategy {NAME!r}")

    def get(self, key: str) -> NoReturn:
        """See `incr`.

        key: as that of `limits`.
        """
        raise NotImplementedError(f"this storage needs the strategy {NAME!r}")

    def get_expiry(self, key: str) -> NoReturn:
        """See `incr`.

        key: as that of `limits`.
        """
        raise NotImplementedError(f"this storage needs the strategy {NAME!r}")

    def clear(self, key: str) -> NoReturn:
        """See `incr`.

        key: as that of `limits`.
        """
        raise NotImplementedError(f"this storage needs the strategy {NAME!r}")

    def reset(self) -> NoReturn:
        """Raise NotImplementedError: a backend forgets one key at a time, by `clear`."""
        raise NotImplementedError("a backend forgets one key at a time: call clear")


class ExactWindowRateLimiter(RateLimiter):
    """A strategy of `limits` with the exact sliding windows of this library.

    storage: a BackendStorage, or a backend of this library.

    At most the amount in any window, wherever it begins, to the millisecond. By the server's clock
    with Redis.
    """

    def __init__(self, storage: StorageTypes | Backend) -> None:
        if not isinstance(storage, Storage):
            if not callable(getattr(storage, "apply", None)):
                raise TypeError(f"storage: {show(storage)} is neither a storage nor a backend")
            storage = BackendStorage(backend=storage)  # type: ignore[arg-type]
        if not isinstance(storage, BackendStorage):
            raise TypeError(
                f"storage: {NAME!r} needs one such as 'ratelimit-mail+memory:', not {show(storage)}"
            )
        super().__init__(storage)
        self._storage = storage

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Charge `cost` if it fits, and return whether it does.

        item: the rate. identifiers: what it is counted for.
        """
        _check_cost(cost)
        if not 0 < cost <= item.amount:
            return cost == 0 and self.test(item, *identifiers, cost=0)
        return _fits(self._apply(_charge(item, identifiers, cost), TAKE))

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Return whether `cost` would fit; charge nothing.

        item, identifiers: as in `hit`.
        """
        _check_cost(cost)
        if not 0 < cost <= item.amount:
            return cost == 0
        return _fits(self._apply(_charge(item, identifiers, cost), CHECK))

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """Return when more will fit than does now, in seconds since the epoch, and what does now.

        item, identifiers: as in `hit`.

        If nothing is charged, the time is a window ahead, as in the other strategies of `limits`.
        """
        ledger, key, _ = _charge(item, identifiers, 1)
        with self._storage.wrapped_errors():
            [[reading]] = self._storage.backend.usage(ledger, key)
        wait = item.get_expiry() * 1000
        if reading.used:
            more = min(reading.remaining + 1, item.amount)
            verdict = self._apply(_charge(item, identifiers, more), CHECK)
            wait = verdict.at - verdict.now
        return WindowStats(time.time() + wait / 1000, reading.remaining)

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Forget what was charged.

        item, identifiers: as in `hit`.
        """
        ledger, key, _ = _charge(item, identifiers, 1)
        with self._storage.wrapped_errors():
            self._storage.backend.reset([ledger], key)

    def _apply(self, charge: Charge, intent: Intent) -> Verdict:
        with self._storage.wrapped_errors():
            return self._storage.backend.apply([charge], intent)


STRATEGIES[NAME] = ExactWindowRateLimiter  # type: ignore[assignment]


def _check_cost(cost: int) -> None:
    if cost < 0:
        raise ValueError(f"cost: {cost} is below 0")


def _fits(verdict: Verdict) -> bool:
    return not verdict.refusals and verdict.at <= verdict.now


@lru_cache(maxsize=1024)
def _ledger(amount: int, seconds: int) -> Ledger:
    window = Window(amount, seconds * 1000)
    retention = retention_for([window])
    count = Count(0, (window,), retention)
    # The slash keeps it apart from the ledgers of policies.
    return Ledger(f"limits/{amount}/{seconds}", (count,), retention.span)


def _charge(item: RateLimitItem, identifiers: tuple[str, ...], cost: int) -> Charge:
    """Return what a hit is charged; no two lists of identifiers are one subject."""
    escaped = [
        (each.decode() if isinstance(each, bytes) else str(each))
        .replace("%", "%25")
        .replace("/", "%2F")
        for each in identifiers
    ]
    ledger = _ledger(item.amount, item.get_expiry())
    return ledger, item.key_for(*escaped), costs_of(0, cost)
