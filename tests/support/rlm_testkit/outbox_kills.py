"""Letters through an outbox whose workers are killed: what must be true of them afterwards."""

from __future__ import annotations

import random
import sqlite3
import time
from bisect import bisect
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ratelimit_mail import Limiter, Policy
from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail.mailing import Letter, Mailing, read_people
from ratelimit_mail.outbox import Outbox, State
from ratelimit_mail.planner import plan_mailing
from rlm_testkit.outbox import FileClock, Sink, WorkerProcess, letter

__all__ = [
    "KillResult",
    "put_letters",
    "put_mailing",
    "send_with_kills",
    "send_with_kills_in_real_time",
]

START: Final = 1_000_000_000_000
MINUTE: Final = 60_000
DAY: Final = 24 * 60 * MINUTE


class KillResult(NamedTuple):
    """What became of the letters.

    sent, uncertain: by the outbox. delivered: at the sink; twice: how many of them more than once.
    lost: letters that are neither at the sink nor uncertain. uncertain_and_missing: uncertain ones
    that the sink has not got. most_in_a_minute, most_in_a_day: of any sender. seconds: from the
    start to the last delivery, by the clock of the outbox; planned: as the plan said.
    """

    sent: int
    uncertain: int
    delivered: int
    twice: int
    lost: int
    uncertain_and_missing: int
    kills: int
    most_in_a_minute: int
    most_in_a_day: int
    seconds: float
    planned: float = 0.0


def put_mailing(
    folder: Path, path: Path, policy: Policy, number: int, clock: Callable[[], int]
) -> tuple[list[str], float]:
    """Put a mailing of so many people in a CSV file; return the Message-IDs, and the plan's end.

    That is in seconds after the start.
    """
    people = folder / "people.csv"
    people.write_text(
        "email,name,place\n"
        + "".join(f"student{i}@example.com,Student {i},Hall {i % 40}\n" for i in range(number))
    )
    letter = Letter(
        "TO: {{ name }} <{{ email }}>\nFROM: Training <training@leeds.ac.uk>\nSUBJECT: Seat\n\n"
        "Dear {{ name }},\n\nyour seat is in {{ place }}.\n.\n",
        name="letter.txt",
    )
    mailing = Mailing(letter, read_people(people))
    plan = plan_mailing(policy, mailing.envelopes(), start=datetime_of(clock()))
    with Outbox(path, Limiter(policy), clock=clock) as outbox:
        ids = [each.message_id for each in mailing.put(outbox)]
    return ids, plan.delays[-1]


def put_letters(
    path: Path, policy: Policy, number: int, clock: Callable[[], int], senders: int = 1
) -> list[str]:
    """Put letters of so many senders in one transaction; return their Message-IDs."""
    outbox = Outbox(path, Limiter(policy), clock=clock)
    connection = sqlite3.connect(path)
    with connection:
        ids = [
            outbox.put(
                letter(i, f"ann{i % senders}@leeds.ac.uk"), key=f"letter {i}", connection=connection
            ).message_id
            for i in range(number)
        ]
    connection.close()
    outbox.close()
    return ids


def _fullest_window(length: int, moments: list[int]) -> int:
    """Return how many of many moments the fullest window of `length` milliseconds contains."""
    moments = sorted(moments)
    return max((bisect(moments, end) - bisect(moments, end - length) for end in moments), default=0)


def _result(
    path: Path,
    policy: Policy,
    ids: list[str],
    sink: Sink,
    kills: int,
    minute: int,
    start: int,
) -> KillResult:
    outbox = Outbox(path, Limiter(policy))
    uncertain = {each.message_id for each in outbox.list(state=State.UNCERTAIN, limit=10**6)}
    stats = outbox.stats()
    outbox.close()
    counts = sink.counts()
    assert set(counts) <= set(ids)
    assert stats.counts[State.QUEUED] == stats.counts[State.SENDING] == 0
    by_sender: dict[str, list[int]] = {}
    for each in sink.received:
        by_sender.setdefault(each.sender, []).append(each.at)
    return KillResult(
        sent=stats.counts[State.SENT],
        uncertain=len(uncertain),
        delivered=len(counts),
        twice=sum(count > 1 for count in counts.values()),
        lost=len(set(ids) - set(counts) - uncertain),
        uncertain_and_missing=len(uncertain - set(counts)),
        kills=kills,
        most_in_a_minute=max(_fullest_window(minute, each) for each in by_sender.values()),
        most_in_a_day=max(_fullest_window(DAY, each) for each in by_sender.values()),
        seconds=(max(each.at for each in sink.received) - start) / 1000,
    )


def send_with_kills(
    folder: Path, policy: Policy, url: str, *, letters: int, kills: int, chance: random.Random
) -> KillResult:
    """Send a mailing by one worker on a manual clock, which is killed and started again.

    Half of the kills come when the server has accepted a message and has not said so yet; the
    others at random moments.
    """
    path, policy_file = folder / "outbox.db", folder / "policy.toml"
    policy_file.write_text(policy.dump())
    clock = FileClock(folder / "clock", START)
    ids, planned = put_mailing(folder, path, policy, letters, clock)
    sink = Sink(clock)
    worker: WorkerProcess | None = None
    kill_at: set[int] = set(chance.sample(range(letters), kills // 2))
    killed = 0

    def accepted(_: bytes) -> None:
        nonlocal killed
        if len(sink.received) in kill_at and worker is not None:
            kill_at.discard(len(sink.received))
            killed += 1
            worker.kill()

    sink.answers["ACCEPTED"] = accepted
    arguments = (path, policy_file, url, sink.port, folder / "clock")
    try:
        random_kills = 0
        for _ in range(10 * kills + 10):
            worker = WorkerProcess(*arguments)
            patience: float = 1200.0
            if random_kills < kills - kills // 2:
                before = len(sink.received)
                target = before + chance.randrange(1, max(2, 2 * letters // kills))
                while len(sink.received) < target and worker.wait(0.005) is None:
                    pass
                time.sleep(chance.random() * 0.02)
                worker.kill()
                random_kills += 1
                killed += 1
                patience = 30.0
            if worker.wait(patience) == 0:
                break
        else:
            raise AssertionError("the outbox is never empty")
    finally:
        sink.close()
    result = _result(path, policy, ids, sink, killed, MINUTE, START)
    return result._replace(planned=planned)


def send_with_kills_in_real_time(
    folder: Path,
    policy: Policy,
    url: str,
    *,
    letters: int,
    kills: int,
    workers: int,
    window: float,
    chance: random.Random,
) -> KillResult:
    """Send letters of four senders by several workers in real time, some of which are killed."""
    path, policy_file = folder / "outbox.db", folder / "policy.toml"
    policy_file.write_text(policy.dump())

    def clock() -> int:
        return time.time_ns() // 1_000_000

    ids = put_letters(path, policy, letters, clock, senders=4)
    start = clock()
    sink = Sink(clock)
    arguments = (path, policy_file, url, sink.port, "real")
    running = [WorkerProcess(*arguments) for _ in range(workers)]
    killed = 0
    try:
        while running:
            worker = running.pop(chance.randrange(len(running)))
            if killed < kills and worker.wait(chance.random() * window) is None:
                worker.kill()
                killed += 1
            elif killed >= kills:
                worker.wait(600)
                continue
            worker.wait()
            if killed <= kills:
                running.append(WorkerProcess(*arguments))
    finally:
        for worker in running:
            worker.kill()
        sink.close()
    return _result(path, policy, ids, sink, killed, round(window * 1000), start)
