"""A master that is killed during load, in a cluster and under Sentinel.

Its replica lacks what it was not told in time, so a few may pass above the limit: they are
reported, and only those that another node counts are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from redis.crc import key_slot
from rlm_testkit.load import COLOURS, SENDER, Asked, Load, Row, at_most
from rlm_testkit.servers import Cluster, SentinelSet, wait_until

from ratelimit_mail import Envelope

pytestmark = [pytest.mark.drill, pytest.mark.parametrize("colour", COLOURS)]

Report = Callable[[Row], None]
LIMIT = 12_000
POLICY = at_most(LIMIT)


def letter_in(first: int, end: int) -> Envelope:
    """A letter of a sender whose counts stand in a slot from `first` to below `end`."""
    for number in count():
        sender = f"user{number}@uwo.ca"
        if first <= key_slot(sender.encode()) < end:
            return Envelope(sender, ["bob@example.com"])
    raise AssertionError


def test_master_killed_in_a_cluster(cluster: Cluster, colour: str, report: Report) -> None:
    hit, spared = letter_in(*cluster.BOUNDS[:2]), letter_in(*cluster.BOUNDS[1:3])
    slot = key_slot(hit.sender.encode())
    asked = Asked(colour, cluster.url, POLICY, prefix=f"{colour}:")
    try:
        with Load(asked, letter=hit) as load, Load(asked, letter=spared) as beside:
            load.recover(0)
            beside.recover(0)
            master = wait_until(partial(cluster.master_of, slot))
            master.kill()
            killed = time.monotonic()
            wait_until(partial(cluster.master_of, slot))
            back = time.monotonic()
            normal = load.recover(back)
            tally = load.exhaust()
            tally_beside = beside.exhaust()
    finally:
        cluster.restart()
        asked.close()
    report(Row.of(f"cluster: master killed, {colour}", tally, LIMIT, back - killed, normal))
    lasted = tally_beside.last_failure - tally_beside.first_failure
    report(Row.of(f"  senders of another master, {colour}", tally_beside, LIMIT, None, lasted))
    assert normal < 2
    assert tally_beside.admitted <= LIMIT


def test_master_killed_under_sentinel(sentinels: SentinelSet, colour: str, report: Report) -> None:
    asked = Asked(colour, sentinels.url, POLICY, prefix="mail:")
    with Load(asked) as load:
        load.recover(0)
        sentinels.master.kill()
        killed = time.monotonic()
        wait_until(sentinels.name_the_replica)
        back = time.monotonic()
        normal = load.recover(back)
        tally = load.exhaust()
        (usage,) = asked.usage(SENDER)
    asked.close()
    report(Row.of(f"Sentinel: master killed, {colour}", tally, LIMIT, back - killed, normal))
    assert usage.remaining == 0
    assert normal < 2
