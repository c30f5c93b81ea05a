"""The counts of `replay` under two presets against a second way, over 300,000 rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlm_testkit.command_line import replay_json
from rlm_testkit.own_count import OWN_COUNTS, counted_by_replay, write_traffic

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("preset", OWN_COUNTS)
def test_a_preset_decides_as_two_deques_do(tmp_path: Path, preset: str) -> None:
    file = tmp_path / "traffic.csv"
    own = OWN_COUNTS[preset](write_traffic(file, rows=300_000, seed=8))
    print(f"\n{preset}, 300,000 rows: {dict(own)}")
    assert own == counted_by_replay(replay_json(file, preset))
    assert own.total() == 300_000
