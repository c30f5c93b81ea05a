"""What the tests of the Redis backend share: a policy, both colours of a backend, fixtures."""

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

COLOURS = ["blocking", "awaited"]

valkey_only = pytest.mark.parametrize("server", ["valkey"], indirect=True)
"""For what does not depend on the kind of the server."""

T = TypeVar("T")

MINE = MessageRateLimit("1000/day")
DOMAINS = MessageRateLimit("1000/hour", scope="sender_domain", denied="count")
ALL = RecipientRateLimit("1000/day", scope="global")
POLICY = Policy(name="test", limits=[MINE, DOMAINS, ALL])

ANN = "ann@uwo.ca"


class Blocking(SyncAdapter):
    """An AsyncRedisBackend, called from a thread without an event loop."""

    def __init__(self, runner: asyncio.Runner, make: Callable[[], AsyncRedisBackend]) -> None:
        self._made = runner.run(_called(make))
        super().__init__(self._made, runner.run)

    def close(self) -> None:
        self._wait(self._made.aclose())


async def _called(make: Callable[[], T]) -> T:
    return make()


class Colour:
    """Backends of one colour, to be called in the blocking way, and closed at the end."""

    def __init__(self, *, awaited: bool) -> None:
        self.awaited = awaited
        self._stack = contextlib.ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner()) if awaited else None

    def at(self, url: str, **options: Any) -> Any:
        """A backend on the server of a URL."""
        return self.made(
            lambda: RedisBackend.from_url(url, **options),
            lambda: AsyncRedisBackend.from_url(url, **options),
        )

    def on(
        self, port: int, prefix: str, clock: Any = None, *, repeats: bool = True, **options: Any
    ) -> Any:
        """A backend by a client of redis-py that has these options.

        repeats: it repeats a command as often as redis-py does by default.
        """
        if not repeats:
            options["retry"] = self.no_retry
        return self.made(
            lambda: RedisBackend(redis.Redis(port=port, **options), prefix=prefix, clock=clock),
            lambda: AsyncRedisBackend(
                redis.asyncio.Redis(port=port, **options), prefix=prefix, clock=clock
            ),
        )

    @property
    def no_retry(self) -> Any:
        """What makes a client send a command once."""
        kind: Any = redis.asyncio.retry.Retry if self.awaited else redis.retry.Retry
        return kind(NoBackoff(), 0)

    def made(
        self, blocking: Callable[[], RedisBackend], awaited: Callable[[], AsyncRedisBackend]
    ) -> Any:
        """What one of two functions makes."""
        backend = blocking() if self._runner is None else Blocking(self._runner, awaited)
        self._stack.callback(backend.close)
        return backend

    def close(self) -> None:
        self._stack.close()


def both_colours(request: pytest.FixtureRequest) -> Iterator[Colour]:
    """A fixture of both colours, with `params=COLOURS`."""
    colour = Colour(awaited=request.param == "awaited")
    yield colour
    colour.close()


def colour_at(server: Server) -> Iterator[Colour]:
    """A fixture of one colour a server: neither knows of the other, so not all pairs are tried."""
    colour = Colour(awaited=server.name == "Redis")
    yield colour
    colour.close()


def new_prefix() -> str:
    """A fixture: a prefix that nobody else has."""
    return f"test-{uuid.uuid4().hex[:12]}:"


def spare_server(server: Server) -> Iterator[Server]:
    """A fixture: a server of the same kind, to be spoiled."""
    spare = Server(server.program)
    yield spare
    spare.stop()


def letter(sender: str = ANN, known_by: str | None = None, recipients: int = 1) -> Envelope:
    """A message to as many recipients, each of a domain of its own."""
    return Envelope(sender, [f"r{i}@d{i}.org" for i in range(recipients)], id=known_by)


def limits_per(length: str, most: int = 3) -> list[Limit]:
    """Limits of several scopes and units, with and without refused attempts."""
    return [
        MessageRateLimit(f"{most}/{length}", denied="count"),
        RecipientRateLimit(f"{most}/{length}", resolution="1 second"),
        MessageRateLimit(f"{9 * most}/{length}", scope="sender_domain", count="external"),
        RecipientRateLimit(f"{9 * most}/{length}", scope="recipient_domain"),
        MessageRateLimit(f"{9 * most}/{length}", scope="global", denied="count"),
    ]


def used(limiter: Limiter, sender: str = ANN) -> list[int]:
    """What is counted of each limit of `POLICY`."""
    asked: list[tuple[str | None, str]] = [
        (sender, "sender"),
        (sender.partition("@")[2], "sender_domain"),
        (None, "global"),
    ]
    return [limiter.usage(subject, scope=scope)[0].used for subject, scope in asked]


def everything(client: redis.Redis, prefix: str = "") -> dict[bytes, Any]:
    """Every key with its value, without the time that it has left."""
    return {key: client.dump(key) for key in client.scan_iter(f"{prefix}*")}


def text_of(error: BaseException) -> str:
    """All that anybody can read of an error."""
    return "\n".join([repr(error), *traceback.format_exception(error)])
