"""Several processes and threads on one SQLite file, some of which are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rlm_testkit.sqlite_drill import kill_processes

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.testing import ManualClock

TIMEOUT = 60
"""A slow machine is not an outage."""

CRON = """
import sys
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import from_url
policy = Policy(name="cron", limits=[MessageRateLimit("30/minute")])
limiter = Limiter(policy, from_url(sys.argv[1], clock=lambda: int(sys.argv[2])))
envelope = Envelope("cron@uwo.ca", ["bob@example.com"])
print(sum(bool(limiter.try_acquire(envelope)) for _ in range(100)))
"""

CROWD = """
import sys, threading
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend
policy = Policy(name="crowd", limits=[MessageRateLimit("500/day"),
                                      MessageRateLimit("400/day", scope="global")])
limiter = Limiter(policy, SQLiteBackend(sys.argv[1], timeout=60))
envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
admitted = []
def send():
    while limiter.try_acquire(envelope):
        admitted.append(1)
threads = [threading.Thread(target=send) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(admitted))
"""

POLICY = Policy(name="test", limits=[MessageRateLimit("5/day")])
ENVELOPE = Envelope("ann@uwo.ca", ["bob@example.com"])


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )


def result(process: subprocess.Popen[str]) -> int:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return int(output)


def test_a_cron_script_that_runs_three_times_in_a_minute_sends_30_0_0(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/counts.db"
    runs = [result(start(CRON, url, str(1_700_000_000_000 + 20_000 * i))) for i in range(3)]
    assert runs == [30, 0, 0]
    assert result(start(CRON, url, str(1_700_000_060_000))) == 30


def test_8_processes_with_4_threads_admit_exactly_the_limit(tmp_path: Path) -> None:
    path = str(tmp_path / "counts.db")
    processes = [start(CROWD, path) for _ in range(8)]
    admitted = [result(process) for process in processes]
    assert sum(admitted) == 400
    assert used(path, "crowd", 500) == 400


def used(path: str, name: str, limit: int) -> int:
    policy = Policy(name=name, limits=[MessageRateLimit(f"{limit}/day")])
    backend = SQLiteBackend(path, timeout=TIMEOUT)
    try:
        return Limiter(policy, backend).usage("ann@uwo.ca")[0].used
    finally:
        backend.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_killed_process_leaves_all_charges_of_a_message_or_none(tmp_path: Path) -> None:
    kill_processes(tmp_path / "counts.db", 40)


FORKS = """
import os, sys
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend
policy = Policy(name="test", limits=[MessageRateLimit("100/day")])
backend = SQLiteBackend(sys.argv[1], timeout=60)
limiter = Limiter(policy, backend)
envelope = Envelope("ann@uwo.ca", ["bob@example.com"])
assert limiter.try_acquire(envelope)
connection = backend._database._connection
children = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        assert backend._database._connection is None
        for _ in range(10):
            assert limiter.try_acquire(envelope)
        os._exit(0)
    children.append(child)
    assert limiter.try_acquire(envelope)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
print(limiter.usage("ann@uwo.ca")[0].used)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_opens_the_file_itself(tmp_path: Path) -> None:
    assert result(start(FORKS, str(tmp_path / "counts.db"))) == 1 + 5 * 10 + 5


def test_a_backend_waits_for_a_transaction_of_another_process(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "counts.db", timeout=TIMEOUT)
    other = SQLiteBackend(tmp_path / "counts.db", timeout=TIMEOUT)
    Limiter(POLICY, other).usage("ann@uwo.ca")
    connection = other._database._connection
    assert connection is not None
    connection.execute("BEGIN IMMEDIATE")
    answers: list[bool] = []
    limiter = Limiter(POLICY, backend)
    thread = threading.Thread(target=lambda: answers.append(bool(limiter.try_acquire(ENVELOPE))))
    thread.start()
    connection.execute("ROLLBACK")
    thread.join()
    assert answers == [True]
    backend.close()
    other.close()


def test_time_does_not_go_back_for_another_process(tmp_path: Path) -> None:
    """Its clock may be behind; what was admitted stays in its window by the other's clock."""
    path = tmp_path / "counts.db"
    ahead, behind = ManualClock(), ManualClock()
    ahead.advance(3600)
    policy = Policy(name="test", limits=[MessageRateLimit("1/minute")])
    assert Limiter(policy, SQLiteBackend(path, clock=ahead)).try_acquire(ENVELOPE)
    late = Limiter(policy, SQLiteBackend(path, clock=behind))
    assert late.try_acquire(ENVELOPE).retry_after == 3660
    behind.advance(3659.999)
    assert not late.try_acquire(ENVELOPE)
    behind.advance(0.001)
    assert late.try_acquire(ENVELOPE)
