"""What two presets decide, counted by a second way: two deques, without this library.

The rules are those of `docs/presets.md`. Nothing is imported from the library, so that a mistake of
the library is not repeated here.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["OWN_COUNTS", "counted_by_replay", "write_traffic"]

Row = tuple[int, str, int]
"""Seconds, sender, number of recipients."""

KINDS_OF_MAIL: Final = (
    (1, 1, (0,)),
    (5, 4, (0, 1)),
    (45, 1, (0, 0, 0, 1, 2)),
    (150, 40, (0, 0, 1)),
    (300, 99, (2, 3)),
)
"""Messages in a row, the recipients of most of them, and the seconds between them."""

MINUTE: Final = 60
DAY: Final = 24 * 60 * MINUTE


class _Window:
    """A sliding window over a deque of (time, cost)."""

    def __init__(self, most: int, length: int) -> None:
        self.most, self.length = most, length
        self.events: deque[tuple[int, int]] = deque()
        self.used = 0

    def wait(self, now: int, cost: int) -> int:
        """Return the seconds until `cost` fits, 0 if it fits now."""
        while self.events and self.events[0][0] <= now - self.length:
            self.used -= self.events.popleft()[1]
        excess = self.used + cost - self.most
        for time, leaving in self.events:
            if excess <= 0:
                break
            excess -= leaving
            if excess <= 0:
                return time + self.length - now
        return 0

    def add(self, now: int, cost: int) -> None:
        self.events.append((now, cost))
        self.used += cost


def count_leeds_office365(rows: Iterable[Row]) -> Counter[str]:
    """Count by 100 recipients a message, 30 messages a minute and 10,000 recipients in a day."""
    decided: Counter[str] = Counter()
    minutes: dict[str, _Window] = defaultdict(lambda: _Window(30, MINUTE))
    days: dict[str, _Window] = defaultdict(lambda: _Window(10_000, DAY))
    for now, sender, recipients in sorted(rows, key=lambda row: row[0]):
        if recipients > 100:
            decided["100 recipients per message"] += 1
            continue
        minute, day = minutes[sender], days[sender]
        waits = {
            "30 messages per minute per sender": minute.wait(now, 1),
            "10000 recipients per day per sender": day.wait(now, recipients),
        }
        longest = max(waits, key=lambda name: waits[name])
        if waits[longest]:
            decided[longest] += 1
        else:
            minute.add(now, 1)
            day.add(now, recipients)
            decided["accepted"] += 1
    return decided


def count_amazon_ses(rows: Iterable[Row]) -> Counter[str]:
    """Count by 50 recipients a message, 1 a second and 200 in a day, for all senders together.

    A message to n recipients goes when the second is free, and takes the next n seconds.
    """
    decided: Counter[str] = Counter()
    day, free_at = _Window(200, DAY), -(10**12)
    for now, _, recipients in sorted(rows, key=lambda row: row[0]):
        if recipients > 50:
            decided["50 recipients per message"] += 1
            continue
        waits = {
            "1 recipient per second in all": max(free_at - now, 0),
            "200 recipients per day in all": day.wait(now, recipients),
        }
        longest = max(waits, key=lambda name: waits[name])
        if waits[longest]:
            decided[longest] += 1
        else:
            free_at = now + recipients
            day.add(now, recipients)
            decided["accepted"] += 1
    return decided


OWN_COUNTS: Final[dict[str, Callable[[Iterable[Row]], Counter[str]]]] = {
    "leeds-office365": count_leeds_office365,
    "amazon-ses": count_amazon_ses,
}


def counted_by_replay(report: dict[str, Any]) -> Counter[str]:
    """Return the same counts from the JSON of `replay`."""
    decided = Counter({"accepted": report["messages"]["accepted"]["messages"]})
    for limit in report["limits"]:
        decided[limit["limit"]] += limit["deferred"] + limit["rejected"]
    return +decided


def write_traffic(path: Path, rows: int, seed: int) -> list[Row]:
    """Write a CSV file of generated mail: quiet people, bursts, mailings, a few late rows."""
    traffic = list(_traffic(random.Random(seed), rows))
    with path.open("w", encoding="utf-8") as file:
        file.write("time,sender,recipients\n")
        file.writelines(f"{time},{sender},{count}\n" for time, sender, count in traffic)
    return traffic


def _traffic(dice: random.Random, rows: int) -> Iterator[Row]:
    now = 1_700_000_000
    while rows > 0:
        now += dice.choice((0, 1, 5, 30, 300, 4_000))
        sender = f"user{int(dice.paretovariate(0.7)) % 500}@example.edu"
        burst, size, pauses = dice.choices(KINDS_OF_MAIL, (85, 8, 5, 1, 1))[0]
        for _ in range(min(burst, rows)):
            late = dice.choice((0, 0, 0, 0, 0, 0, 0, 7))
            yield now - late, sender, dice.choice((size, size, 1 + size // 2, 120, 1))
            now += dice.choice(pauses)
        rows -= burst
