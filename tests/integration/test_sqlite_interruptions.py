"""A call of SQLiteBackend that a signal handler breaks off leaves the file and its lock usable."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random

import pytest
from rlm_testkit.builders import envelope_to
from rlm_testkit.interrupts import Alarm

from ratelimit_mail import Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import SQLiteBackend

INTERRUPTS = 400


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it needs timers of Unix")
def test_no_signal_leaves_the_lock_held_or_half_a_charge(tmp_path: Path) -> None:
    limits = [MessageRateLimit("1000000/day"), RecipientRateLimit("1000000/day", scope="global")]
    # The timeout only ends the test early: nothing else uses the file.
    backend = SQLiteBackend(tmp_path / "counts.db", timeout=0.5, durability="process")
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    envelope, accepted = envelope_to(1), 0
    with Alarm(Random(1), longest=0.0003) as alarm:
        while alarm.interrupts < INTERRUPTS:
            accepted += bool(alarm.call(lambda: limiter.try_acquire(envelope)))
    [used] = [each.used for each in limiter.usage("ann@uwo.ca")]
    [together] = [each.used for each in limiter.usage(scope="global")]
    assert used == together
    assert accepted <= used <= accepted + INTERRUPTS
