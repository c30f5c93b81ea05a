"""Messages whose counts are in several slots of a cluster, and a hook between the slots."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import redis

from ratelimit_mail import Decision, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.backends.redis.codec import RECORD, REFUSED
from ratelimit_mail.backends.redis.keys import DEFAULT_PREFIX
from ratelimit_mail.backends.redis.scripts import APPLY, MOVE, Script
from ratelimit_mail.backends.redis.transport import Transport
from ratelimit_mail.backends.redis.urls import client_from_url
from ratelimit_mail.limits import Limit
from rlm_testkit.servers import Cluster

ENVELOPE = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"])
ENVELOPE_WITH_ID = Envelope("ann@uwo.ca", ["x@a.org", "y@b.org"], id="job-1")
SLOTS = (("ann@uwo.ca", "sender"), ("a.org", "recipient_domain"), ("b.org", "recipient_domain"))
"""What ENVELOPE is charged to, in the order in which it is charged."""


def cluster_client(cluster: Cluster) -> Iterator[redis.RedisCluster]:
    """Connect a client to the cluster: a fixture."""
    client: redis.RedisCluster = client_from_url(
        cluster.url, timeout=30, is_async=False, options={}
    )
    yield client
    client.close()


class SlotCall(NamedTuple):
    """A call that decides on the charges of one slot.

    subject: of the first charge. records: whether it charges them if they fit. refused: whether
        they are refused already.
    """

    subject: str
    records: bool
    refused: bool


class InterruptedTransport(Transport):
    """A transport with a hook that is called before each call that decides on a slot."""

    before: Callable[[SlotCall], None] | None = None

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        before = self.before
        if script in (APPLY, MOVE) and before is not None:
            self.before = None  # the calls of the hook are not interrupted
            subject = keys[0].partition(b"{")[2].partition(b"}")[0].decode()
            (flags,) = struct.unpack_from("<H", arguments[0])
            before(SlotCall(subject, bool(flags & RECORD), bool(flags & REFUSED)))
            self.before = self.before or before
        return super().run(script, keys, arguments)


class InterruptedBackend(RedisBackend):
    """A backend with an InterruptedTransport."""

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.transport = InterruptedTransport.from_client(client)
        self._set_up(self.transport, prefix, clock)


def per_slot(rate: str, **options: Any) -> Policy:
    """Return a policy that charges ENVELOPE to three slots."""
    limits: list[Limit] = [
        MessageRateLimit(rate, **options),
        MessageRateLimit(rate, scope="recipient_domain", **options),
    ]
    return Policy(name="test", limits=limits)


def used(limiter: Limiter) -> list[int]:
    """Return how much each slot of ENVELOPE holds."""
    return [limiter.usage(subject, scope=scope)[0].used for subject, scope in SLOTS]


def charge_slot(limiter: Limiter, slot: int) -> Decision:
    """Charge one slot of ENVELOPE, and none of its other slots."""
    if slot == 0:
        return limiter.try_acquire(Envelope("ann@uwo.ca", [f"x@{uuid.uuid4().hex}.org"]))
    sender = f"{uuid.uuid4().hex}@uwo.ca"
    return limiter.try_acquire(Envelope(sender, [f"x@{SLOTS[slot][0]}"]))
