"""The Redis backend, in both colours, passes the conformance suite on Valkey and on Redis."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from rlm_testkit.servers import Server

from ratelimit_mail.backends import AsyncBackend, AsyncRedisBackend, RedisBackend
from ratelimit_mail.testing import AsyncBackendConformance, BackendConformance


def own_prefix() -> str:
    """What makes a backend empty."""
    return f"test-{uuid.uuid4().hex[:12]}:"


class TestRedis(BackendConformance):
    @pytest.fixture(autouse=True)
    def _on(self, server: Server) -> None:
        self._server = server

    def backend(self, clock: Callable[[], int]) -> RedisBackend:
        return RedisBackend.from_url(self._server.url, prefix=own_prefix(), clock=clock)


class TestRedisAwaited(AsyncBackendConformance):
    scripts = 50

    @pytest.fixture(autouse=True)
    def _on(self, server: Server) -> None:
        self._server = server

    def async_backend(self, clock: Callable[[], int]) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self._server.url, prefix=own_prefix(), clock=clock)

    async def close(self, backend: AsyncBackend) -> None:
        assert isinstance(backend, AsyncRedisBackend)
        await backend.aclose()
