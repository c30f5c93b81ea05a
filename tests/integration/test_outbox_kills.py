"""An outbox whose worker is killed: no letter is lost, none is sent twice, no limit is exceeded."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from rlm_testkit.outbox import Sink, WorkerProcess
from rlm_testkit.outbox_kills import (
    put_letters,
    send_with_kills,
    send_with_kills_in_real_time,
)
from rlm_testkit.redis_backends import valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import Limiter, presets
from ratelimit_mail.outbox import Outbox, State

pytestmark = pytest.mark.timeout(300)


def test_killed_workers_lose_no_letter_send_none_twice_and_stay_within_the_limits(
    tmp_path: Path,
) -> None:
    policy = presets.leeds_office365()
    store = f"sqlite:///{tmp_path}/counts.db"
    result = send_with_kills(tmp_path, policy, store, letters=120, kills=8, chance=random.Random(7))
    assert result.kills == 8
    assert result.twice == result.lost == 0
    assert result.sent + result.uncertain == 120
    assert 4 <= result.uncertain <= 8
    assert result.most_in_a_minute == 30
    assert result.seconds == result.planned == 180


@valkey_only
def test_several_workers_of_which_some_are_killed_stay_within_the_limits_in_real_time(
    tmp_path: Path, server: Server
) -> None:
    policy = presets.leeds_office365(message_rate="10/3 seconds")
    result = send_with_kills_in_real_time(
        tmp_path,
        policy,
        server.url,
        letters=120,
        kills=4,
        workers=2,
        window=3,
        chance=random.Random(7),
    )
    assert result.kills == 4
    assert result.twice == result.lost == 0
    assert result.sent + result.uncertain == 120
    assert result.most_in_a_minute <= 10


@valkey_only
def test_a_worker_that_is_asked_to_end_finishes_the_message_in_hand(
    tmp_path: Path, server: Server
) -> None:
    policy = presets.leeds_office365()
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text(policy.dump())
    put_letters(tmp_path / "outbox.db", policy, 10, lambda: time.time_ns() // 1_000_000)
    sink = Sink(lambda: 0)
    asked = threading.Event()

    def ask(_: bytes) -> None:
        if len(sink.received) == 3:
            worker.terminate()
            asked.set()

    sink.answers["ACCEPTED"] = ask
    worker = WorkerProcess(tmp_path / "outbox.db", policy_file, server.url, sink.port, "real")
    assert asked.wait(60)
    assert worker.wait() == 0
    sink.close()
    outbox = Outbox(tmp_path / "outbox.db", Limiter(policy))
    counts = outbox.stats().counts
    assert counts[State.SENT] == len(sink.received)
    assert counts[State.QUEUED] == 10 - len(sink.received) > 0
    assert outbox.stats().workers == 0
