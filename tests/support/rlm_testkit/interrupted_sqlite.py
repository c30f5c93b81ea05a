"""Calls of SQLiteBackend that signals break off again and again."""

from __future__ import annotations

import gc
from pathlib import Path
from random import Random

from ratelimit_mail import Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import SQLiteBackend
from rlm_testkit.builders import envelope_to
from rlm_testkit.interrupts import Alarm, Interrupt

__all__ = ["interrupt_forks", "interrupt_sqlite"]


def interrupt_sqlite(folder: Path, interrupts: int, seed: int = 1) -> None:
    """Break off so many calls; check that the lock is free, and that no message is half charged."""
    limits = [MessageRateLimit("1000000/day"), RecipientRateLimit("1000000/day", scope="global")]
    # The timeout only ends it early: nothing else uses the file.
    backend = SQLiteBackend(folder / "counts.db", timeout=0.5)
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    envelope, accepted = envelope_to(1), 0
    with Alarm(Random(seed), longest=0.0003) as alarm:
        while alarm.interrupts < interrupts:
            accepted += bool(alarm.call(lambda: limiter.try_acquire(envelope)))
    [used] = [each.used for each in limiter.usage("ann@uwo.ca")]
    [together] = [each.used for each in limiter.usage(scope="global")]
    assert used == together
    assert accepted <= used <= accepted + interrupts
    backend.close()


def interrupt_forks(folder: Path, interrupts: int, seed: int = 1) -> None:
    """Break off what is done before and after a fork; the file can be used after each."""
    backend = SQLiteBackend(folder / "counts.db", timeout=0.5)
    limiter = Limiter(Policy(name="test", limits=[MessageRateLimit("1000000/day")]), backend)
    envelope = envelope_to(1)

    def fork() -> None:
        for step in (backend._database.before_fork, backend._database.after_fork_in_parent):
            try:
                step()
            except Interrupt:  # as Python does: it goes on with the fork
                alarm.interrupts += 1

    with Alarm(Random(seed), longest=0.00003) as alarm:
        while alarm.interrupts < interrupts:
            assert limiter.check(envelope)  # opens the file
            alarm.call(fork)
            assert limiter.check(envelope)
            assert not backend._database._lock.locked()
    backend.close()
    gc.collect()  # connections whose closing was broken off
