"""25,000 letters from a CSV file and 100 kills of a worker; and four workers in real time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from rlm_testkit.outbox_kills import send_with_kills, send_with_kills_in_real_time
from rlm_testkit.redis_backends import valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import presets

pytestmark = [
    pytest.mark.drill,
    valkey_only,
    pytest.mark.parametrize("store", ["sqlite:///{folder}/counts.db", "{server}?prefix={folder}:"]),
]


def test_25000_letters_and_100_kills(tmp_path: Path, server: Server, store: str) -> None:
    url = store.format(folder=tmp_path, server=server.url)
    policy = presets.leeds_office365()
    result = send_with_kills(
        tmp_path, policy, url, letters=25_000, kills=100, chance=random.Random(1)
    )
    print(f"\noutbox, one worker on a manual clock: {result}")
    assert result.kills == 100
    assert result.twice == result.lost == 0
    assert result.sent + result.uncertain == 25_000
    assert result.uncertain <= 100
    assert result.most_in_a_minute == 30
    assert result.most_in_a_day == 10_000
    assert result.seconds == result.planned


def test_four_workers_in_real_time_and_20_kills(tmp_path: Path, server: Server, store: str) -> None:
    url = store.format(folder=tmp_path, server=server.url)
    policy = presets.leeds_office365(message_rate="30/3 seconds")
    result = send_with_kills_in_real_time(
        tmp_path,
        policy,
        url,
        letters=2000,
        kills=20,
        workers=4,
        window=3,
        chance=random.Random(1),
    )
    print(f"\noutbox, four workers in real time: {result}")
    assert result.kills == 20
    assert result.twice == result.lost == 0
    assert result.sent + result.uncertain == 2000
    assert result.most_in_a_minute <= 30
