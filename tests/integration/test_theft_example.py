"""The example of a stolen account: its counts, compared with plain lists, and its output."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "theft.py"
ATTEMPTS = 20_000
MINUTE = 60 * 1000
DAY = 24 * 60 * MINUTE
TIMES = [number * DAY // ATTEMPTS for number in range(ATTEMPTS)]
BURST = "50 external recipients per 15 minutes per submitter"
DAILY = "500 external recipients per day per submitter"


def accepted_by_lists(denied: str) -> list[int]:
    """Return the attempts that both limits accept, computed with lists of times."""
    in_15_minutes: list[int] = []
    in_a_day: list[int] = []
    passed = []
    for now in TIMES:
        in_15_minutes = [at for at in in_15_minutes if at > now - 15 * MINUTE]
        if fits := len(in_15_minutes) < 50 and len(in_a_day) < 500:
            passed.append(now)
        if fits or denied == "count":
            in_15_minutes.append(now)
            in_a_day.append(now)
    return passed


@cache
def theft(denied: str) -> Any:
    return runpy.run_path(str(EXAMPLE))["theft"](denied, ATTEMPTS)


def most(window: int, times: list[int]) -> int:
    return max(sum(at - window < other <= at for other in times) for at in times)


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_with_refused_attempts_counted_only_the_first_50_are_accepted() -> None:
    result = theft("count")
    assert result.passed == TIMES[:50] == accepted_by_lists("count")
    assert result.owner.allowed


def test_with_refused_attempts_ignored_50_in_15_minutes_and_500_in_24_hours_are_accepted() -> None:
    result = theft("ignore")
    assert result.passed == accepted_by_lists("ignore")
    assert most(15 * MINUTE, result.passed) == 50
    assert len(result.passed) == 500
    assert result.owner.allowed


def test_each_kind_of_event_is_reported_at_most_once_a_window() -> None:
    result = theft("count")
    times = Counter((type(event).__name__, str(event.limit)) for event in result.events)
    kinds = ("NearLimit", "FirstDenial", "BurstAfterDenial", "BackToNormal")
    assert set(times) == {(kind, limit) for kind in kinds for limit in (BURST, DAILY)}
    assert all(times[kind, DAILY] == 1 for kind in kinds)
    assert all(times[kind, BURST] <= 96 for kind in kinds)
    assert {event.sender for event in result.events} == {"kim@uwo.ca"}
    first = next(event for event in result.events if type(event).__name__ == "FirstDenial")
    assert first.at.timestamp() * 1000 % DAY == TIMES[50]


def test_it_prints_a_table_that_compares_both() -> None:
    done = shell(str(ATTEMPTS))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[:2] == ["20,000 attempts in 24 hours from one tier 2 client", ""]
    assert lines[2:8] == [
        "refused attempts counted ignored",
        "passed 50 500",
        "most in any 15 minutes 50 50",
        "most in any 24 hours 50 500",
        "last one passed after 00:03:31.680 02:18:57.600",
        "owner's mail a day later accept accept",
    ]
    assert lines[8].startswith("real seconds ")
    assert f"FirstDenial 1 00:36:00.000 {DAILY}" in lines


@pytest.mark.parametrize("arguments", [("0",), ("-3",), ("many",), ("9" * 5000,), ("1", "2")])
def test_an_invalid_number_of_attempts_prints_the_usage(arguments: tuple[str, ...]) -> None:
    done = shell(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "usage: python theft.py [ATTEMPTS], from 1 to 999999999\n"
