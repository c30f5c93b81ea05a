"""A master that is killed during load, in a cluster and under Sentinel.

Its replica lacks the charges that had not reached it, so a few messages above the limit may be
admitted: they are reported. Senders whose counts are on another node never exceed the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from redis.crc import key_slot
from rlm_testkit.load import SENDER, AnyLimiter, Load, Row, one_limit_policy
from rlm_testkit.redis_backends import KINDS
from rlm_testkit.servers import Cluster, SentinelSet, wait_until

from ratelimit_mail import Envelope

pytestmark = [pytest.mark.drill, pytest.mark.parametrize("kind", KINDS)]

Report = Callable[[Row], None]
LIMIT = 12_000
POLICY = one_limit_policy(LIMIT)


def envelope_in_slots(first: int, end: int) -> Envelope:
    """Return an envelope of a sender whose counts are in a slot from `first` to below `end`."""
    for number in count():
        sender = f"user{number}@uwo.ca"
        if first <= key_slot(sender.encode()) < end:
            return Envelope(sender, ["bob@example.com"])
    raise AssertionError


def test_master_killed_in_a_cluster(cluster: Cluster, kind: str, report: Report) -> None:
    affected = envelope_in_slots(*cluster.BOUNDS[:2])
    unaffected = envelope_in_slots(*cluster.BOUNDS[1:3])
    slot = key_slot(affected.sender.encode())
    limiter = AnyLimiter(kind, cluster.url, POLICY, prefix=f"{kind}:")
    try:
        with (
            Load(limiter, envelope=affected) as load,
            Load(limiter, envelope=unaffected) as other_load,
        ):
            load.recover(0)
            other_load.recover(0)
            master = wait_until(partial(cluster.master_of, slot))
            master.kill()
            killed = time.monotonic()
            wait_until(partial(cluster.master_of, slot))
            back = time.monotonic()
            normal = load.recover(back)
            tally = load.exhaust()
            other_tally = other_load.exhaust()
    finally:
        cluster.restart()
        limiter.close()
    report(Row.from_tally(f"cluster: master killed, {kind}", tally, LIMIT, back - killed, normal))
    duration = other_tally.last_failure - other_tally.first_failure
    report(
        Row.from_tally(f"  senders of another master, {kind}", other_tally, LIMIT, None, duration)
    )
    assert normal < 2
    assert other_tally.admitted <= LIMIT


def test_master_killed_under_sentinel(sentinels: SentinelSet, kind: str, report: Report) -> None:
    limiter = AnyLimiter(kind, sentinels.url, POLICY, prefix="mail:")
    with Load(limiter) as load:
        load.recover(0)
        sentinels.master.kill()
        killed = time.monotonic()
        wait_until(sentinels.have_promoted_replica)
        back = time.monotonic()
        normal = load.recover(back)
        tally = load.exhaust()
        (usage,) = limiter.usage(SENDER)
    limiter.close()
    report(Row.from_tally(f"Sentinel: master killed, {kind}", tally, LIMIT, back - killed, normal))
    assert usage.remaining == 0
    assert normal < 2
