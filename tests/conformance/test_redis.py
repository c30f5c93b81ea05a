"""The sync and async Redis backends pass the conformance suite on Valkey and on Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail.backends import AsyncBackend, AsyncRedisBackend, RedisBackend
from ratelimit_mail.testing import AsyncBackendConformance, BackendConformance

TIMEOUT = 30
"""A slow machine is not an outage."""


class TestRedis(BackendConformance):
    @pytest.fixture(autouse=True)
    def _use(self, server: Server) -> Iterator[None]:
        self._server = server
        with contextlib.ExitStack() as self._open:
            yield

    def backend(self, clock: Callable[[], int]) -> RedisBackend:
        backend = RedisBackend.from_url(
            self._server.url, prefix=unique_prefix(), clock=clock, timeout=TIMEOUT
        )
        self._open.callback(backend.close)
        return backend


class TestAsyncRedis(AsyncBackendConformance):
    scripts = 50

    @pytest.fixture(autouse=True)
    def _use(self, server: Server) -> None:
        self._server = server

    def async_backend(self, clock: Callable[[], int]) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(
            self._server.url, prefix=unique_prefix(), clock=clock, timeout=TIMEOUT
        )

    async def close(self, backend: AsyncBackend) -> None:
        assert isinstance(backend, AsyncRedisBackend)
        await backend.aclose()
