"""Make sync and async Redis backends that a test can use in the same way, with a policy."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from ratelimit_mail import (
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncRedisBackend, RedisBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing.sync_adapter import SyncAdapter
from rlm_testkit.servers import Server

KINDS = ("sync", "async")

valkey_only = pytest.mark.parametrize("server", ["valkey"], indirect=True)
"""For tests whose result does not depend on the kind of the server."""

T = TypeVar("T")

SENDER_LIMIT = MessageRateLimit("1000/day")
DOMAIN_LIMIT = MessageRateLimit("1000/hour", scope="sender_domain", denied="count")
GLOBAL_LIMIT = RecipientRateLimit("1000/day", scope="global")
POLICY = Policy(name="test", limits=[SENDER_LIMIT, DOMAIN_LIMIT, GLOBAL_LIMIT])

ANN = "ann@uwo.ca"


class SyncOverAsync(SyncAdapter):
    """An AsyncRedisBackend that is called like a sync backend."""

    def __init__(self, runner: asyncio.Runner, make: Callable[[], AsyncRedisBackend]) -> None:
        self._backend_made = runner.run(_call(make))
        super().__init__(self._backend_made, runner.run)

    def close(self) -> None:
        self._wait(self._backend_made.aclose())


async def _call(make: Callable[[], T]) -> T:
    return make()


class BackendFactory:
    """Make sync or async backends, all called like sync backends, and close them at the end."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self._stack = contextlib.ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner()) if is_async else None

    def from_url(self, url: str, **options: Any) -> Any:
        """Return a backend on the server of a URL."""
        options.setdefault("timeout", 30)  # a slow machine is not an outage
        return self.make(
            lambda: RedisBackend.from_url(url, **options),
            lambda: AsyncRedisBackend.from_url(url, **options),
        )

    def from_client(
        self, port: int, prefix: str, clock: Any = None, *, retries: bool = True, **options: Any
    ) -> Any:
        """Return a backend with a redis-py client that has these options.

        retries: whether the client repeats commands, as redis-py does by default.
        """
        if not retries:
            options["retry"] = self.no_retry
        return self.make(
            lambda: RedisBackend(redis.Redis(port=port, **options), prefix=prefix, clock=clock),
            lambda: AsyncRedisBackend(
                redis.asyncio.Redis(port=port, **options), prefix=prefix, clock=clock
            ),
        )

    @property
    def no_retry(self) -> Any:
        """Return the `retry` of a client that sends a command once."""
        kind: Any = redis.asyncio.retry.Retry if self.is_async else redis.retry.Retry
        return kind(NoBackoff(), 0)

    def make(
        self, make_sync: Callable[[], RedisBackend], make_async: Callable[[], AsyncRedisBackend]
    ) -> Any:
        """Return the backend that one of two functions makes."""
        if self._runner is None:
            backend: Any = make_sync()
        else:
            backend = SyncOverAsync(self._runner, make_async)
        self._stack.callback(backend.close)
        return backend

    def close(self) -> None:
        self._stack.close()


def both_kinds(request: pytest.FixtureRequest) -> Iterator[BackendFactory]:
    """Make sync and async backends: a fixture with `params=KINDS`."""
    factory = BackendFactory(is_async=request.param == "async")
    yield factory
    factory.close()


def one_kind_per_server(server: Server) -> Iterator[BackendFactory]:
    """Make sync backends on Valkey and async ones on Redis: a fixture for half of the cases."""
    factory = BackendFactory(is_async=server.name == "Redis")
    yield factory
    factory.close()


def unique_prefix() -> str:
    """Return a prefix that separates the counts of one test from those of all others."""
    return f"test-{uuid.uuid4().hex[:12]}:"


def spare_server(server: Server) -> Iterator[Server]:
    """Start another server of the same kind, whose settings a test may change: a fixture."""
    spare = Server(server.program)
    yield spare
    spare.stop()


def envelope_from(
    sender: str = ANN, envelope_id: str | None = None, recipients: int = 1
) -> Envelope:
    """Return an envelope to so many recipients, each in a domain of its own."""
    return Envelope(sender, [f"r{i}@d{i}.org" for i in range(recipients)], id=envelope_id)


def limits_per(length: str, limit: int = 3) -> list[Limit]:
    """Return limits of several scopes and units, with and without refused attempts."""
    return [
        MessageRateLimit(f"{limit}/{length}", denied="count"),
        RecipientRateLimit(f"{limit}/{length}", resolution="1 second"),
        MessageRateLimit(f"{9 * limit}/{length}", scope="sender_domain", count="external"),
        RecipientRateLimit(f"{9 * limit}/{length}", scope="recipient_domain"),
        MessageRateLimit(f"{9 * limit}/{length}", scope="global", denied="count"),
    ]


def used(limiter: Limiter, sender: str = ANN) -> list[int]:
    """Return how much of each limit of `POLICY` is used."""
    subjects: list[tuple[str | None, str]] = [
        (sender, "sender"),
        (sender.partition("@")[2], "sender_domain"),
        (None, "global"),
    ]
    return [limiter.usage(subject, scope=scope)[0].used for subject, scope in subjects]


def dump_all(client: redis.Redis, prefix: str = "") -> dict[bytes, Any]:
    """Return every key with its value, but without its expiry."""
    return {key: client.dump(key) for key in client.scan_iter(f"{prefix}*", count=10_000)}


def text_of(error: BaseException) -> str:
    """Return all text of an error: its repr and its traceback."""
    return "\n".join([repr(error), *traceback.format_exception(error)])
