"""The Redis backend passes the conformance suite on a cluster, also where counts are spread."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import redis
from rlm_testkit.servers import Cluster

from ratelimit_mail.backends import AsyncBackend, AsyncRedisBackend, RedisBackend
from ratelimit_mail.backends.redis.urls import client_from
from ratelimit_mail.testing import AsyncBackendConformance, BackendConformance


def own_prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}:"


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> redis.RedisCluster:
    made: redis.RedisCluster = client_from(cluster.url, timeout=5, is_async=False, options={})
    return made


class TestCluster(BackendConformance):
    @pytest.fixture(autouse=True)
    def _on(self, client: redis.RedisCluster) -> None:
        self._client = client

    def backend(self, clock: Callable[[], int]) -> RedisBackend:
        return RedisBackend(self._client, prefix=own_prefix(), clock=clock)


class TestClusterAwaited(AsyncBackendConformance):
    scripts = 20

    @pytest.fixture(autouse=True)
    def _on(self, cluster: Cluster) -> None:
        self._url = cluster.url

    def async_backend(self, clock: Callable[[], int]) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(self._url, prefix=own_prefix(), clock=clock)

    async def close(self, backend: AsyncBackend) -> None:
        assert isinstance(backend, AsyncRedisBackend)
        await backend.aclose()
