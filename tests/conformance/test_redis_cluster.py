"""The Redis backends pass the conformance suite on a cluster, also with counts in several slots."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from rlm_testkit.multi_slot import cluster_client
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Cluster

from ratelimit_mail.backends import AsyncBackend, AsyncRedisBackend, RedisBackend
from ratelimit_mail.testing import AsyncBackendConformance, BackendConformance

client = pytest.fixture(cluster_client, scope="module")


class TestCluster(BackendConformance):
    @pytest.fixture(autouse=True)
    def _use(self, client: redis.RedisCluster) -> None:
        self._client = client

    def backend(self, clock: Callable[[], int]) -> RedisBackend:
        return RedisBackend(self._client, prefix=unique_prefix(), clock=clock)


class TestAsyncCluster(AsyncBackendConformance):
    scripts = 20

    @pytest.fixture(autouse=True)
    def _use(self, cluster: Cluster) -> None:
        self._url = cluster.url

    def async_backend(self, clock: Callable[[], int]) -> AsyncRedisBackend:
        return AsyncRedisBackend.from_url(
            self._url, prefix=unique_prefix(), clock=clock, timeout=30
        )

    async def close(self, backend: AsyncBackend) -> None:
        assert isinstance(backend, AsyncRedisBackend)
        await backend.aclose()
