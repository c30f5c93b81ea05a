"""`replay` under two presets counts what a second way, with two deques, counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlm_testkit.command_line import replay_json
from rlm_testkit.own_count import OWN_COUNTS, counted_by_replay, write_traffic


@pytest.mark.parametrize("preset", OWN_COUNTS)
def test_a_preset_decides_as_two_deques_do(tmp_path: Path, preset: str) -> None:
    file = tmp_path / "traffic.csv"
    own = OWN_COUNTS[preset](write_traffic(file, rows=8_000, seed=7))
    assert own == counted_by_replay(replay_json(file, preset))
    assert own.total() == 8_000
    assert len(own) == 4  # accepted, and refused by each of the three limits
