"""How many script calls a message takes in a cluster, by where its counts are placed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis
from rlm_testkit.multi_slot import ENVELOPE, cluster_client
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Cluster

from ratelimit_mail import (
    Decision,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
)
from ratelimit_mail.backends import RedisBackend
from ratelimit_mail.testing import ManualClock

client = pytest.fixture(cluster_client, scope="module")


def scripts_called(cluster: Cluster, do: Callable[[], object]) -> int:
    """Return how many scripts the nodes of the cluster run during a call of `do`."""

    def calls() -> int:
        total = 0
        for node in cluster.nodes:
            with node.client() as client:
                info = client.info("commandstats")
            total += sum(
                info.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")
            )
        return total

    before = calls()
    do()
    return calls() - before


@pytest.mark.parametrize(
    ("shard_by", "scopes", "expected"),
    [
        ("global", ("sender", "recipient_domain"), 1),
        ("global", ("sender", "recipient", "global"), 1),
        ("sender", ("sender", ("sender", "recipient_domain")), 1),
        (None, ("sender", ("sender", "recipient_domain")), 1),
        (None, ("sender", "sender_domain"), 1),
        (None, ("sender", "recipient_domain"), 6),
    ],
)
def test_counts_in_one_slot_take_one_script_per_message(
    cluster: Cluster,
    client: redis.RedisCluster,
    shard_by: str | None,
    scopes: tuple[Any, ...],
    expected: int,
) -> None:
    limits = [MessageRateLimit("9/day", scope=scope) for scope in scopes]
    policy = Policy(name="test", limits=limits, shard_by=shard_by)
    # With a clock that stands still, because slots with different times are called once more.
    limiter = Limiter(policy, RedisBackend(client, prefix=unique_prefix(), clock=ManualClock()))
    assert limiter.try_acquire(ENVELOPE)  # the node knows its scripts from here on
    decisions: list[Decision] = []
    for method in (limiter.try_acquire, limiter.check):
        call = partial(method, ENVELOPE)
        called = scripts_called(cluster, lambda call=call: decisions.append(call()))  # type: ignore[misc]
        expected_checks = expected // 2 or 1
        assert called == (expected if method == limiter.try_acquire else expected_checks)
    assert all(decisions)


def test_a_booking_and_its_refund_take_one_script_each_if_all_counts_are_in_one_slot(
    cluster: Cluster, client: redis.RedisCluster
) -> None:
    limits = [MessageRateLimit("1/day"), MessageRateLimit("9/day", scope="recipient_domain")]
    policy = Policy(name="test", limits=limits, shard_by="global")
    limiter = Limiter(policy, RedisBackend(client, prefix=unique_prefix()))
    limiter.reserve(ENVELOPE).cancel()
    limiter.reserve(ENVELOPE)
    assert scripts_called(cluster, lambda: limiter.reserve(ENVELOPE).cancel()) == 2
    batch = [Envelope("bob@uwo.ca", [f"x@{i}.org"]) for i in range(50)]
    assert scripts_called(cluster, lambda: limiter.try_acquire_many(batch)) == 1


BATCH = [Envelope(f"{i}@uwo.ca", ["x@a.org"]) for i in range(60)]


TWO_A_DAY = Policy(name="test", limits=[MessageRateLimit("2/day")])


def test_a_batch_of_many_senders_takes_one_script_at_each_node(
    cluster: Cluster, client: redis.RedisCluster
) -> None:
    limiter = Limiter(TWO_A_DAY, RedisBackend(client, prefix=unique_prefix()))
    limiter.try_acquire_many(BATCH)  # which loads the scripts
    decisions: list[Decision] = []
    called = scripts_called(cluster, lambda: decisions.extend(limiter.try_acquire_many(BATCH)))
    assert called == len(cluster.masters)
    assert all(decisions)
    limiter.refund(decisions[7])
    assert [bool(each) for each in limiter.try_acquire_many(BATCH)] == [i == 7 for i in range(60)]


def test_a_batch_is_charged_once_if_slots_are_at_other_nodes_than_expected(
    client: redis.RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = RedisBackend(client, prefix=unique_prefix())
    limiter = Limiter(TWO_A_DAY, backend)
    transport = backend._transport
    nodes = [master.name for master in transport.masters()]
    with monkeypatch.context() as patch:
        patch.setattr(transport, "node", lambda key: nodes[len(key) % len(nodes)])
        assert all(limiter.try_acquire_many(BATCH))
    assert all(limiter.usage(each.sender)[0].used == 1 for each in BATCH)
    assert all(limiter.try_acquire_many(BATCH))
    assert not any(limiter.try_acquire_many(BATCH))
