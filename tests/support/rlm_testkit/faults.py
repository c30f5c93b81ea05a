"""Fixtures and helpers for faults between a limiter and its server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Protocol

import pytest

from ratelimit_mail import AsyncLimiter, Envelope, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.testing import ManualClock
from rlm_testkit.load import ENVELOPE, SENDER, AnyLimiter, one_limit_policy
from rlm_testkit.proxy import Proxy
from rlm_testkit.servers import Cluster, Server

PER_DAY_100: Final = one_limit_policy(100)

RETRY_SECONDS: Final = 10
"""How long to wait until a backend is tried again: half a second, and more for a slow machine."""

CHARGING_CALLS: Final[dict[str, Callable[[AnyLimiter, Envelope], Any]]] = {
    "try_acquire": lambda limiter, envelope: limiter.try_acquire(envelope),
    "try_acquire_many": lambda limiter, envelope: limiter.try_acquire_many([envelope] * 3),
    "acquire": lambda limiter, envelope: limiter.acquire(envelope),
    "reserve": lambda limiter, envelope: limiter.reserve(envelope),
    "limited": lambda limiter, envelope: limiter.limited(lambda envelope: None)(envelope),
}

CALLS: Final[dict[str, Callable[[AnyLimiter], Any]]] = {
    **{
        name: partial(lambda call, limiter: call(limiter, ENVELOPE), CHARGING_CALLS[name])
        for name in CHARGING_CALLS
    },
    "check": lambda limiter: limiter.check(ENVELOPE),
    "usage": lambda limiter: limiter.usage(SENDER),
    "reset": lambda limiter: limiter.reset(SENDER),
}
"""Every method of a limiter that needs its backend."""

BACKEND_ERROR_POLICIES: Final = ("raise", "allow", "deny", "fallback")


def on_backend_error(policy: str) -> Any:
    """Return the argument `on_backend_error` for one of BACKEND_ERROR_POLICIES."""
    return MemoryBackend() if policy == "fallback" else policy


def limiter_kind(request: pytest.FixtureRequest) -> str:
    """Return "sync" or "async": a fixture with `params=KINDS`."""
    kind: str = request.param
    return kind


def script_proxy(server: Server) -> Iterator[Proxy]:
    """Run a proxy in front of the server, which loses only answers to scripts: a fixture.

    The greeting of a new connection charges nothing, so losing its answer would show nothing.
    """
    proxy = Proxy(server.port, only=b"EVAL")
    yield proxy
    proxy.close()


def cluster_proxies(cluster: Cluster) -> Iterator[dict[int, Proxy]]:
    """Run a proxy in front of each node of the cluster, by the node's port: a fixture."""
    proxies = {node.port: Proxy(node.port, only=b"EVAL") for node in cluster.nodes}
    yield proxies
    for proxy in proxies.values():
        proxy.close()


class MakeLimiter(Protocol):
    """Make a limiter behind the proxy.

    timeout: of the backend; by default a slow machine is not an outage.
    """

    def __call__(
        self,
        policy: Policy = PER_DAY_100,
        *,
        clock: ManualClock | None = None,
        timeout: float = 30,
        **options: Any,
    ) -> AnyLimiter: ...


def limiter_factory(kind: str, proxy: Proxy, prefix: str) -> Iterator[MakeLimiter]:
    """Make limiters behind the proxy, and close them at the end: a fixture."""
    limiters: list[AnyLimiter] = []

    def make(
        policy: Policy = PER_DAY_100,
        *,
        clock: ManualClock | None = None,
        timeout: float = 30,
        **options: Any,
    ) -> AnyLimiter:
        backend = {"timeout": timeout, "clock": clock}
        limiters.append(
            AnyLimiter(kind, proxy.url, policy, prefix=prefix, backend=backend, **options)
        )
        return limiters[-1]

    yield make
    for limiter in limiters:
        limiter.close()


def once_available(call: Callable[[], Any]) -> Any:
    """Return the result of `call` as soon as it does not raise BackendUnavailable."""
    end = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return call()
        except BackendUnavailable:
            assert time.monotonic() < end
            time.sleep(0.01)


async def connect(limiter: AsyncLimiter) -> None:
    """Check until the backend has a connection and its server knows the script."""
    end = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            await limiter.check(ENVELOPE)
        except BackendUnavailable:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        else:
            return


def try_acquire_undegraded(limiter: AnyLimiter, envelope: Envelope) -> Any:
    """Return a decision of the server; BackendUnavailable if the decision is degraded."""
    decision = limiter.try_acquire(envelope)
    if decision.degraded:
        raise BackendUnavailable("the backend was not tried")
    return decision


def envelope_with_id(envelope_id: str) -> Envelope:
    """Return the envelope ENVELOPE with an id."""
    return Envelope(SENDER, ["bob@example.com"], id=envelope_id)
