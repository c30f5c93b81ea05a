"""An outbox whose worker is killed: no letter is lost, none is sent twice, no limit is exceeded."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from rlm_testkit.outbox_kills import send_with_kills, send_with_kills_in_real_time
from rlm_testkit.redis_backends import valkey_only
from rlm_testkit.servers import Server

from ratelimit_mail import presets

pytestmark = pytest.mark.timeout(300)


@valkey_only
def test_killed_workers_lose_no_letter_send_none_twice_and_stay_within_the_limits(
    tmp_path: Path, server: Server
) -> None:
    policy = presets.leeds_office365()
    result = send_with_kills(
        tmp_path, policy, server.url, letters=120, kills=8, chance=random.Random(7)
    )
    assert result.kills == 8
    assert result.twice == result.lost == 0
    assert result.sent + result.uncertain == 120
    assert 4 <= result.uncertain <= 8
    assert result.most_in_a_minute == 30


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
