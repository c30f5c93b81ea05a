"""Processes that count in a SQLite file are killed a thousand times, most in a transaction."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rlm_testkit.sqlite_drill import kill_processes


@pytest.mark.drill
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_thousand_kills_leave_no_half_of_a_message(tmp_path: Path) -> None:
    kill_processes(tmp_path / "counts.db", 1000)
