"""The stateful machine on real servers: memory beside Redis and Valkey, by the same clock."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest
import redis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from rlm_testkit.servers import Server
from rlm_testkit.state_machine import Machine, MachineWithIds, MachineWithJumps

from ratelimit_mail.backends import Backend, MemoryBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

QUARTER = settings(stateful_step_count=30, max_examples=settings().max_examples // 4)
"""Each answer takes a round trip: 25 examples, and 5,000 for the oracle."""


@pytest.mark.parametrize("kind", [MachineWithJumps, MachineWithIds])
def test_any_order_of_verbs_has_the_answers_of_memory(server: Server, kind: type[Machine]) -> None:
    with server.client() as client:
        run_state_machine_as_test(beside_memory(kind, client), settings=QUARTER)


def beside_memory(kind: type[Machine], client: redis.Redis) -> type[Machine]:
    """The machine on the memory backend, and on an empty one of the server."""

    class BesideMemory(kind):  # type: ignore[misc,valid-type]
        def backends(self, clock: ManualClock) -> Sequence[Backend]:
            prefix = f"test-{uuid.uuid4().hex[:12]}:"
            return MemoryBackend(clock), RedisBackend(client, prefix=prefix, clock=clock)

    return BesideMemory
