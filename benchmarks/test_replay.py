"""What a replay takes for each row of a CSV file, beside a loop written by hand for one policy."""

import csv
import random
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.contenders import BY_HAND, OURS
from benchmarks.workloads import Workload
from ratelimit_mail import Policy, presets
from ratelimit_mail.cli.replay.input import ReplayInput
from ratelimit_mail.cli.replay.run import replay

ROWS: Final = 50_000
SENDERS: Final = 3_000
POLICIES: Final = {
    "Leeds": presets.leeds_office365(),
    "Western": presets.western_convergence(),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV file in order of time; a few of its senders send most of its mail."""
    dice = random.Random(1)
    path = tmp_path_factory.mktemp("replay") / "mail.csv"
    time = 1_700_000_000
    with path.open("w") as file:
        file.write("time,sender,recipients\n")
        for _ in range(ROWS):
            time += dice.random() < 0.5
            sender = int(dice.paretovariate(0.7)) % SENDERS
            number = 1 if dice.random() < 0.8 else dice.randrange(2, 20)
            file.write(f"{time},u{sender}@uwo.ca,{number}\n")
    return path


def by_hand_leeds(path: Path) -> list[tuple[int, int]]:
    """Return how many messages of each sender Leeds accepts and defers."""
    minutes: dict[str, deque[int]] = defaultdict(deque)
    days: dict[str, deque[tuple[int, int]]] = defaultdict(deque)
    spent: dict[str, int] = defaultdict(int)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for time, name, number in reader:
            now, sender, recipients = int(time) * 1000, name.lower(), int(number)
            minute, day = minutes[sender], days[sender]
            while minute and minute[0] <= now - 60_000:
                minute.popleft()
            while day and day[0][0] <= now - 86_400_000:
                spent[sender] -= day.popleft()[1]
            if len(minute) >= 30 or spent[sender] + recipients > 10_000:
                counts[sender][1] += 1
            else:
                counts[sender][0] += 1
                minute.append(now)
                day.append((now, recipients))
                spent[sender] += recipients
    return [(accepted, refused) for accepted, refused in counts.values()]


def by_hand_western(path: Path) -> list[tuple[int, int]]:
    """Return how many messages of each sender Western accepts and rejects, in its tier 2."""
    logs: dict[str, tuple[deque[tuple[int, int]], ...]] = defaultdict(lambda: (deque(), deque()))
    held: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for time, name, number in reader:
            now, sender, recipients = int(time) * 1000, name.lower(), int(number)
            used = held[sender]
            for i, length in enumerate((900_000, 86_400_000)):
                log = logs[sender][i]
                while log and log[0][0] <= now - length:
                    used[i] -= log.popleft()[1]
                log.append((now, recipients))  # refused attempts count, too
            is_refused = used[0] + recipients > 50 or used[1] + recipients > 500
            counts[sender][is_refused] += 1
            used[0] += recipients
            used[1] += recipients
    return [(accepted, refused) for accepted, refused in counts.values()]


LOOPS: Final = {"Leeds": by_hand_leeds, "Western": by_hand_western}


def replayed(policy: Policy, path: Path) -> list[tuple[int, int]]:
    """Return how many messages of each sender a policy accepts and refuses."""
    tally = replay(policy, ReplayInput([path]).envelopes(""))
    return [(counts.accepted, counts.refused) for counts in tally.by_sender.values()]


@pytest.mark.parametrize("institution", POLICIES)
def test_replay(compare: Any, rows: Path, institution: str) -> None:
    policy, loop = POLICIES[institution], LOOPS[institution]
    assert replayed(policy, rows) == loop(rows)

    def build(each: str) -> Workload:
        def send(_: list[Any]) -> list[object]:
            if each == OURS:
                replayed(policy, rows)
            else:
                loop(rows)
            return []

        return Workload(lambda: [None] * ROWS, send)  # type: ignore[list-item]

    compare(f"replay, {institution}", OURS, build, [BY_HAND])
