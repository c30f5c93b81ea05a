"""The time of one e-mail check on a SQLite file, beside a bare transaction on the same disk."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import workloads
from benchmarks.contenders import BARE, OURS
from benchmarks.sqlite_store import (
    LONG,
    MINUTE,
    ROOMY,
    bare_beside_one_sender,
    make,
    one_sender,
)
from benchmarks.workloads import WORKLOADS, Workload
from ratelimit_mail import Policy

pytestmark = pytest.mark.benchmark(disable_gc=True)

WORKS = [
    "accepted",
    "fresh senders",
    "day nearly full",
    "denied by the minute",
    "denied by the day",
]


@pytest.mark.parametrize("name", [BARE, OURS])
@pytest.mark.parametrize("work", WORKS)
def test_check(compare: Any, tmp_path: Path, work: str, name: str) -> None:
    def build(each: str) -> Workload:
        return WORKLOADS[work](make(each, _folder(tmp_path, each)))

    compare(f"SQLite, {work}", name, build, [BARE])


@pytest.mark.parametrize("name", [BARE, OURS])
def test_durability(compare: Any, tmp_path: Path, name: str) -> None:
    """A few messages a round, because each is written to the disk."""

    def build(each: str) -> Workload:
        contender = make(each, _folder(tmp_path, each), "power")
        return workloads.by_sender(contender, senders=1, messages=20)

    compare("SQLite, accepted, durability power", name, build, [BARE])


def test_a_minute_that_is_always_full(compare: Any, tmp_path: Path) -> None:
    """Thirty messages are in the minute, and the oldest leaves as the next one comes."""

    def build(each: str) -> Workload:
        folder = _folder(tmp_path, each)
        if each == BARE:
            return bare_beside_one_sender(folder)
        return one_sender(folder, MINUTE, step=2000)

    compare("SQLite, the minute always full", OURS, build, [BARE])


@pytest.mark.parametrize("recorded", [1000, 10_000, 100_000])
@pytest.mark.parametrize(
    ("what", "policy"), [("all have room", ROOMY), ("ten minutes of 600, full", LONG)]
)
def test_recorded(compare: Any, tmp_path: Path, what: str, policy: Policy, recorded: int) -> None:
    """A sender with so many messages recorded, beside one with only those that fill the windows."""

    def build(each: str) -> Workload:
        number = recorded if each == OURS else 0
        return one_sender(_folder(tmp_path, each), policy, step=1000, recorded=number)

    compare(f"SQLite, {what}, {recorded:,} recorded", OURS, build, ["none recorded"])


def _folder(tmp_path: Path, name: str) -> Path:
    """Return the folder of a contender, which may be in a process of its own."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder
