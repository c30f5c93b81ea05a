"""60 messages at 10 in 2 seconds by Celery, with and without kills of its workers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from rlm_testkit.celery_workers import send_with_celery
from rlm_testkit.redis_backends import valkey_only
from rlm_testkit.servers import Server

pytestmark = [pytest.mark.drill, valkey_only]


@pytest.mark.parametrize("options", [("-c", "1"), ("-c", "4"), ("-P", "threads", "-c", "4")])
@pytest.mark.parametrize("workers", [1, 2])
def test_60_messages_take_at_most_120_executions(
    tmp_path: Path, server: Server, workers: int, options: tuple[str, ...]
) -> None:
    result = send_with_celery(
        tmp_path, f"{server.url[:-1]}1", server.url, messages=60, workers=workers, options=options
    )
    print(f"\ncelery, {workers} workers {options}: {result}")
    assert sorted(result.arrived) == list(range(60))
    for is_kim in (True, False):
        assert result.of_sender(is_kim) == sorted(result.of_sender(is_kim))
    assert result.executions <= 120
    assert result.most <= 10


@pytest.mark.parametrize("seed", range(5))
def test_60_messages_go_once_and_in_order_over_4_kills(
    tmp_path: Path, server: Server, seed: int
) -> None:
    result = send_with_celery(
        tmp_path,
        f"{server.url[:-1]}1",
        server.url,
        messages=60,
        workers=2,
        kills=4,
        chance=Random(seed),
    )
    print(f"\ncelery, killed: {result}")
    assert result.kills >= 2  # all may have been sent before the last ones
    # A message that was being sent at a kill is reported, and may be missing.
    assert len(set(result.arrived)) == len(result.arrived) >= 60 - result.uncertain
    assert result.uncertain <= 2 * result.kills
    for is_kim in (True, False):
        assert result.of_sender(is_kim) == sorted(result.of_sender(is_kim))
    assert result.most <= 10
    # Of what a worker holds when it dies, each message may be executed once more.
    assert result.executions <= 120 + 10 * result.kills
