"""RedisBackend: counts in Redis, for any number of processes and hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import redis

from ratelimit_mail._util.documentation import with_methods_of
from ratelimit_mail._util.steps import run
from ratelimit_mail.backends.base import TAKE, Backend, Intent, Message, Reading, Register, Verdict
from ratelimit_mail.backends.redis.codec import Codec
from ratelimit_mail.backends.redis.core import RedisCore
from ratelimit_mail.backends.redis.keys import DEFAULT_PREFIX
from ratelimit_mail.backends.redis.scripts import APPLY
from ratelimit_mail.backends.redis.transport import Transport
from ratelimit_mail.backends.redis.urls import client_from_url, is_cluster
from ratelimit_mail.counting.charge import Charge, Ledger

__all__ = ["RedisBackend"]


@with_methods_of(Backend)
class RedisBackend:
    """Count in Redis or Valkey, shared by all processes and hosts that connect to the server.

    client: a `redis.Redis`, also the result of a Sentinel's `master_for`, or a
        `redis.RedisCluster`.
    prefix: the beginning of all key names.
    clock: returns integer milliseconds since the epoch, for tests; by default the server's clock
        is used.

    Thread-safe. Requires Redis 5.0 or newer, or Valkey. Methods raise BackendUnavailable if the
    server is away, ConnectionPoolFull if all connections of the client stay in use, and
    BackendError if the server cannot be used at all.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._set_up(Transport.from_client(client), prefix, clock)

    def _set_up(self, transport: Transport, prefix: str, clock: Callable[[], int] | None) -> None:
        self._transport = transport
        self._codec = Codec(prefix, clock, sharded=transport.sharded)
        self._core = RedisCore(transport, self._codec)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Callable[[], int] | None = None,
        timeout: float = 1.0,
        **options: Any,
    ) -> RedisBackend:
        """Return a backend on the server, Sentinel set or cluster of a URL.

        prefix: what every key begins with; those with the same prefix share their counts.
        clock: for tests, the time in milliseconds since the epoch; None asks the server.
        url: `redis://user:password@host:6379/0`, `rediss://` for TLS, `unix:///path?db=0`,
            `redis+sentinel://host:26379,host:26379/service`, `redis+cluster://host:6379`.
        timeout: the most seconds to wait for a connection, and for an answer.
        options: more arguments for the redis-py client.

        Raises ValueError that says what is wrong with the URL, without its password.
        """
        make_client = partial(
            client_from_url, url, timeout=timeout, is_async=False, options=options
        )
        if is_cluster(url):
            # The sync client of a cluster connects when it is made, so it is made later; making
            # the async one validates the URL.
            client_from_url(url, timeout=timeout, is_async=True, options=options)
            transport = Transport(make_client, sharded=True, server="the Redis Cluster")
        else:
            transport = Transport.from_client(make_client())
        backend = cls.__new__(cls)
        backend._set_up(transport, prefix, clock)
        return backend

    def __repr__(self) -> str:
        prefix = self._codec.keys.prefix
        return f"<{type(self).__name__} on {self._transport.server}, prefix {prefix!r}>"

    def apply(self, charges: Sequence[Charge], intent: Intent = TAKE) -> Verdict:
        """Charge all of `charges` or none, as `intent` says."""
        if self._codec.keys.is_multi_slot(charges, intent.queue):
            return run(self._core.apply_steps(charges, intent))
        # `SingleSlotCalls.apply_steps` without the cost of steps, for nearly every message.
        packed = self._codec.pack(charges, intent)
        reply = self._transport.run(APPLY, packed.keys, (packed.message,))
        return self._codec.verdict(packed, reply)

    def apply_many(self, messages: Sequence[Message]) -> list[Verdict]:
        """Apply several messages in order, many with one script."""
        return run(self._core.apply_many_steps(messages))

    def refund(self, receipt: Any) -> None:
        """Take the charges of a receipt out."""
        run(self._core.refund_steps(receipt))

    def settle(self, receipt: Any, charges: Sequence[Charge] | None = None) -> Any:
        """Move the charges of a receipt to the present; return the new receipt."""
        return run(self._core.settle_steps(receipt, charges))

    def redeem(self, receipt: Any, charges: Sequence[Charge]) -> Verdict:
        """Use a booking now if it fits now, or book it anew; it keeps its place in its queue."""
        return run(self._core.redeem_steps(receipt, charges))

    def shard_of(self, charges: Sequence[Charge]) -> str:
        """Return the node of a cluster that counts `charges`; of several nodes the first."""
        return self._core.shard_of(charges)

    def now(self) -> int:
        """Return the time of `clock`, or of this host if the server's clock is used."""
        return self._codec.now()

    def usage(self, ledger: Ledger, subject: str) -> list[list[Reading]]:
        """Return the readings of each window of each of the ledger's counts, for one subject."""
        return run(self._core.usage_steps(ledger, subject))

    def top(self, ledger: Ledger, n: int) -> list[str]:
        """Return the `n` subjects that hold the largest shares of a window, largest first.

        It scans all keys of the server, or of a cluster's masters, in small steps.
        """
        return run(self._core.top_steps(ledger, n))

    def reset(self, ledgers: Sequence[Ledger], subject: str) -> None:
        """Forget all that was counted for one subject, in every unit."""
        run(self._core.reset_steps(ledgers, subject))

    def read_register(self, name: str) -> Register:
        """Return all entries of a register."""
        return run(self._core.read_register_steps(name))

    def write_register(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Set entries of a register, or remove those that are None."""
        run(self._core.write_register_steps(name, changes))

    def close(self) -> None:
        """Close the connections of the client."""
        self._transport.close()
