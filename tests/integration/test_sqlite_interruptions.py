"""A call of SQLiteBackend that a signal handler breaks off leaves the file and its lock usable."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from rlm_testkit.interrupted_sqlite import interrupt_forks, interrupt_sqlite


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it needs timers of Unix")
def test_no_signal_leaves_the_lock_held_or_half_a_charge(tmp_path: Path) -> None:
    interrupt_sqlite(tmp_path, interrupts=400)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it needs timers of Unix")
def test_a_signal_in_a_fork_leaves_the_lock_free_for_the_next_call(tmp_path: Path) -> None:
    interrupt_forks(tmp_path, interrupts=200)
