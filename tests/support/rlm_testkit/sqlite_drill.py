"""Kill processes that count in a SQLite file, and look for halves of their messages.

Run as a program, so that its forks have no other threads: `python sqlite_drill.py FILE KILLS SEED`.
Prints how many messages were confirmed and counted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend

POLICY = Policy(
    name="drill",
    limits=[
        MessageRateLimit("100000000/day"),
        MessageRateLimit("100000000/day", scope="sender_domain"),
        MessageRateLimit("100000000/day", scope="global"),
    ],
)
ENVELOPE = Envelope("ann@uwo.ca", ["bob@example.com"])


def work(path: str, confirmed: int, source: random.Random) -> None:
    """Send, settle and refund until killed, by itself at some statement or from outside."""
    backend = SQLiteBackend(path, timeout=60)
    limiter = Limiter(POLICY, backend)
    limiter.usage("ann@uwo.ca")
    if source.random() < 0.5:
        left = source.randint(1, 60)

        def kill_later(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        connection = backend._database._connection
        assert connection is not None
        connection.set_trace_callback(kill_later)
    while True:
        decision = limiter.try_acquire(ENVELOPE)
        os.write(confirmed, b"+")
        if source.random() < 0.3:
            limiter.settle(decision)
        if source.random() < 0.1:
            limiter.reserve(ENVELOPE)
            os.write(confirmed, b"+")


def used(path: str) -> list[int]:
    """Return what each limit has counted."""
    backend = SQLiteBackend(path, timeout=60)
    limiter = Limiter(POLICY, backend)
    counts = [
        limiter.usage(subject, scope=scope)[0].used
        for subject, scope in (
            ("ann@uwo.ca", "sender"),
            ("uwo.ca", "sender_domain"),
            (None, "global"),
        )
    ]
    backend.close()
    return counts


def kill_processes(path: Path, kills: int) -> None:
    """Run this file as a program; it must end without an error."""
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(kills), "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no half" in done.stdout


def main(path: str, kills: int, seed: int) -> None:
    """Kill `kills` workers, and check the file after each."""
    source = random.Random(seed)
    counted = confirmed = 0
    for _ in range(kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            work(path, writer, random.Random(source.random()))
        os.close(writer)
        first = os.read(reader, 1)
        time.sleep(source.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen = len(first)
        while data := os.read(reader, 65536):
            seen += len(data)
        os.close(reader)
        counts = used(path)
        assert len(set(counts)) == 1, f"half a message: {counts}"
        assert seen <= counts[0] - counted <= seen + 1, f"{seen} confirmed, {counts[0] - counted}"
        counted, confirmed = counts[0], confirmed + seen
    print(f"{kills} kills: {confirmed} messages confirmed, {counted} counted, no half")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
