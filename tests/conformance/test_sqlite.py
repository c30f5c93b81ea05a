"""The sync and async SQLite backends pass the conformance suite."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ratelimit_mail.backends import AsyncBackend, AsyncSQLiteBackend, SQLiteBackend
from ratelimit_mail.testing import AsyncBackendConformance, BackendConformance

TIMEOUT = 60
"""A slow machine is not an outage."""


class TestSQLite(BackendConformance):
    @pytest.fixture(autouse=True)
    def _use(self, tmp_path: Path) -> Iterator[None]:
        self._paths = (tmp_path / f"{number}.db" for number in itertools.count())
        with contextlib.ExitStack() as self._open:
            yield

    def backend(self, clock: Callable[[], int]) -> SQLiteBackend:
        backend = SQLiteBackend(next(self._paths), clock=clock, timeout=TIMEOUT)
        self._open.callback(backend.close)
        return backend


class TestAsyncSQLite(AsyncBackendConformance):
    scripts = 50

    @pytest.fixture(autouse=True)
    def _use(self, tmp_path: Path) -> None:
        self._paths = (tmp_path / f"{number}.db" for number in itertools.count())

    def async_backend(self, clock: Callable[[], int]) -> AsyncSQLiteBackend:
        return AsyncSQLiteBackend(next(self._paths), clock=clock, timeout=TIMEOUT)

    async def close(self, backend: AsyncBackend) -> None:
        assert isinstance(backend, AsyncSQLiteBackend)
        await backend.aclose()
