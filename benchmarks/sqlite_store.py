"""The e-mail check on a SQLite file, and its floor: a bare transaction of the same durability."""

import sqlite3
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.contenders import BARE, Contender
from benchmarks.email_check import message, policy
from benchmarks.ours import DAY_ALONE
from benchmarks.workloads import Workload, one_by_one
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.backends.base import TAKE
from ratelimit_mail.backends.sqlite.database import Durability

ROOMY: Final = Policy(
    name="roomy",
    limits=[MessageRateLimit("100000000/minute"), RecipientRateLimit("1000000000/day")],
)
MINUTE: Final = Policy(
    name="minute", limits=[MessageRateLimit("30/minute"), RecipientRateLimit("1000000000/day")]
)
LONG: Final = Policy(
    name="long", limits=[MessageRateLimit("600/10 minutes"), MessageRateLimit("1000000000/3 days")]
)

_numbers = count()


def bare(folder: Path, durability: Durability = "process") -> Contender:
    """Make `BEGIN IMMEDIATE; INSERT; COMMIT` of one short row, by the same driver."""
    connection = sqlite3.connect(_path(folder), isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'NORMAL' if durability == 'process' else 'FULL'}")
    connection.execute("CREATE TABLE sent(id INTEGER PRIMARY KEY, sender TEXT, at INTEGER)")
    cursor = connection.cursor()

    def transaction(envelope: Envelope) -> bool:
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("INSERT INTO sent(sender, at) VALUES(?, ?)", (envelope.sender, 1))
        cursor.execute("COMMIT")
        return True

    return Contender(transaction)


def ours(folder: Path, durability: Durability = "process") -> Contender:
    """Make `Limiter.try_acquire` on a new file."""
    backend = SQLiteBackend(_path(folder), durability=durability)
    limiter = Limiter(policy(), backend)
    day_alone = Limiter(DAY_ALONE, backend)

    def charge_day(sender: str, recipients: int) -> None:
        envelope = Envelope(sender, [f"{i}@example.com" for i in range(5)])
        assert all(day_alone.try_acquire_many([envelope] * (recipients // 5)))

    return Contender(limiter.try_acquire, charge_day=charge_day)


def one_sender(folder: Path, limits: Policy, *, step: int, recorded: int = 0) -> Workload:
    """Messages of one sender, on a clock that goes on with each reading of it.

    step: milliseconds from one message to the next. recorded: messages before, all of one moment.
    Then come 700, which fill the windows.
    """
    backend = SQLiteBackend(_path(folder), clock=count(10**12, step).__next__)
    limiter = Limiter(limits, backend)
    envelope = message("busy")
    charges = limits.plan(envelope).charges
    for _ in range(recorded // 1000):
        backend.apply_many([(charges, TAKE)] * 1000)
    assert all(limiter.try_acquire(envelope) for _ in range(700))
    return Workload(lambda: [envelope] * 200, one_by_one(limiter.try_acquire))


def bare_beside_one_sender(folder: Path) -> Workload:
    """As many bare transactions."""
    envelope = message("busy")
    return Workload(lambda: [envelope] * 200, one_by_one(bare(folder).check))


def make(name: str, folder: Path, durability: Durability = "process") -> Contender:
    """Return a new contender on a new file: the floor, or this library."""
    return (bare if name == BARE else ours)(folder, durability)


def _path(folder: Path) -> Path:
    return folder / f"{next(_numbers)}.db"
