"""Real Celery workers with a Valkey broker and with a broker of files."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from rlm_testkit.redis_backends import valkey_only
from rlm_testkit.servers import Server

pytest.importorskip("celery")

from rlm_testkit.celery_workers import Result, send_with_celery


def check(result: Result, messages: int) -> None:
    assert len(set(result.arrived)) == len(result.arrived)
    # What a kill has cut off while it was sent is reported, whether it arrived or not.
    assert messages - result.uncertain <= len(result.arrived) <= messages
    assert result.uncertain <= 2 * result.kills
    for is_kim in (True, False):
        assert result.of_sender(is_kim) == sorted(result.of_sender(is_kim))
    assert result.most <= 10


@valkey_only
@pytest.mark.skipif(redis.VERSION < (6, 1), reason="kombu needs redis-py 6.1")
def test_messages_go_in_order_and_once_while_workers_are_killed(
    tmp_path: Path, server: Server
) -> None:
    broker = f"redis://127.0.0.1:{server.port}/1"
    result = send_with_celery(tmp_path, broker, server.url, messages=36, kills=1)
    check(result, 36)
    assert result.kills == 1
    # Two for each message, and those that the kill has cut off, which are at most as many as the
    # worker has processes, and what it held.
    assert result.executions <= 72 + 12


def test_a_broker_of_files_works(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/counts.db"
    options = ("-P", "solo")
    result = send_with_celery(tmp_path, "filesystem://", store, messages=18, options=options)
    check(result, 18)
    assert result.executions <= 36
