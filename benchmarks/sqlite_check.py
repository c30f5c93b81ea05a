"""The time of one e-mail check on a SQLite file, as a ratio to a bare transaction.

Run `python -m benchmarks.sqlite_check [DIRECTORY]`. The floor is `BEGIN IMMEDIATE; INSERT; COMMIT`
of one short row, by the same driver, in a file in the same directory and of the same durability.
Rounds of both alternate, and the median of the ratios within a round is printed. The last rows
compare a sender with many recorded messages with one who has sent just enough to fill the windows.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, Literal

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.backends.base import TAKE

ENVELOPE: Final = Envelope("busy@uwo.ca", [f"r{i}@example.com" for i in range(5)])
ROOMY: Final = Policy(
    name="roomy",
    limits=[MessageRateLimit("100000000/minute"), RecipientRateLimit("1000000000/day")],
)
MINUTE: Final = Policy(
    name="minute", limits=[MessageRateLimit("30/minute"), RecipientRateLimit("1000000000/day")]
)
TWO_WINDOWS: Final = Policy(
    name="two", limits=[MessageRateLimit("60/minute"), MessageRateLimit("1000000000/3 days")]
)
LONG_WINDOWS: Final = Policy(
    name="long", limits=[MessageRateLimit("600/10 minutes"), MessageRateLimit("1000000000/3 days")]
)
ROUNDS: Final = 15

Durability = Literal["process", "power"]
numbers: Final = count()


def bare(directory: Path, durability: Durability) -> Callable[[], object]:
    """Return a function that makes a bare transaction."""
    connection = sqlite3.connect(directory / f"{next(numbers)}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'NORMAL' if durability == 'process' else 'FULL'}")
    connection.execute("CREATE TABLE sent(id INTEGER PRIMARY KEY, sender TEXT, at INTEGER)")
    cursor = connection.cursor()

    def transaction() -> None:
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("INSERT INTO sent(sender, at) VALUES(?, ?)", ("busy@uwo.ca", 1))
        cursor.execute("COMMIT")

    return transaction


def check(
    directory: Path,
    policy: Policy,
    durability: Durability = "process",
    *,
    step: int = 0,
    recorded: int = 0,
    sent: int = 0,
) -> Callable[[], object]:
    """Return a function that makes a check, after so many messages were recorded.

    step: milliseconds from one message to the next. recorded: messages before. sent: so many of
    them are admitted at once, so that the limit is reached.
    """
    moments: Iterator[int] = count(10**12, step)
    backend = SQLiteBackend(
        directory / f"{next(numbers)}.db", durability=durability, clock=moments.__next__
    )
    limiter = Limiter(policy, backend)
    charges = policy.plan(ENVELOPE).charges
    for _ in range(recorded // 1000):
        backend.apply_many([(charges, TAKE)] * 1000)
    for _ in range(sent):
        limiter.try_acquire(ENVELOPE)
    return lambda: limiter.try_acquire(ENVELOPE)


def seconds(call: Callable[[], object], calls: int) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def compare(name: str, ours: Callable[[], object], other: Callable[[], object], calls: int) -> None:
    """Print how many times as long as the other a call takes."""
    seconds(ours, 100)
    seconds(other, 100)
    rounds = [(seconds(other, calls), seconds(ours, calls)) for _ in range(ROUNDS)]
    ratio = statistics.median(mine / floor for floor, mine in rounds)
    floor, mine = (1e6 * statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{name:58}{floor:9.1f} us{mine:9.1f} us{ratio:8.2f}", flush=True)


def main(directory: Path) -> None:
    """Print the table."""
    print(f"{'':58}{'other':>12}{'check':>12}{'ratio':>8}")
    floor = bare(directory, "process")
    compare("accepted", check(directory, ROOMY), floor, 500)
    compare("accepted, the minute always full", check(directory, MINUTE, step=2000), floor, 500)
    compare("refused by the minute", check(directory, MINUTE, sent=30), floor, 500)
    power = check(directory, ROOMY, "power")
    compare("accepted, durability='power'", power, bare(directory, "power"), 100)
    for name, policy in (
        ("all have room", ROOMY),
        ("a minute of 60, full", TWO_WINDOWS),
        ("ten minutes of 600, full", LONG_WINDOWS),
    ):
        # 700 messages fill the windows.
        few = check(directory, policy, step=1000, sent=700)
        for recorded in (1000, 10_000, 100_000):
            many = check(directory, policy, step=1000, recorded=recorded, sent=700)
            compare(f"{name}: {recorded:,} recorded, to none", many, few, 500)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
