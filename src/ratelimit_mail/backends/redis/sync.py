"""RedisBackend: counts in Redis, for any number of processes and hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis

from ratelimit_mail._util.steps import run
from ratelimit_mail.backends.base import TAKE, Intent, Message, Reading, Verdict
from ratelimit_mail.backends.redis.core import PREFIX, RedisCore
from ratelimit_mail.backends.redis.scripts import APPLY
from ratelimit_mail.backends.redis.transport import Transport
from ratelimit_mail.backends.redis.urls import client_from, is_cluster
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["RedisBackend"]


class RedisBackend(RedisCore):
    """Counts in Redis or Valkey, shared by all processes and hosts that reach it.

    client: a `redis.Redis`, also a Sentinel's `master_for`, or a `redis.RedisCluster`.
    prefix: what the names of all its keys begin with.
    clock: gives integer milliseconds since the epoch, for tests; left out: the server's clock.

    Safe for threads. Redis 5.0 or newer, or Valkey. Methods raise BackendUnavailable where the
    server is away, BackendError where it cannot be used at all.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        *,
        prefix: str = PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(Transport.to(client), prefix, clock)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = PREFIX,
        clock: Callable[[], int] | None = None,
        timeout: float = 1.0,
        **options: Any,
    ) -> RedisBackend:
        """A backend on the server, Sentinel set or cluster of a URL.

        url: `redis://user:password@host:6379/0`, `rediss://` for TLS, `unix:///path?db=0`,
            `redis+sentinel://host:26379,host:26379/service`, `redis+cluster://host:6379`.
        timeout: the most seconds to wait for a connection, and for an answer.
        options: more arguments for the client of redis-py.

        Raises ValueError that says what is wrong with the URL, without its password.
        """
        make = partial(client_from, url, timeout=timeout, is_async=False, options=options)
        if is_cluster(url):  # whose client connects when it is made
            client_from(url, timeout=timeout, is_async=True, options=options)  # says what is wrong
            link = Transport(make, sharded=True, where="the Redis Cluster")
        else:
            link = Transport.to(make())
        backend = cls.__new__(cls)
        RedisCore.__init__(backend, link, prefix, clock)
        return backend

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        if self._is_multi_slot(charges, intent):
            return run(self._multi_slot_steps(charges, intent))
        return self._ask(charges, intent)

    def _ask(
        self,
        charges: Sequence[Charge],
        intent: Intent,
        *,
        start: int | None = None,
        flags: int = 0,
    ) -> Verdict:
        packed = self._codec.pack(charges, intent, start=start, flags=flags)
        return self._codec.verdict(packed, self._link.run(APPLY, packed.keys, (packed.message,)))

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """`apply` for each of several messages, in order, many with one script."""
        return run(self._apply_many_steps(messages))

    def refund(self, receipt: Any) -> None:
        """Take the charges of a receipt out."""
        run(self._refund_steps(receipt))

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """The readings of each window of each of the ledger's counts, for one subject."""
        return run(self._usage_steps(ledger, subject))

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget all that was counted for one subject, in every unit."""
        run(self._reset_steps(ledgers, subject))

    def close(self) -> None:
        """Close the connections of the client."""
        self._link.close()
