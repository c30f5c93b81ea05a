"""The state machine on real servers: memory beside Redis and Valkey, with the same clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server
from rlm_testkit.state_machine import Machine, MachineWithIds, MachineWithJumps

from ratelimit_mail.backends import Backend, MemoryBackend, RedisBackend
from ratelimit_mail.testing import ManualClock

FEWER_EXAMPLES = settings(stateful_step_count=30, max_examples=settings().max_examples // 4)
"""25 examples, and 5,000 with the profile "oracle", because each answer takes a round trip."""


@pytest.mark.parametrize("kind", [MachineWithJumps, MachineWithIds])
def test_any_order_of_calls_gives_the_answers_of_a_memory_backend(
    server: Server, kind: type[Machine]
) -> None:
    with server.client() as client:
        run_state_machine_as_test(beside_memory(kind, client), settings=FEWER_EXAMPLES)


def beside_memory(kind: type[Machine], client: redis.Redis) -> type[Machine]:
    """Return the machine with a memory backend and a new backend on the server."""

    class BesideMemory(kind):  # type: ignore[misc,valid-type]
        def backends(self, clock: ManualClock) -> Sequence[Backend]:
            return MemoryBackend(clock), RedisBackend(client, prefix=unique_prefix(), clock=clock)

    return BesideMemory
