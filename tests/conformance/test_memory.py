"""MemoryBackend, sync and async, and BruteForceBackend pass the conformance suite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.adapters import InlineAdapter
from ratelimit_mail.testing import (
    AsyncBackendConformance,
    BackendConformance,
    BruteForceBackend,
)


class TestMemory(BackendConformance):
    def backend(self, clock: Callable[[], int]) -> MemoryBackend:
        return MemoryBackend(clock)


class TestAsyncMemory(AsyncBackendConformance):
    scripts = 20

    def async_backend(self, clock: Callable[[], int]) -> InlineAdapter:
        return InlineAdapter(MemoryBackend(clock))


class TestBruteForce(BackendConformance):
    scripts = 0  # it would be compared with itself

    @pytest.mark.skip(reason="BruteForceBackend is not safe for threads")
    def test_threads_with_one_sender_admit_exactly_the_limit(self) -> None: ...

    def backend(self, clock: Callable[[], int]) -> BruteForceBackend:
        return BruteForceBackend(clock)
