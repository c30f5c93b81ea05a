"""Times contenders in turn, so that a machine whose speed drifts slows them all alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from contenders import ENTRIES
from figures import Taken

SLOW_TURNS: Final = 3
InTurn = Callable[..., None]
"""The fixture that lets contenders work in turn, and keeps their figures under a name."""

HERE: Final = Path(__file__).parent


class Worker:
    """A process of one contender at one work."""

    def __init__(self, work: str, name: str, port: int | None) -> None:
        self.work = work
        self.name = name
        self.trouble: str | None = None
        command = [sys.executable, str(HERE / "worker.py"), work, name, str(port or "")]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def answer(self) -> Any:
        """What it says next; None from when it is in trouble."""
        if self.trouble is not None:
            return None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said = json.loads(line) if line else f"it ended with {self._process.wait()}"
        if isinstance(said, str) and said != "ready":
            self.trouble = said
            return None
        return said

    def turn(self) -> list[float] | None:
        """Let it do a turn; gives its figures."""
        if self.trouble is not None:
            return None
        assert self._process.stdin is not None
        self._process.stdin.write("turn\n")
        self._process.stdin.flush()
        told: list[float] | None = self.answer()
        return told

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def side_by_side(
    taking_part: Sequence[tuple[str, str]], turns: int, port: int | None = None
) -> tuple[Taken, dict[str, str]]:
    """The figures of each contender at its work in each turn, and what trouble there was.

    taking_part: works, and the contenders that do them.
    """
    taken: Taken = {}
    workers = []
    try:
        for work, name in taking_part:
            workers.append(Worker(work, name, port))
            workers[-1].answer()  # one after another: they fill their counts as they start
        for number in range(turns):
            for worker in workers:
                if ENTRIES[worker.name].slow and number >= SLOW_TURNS:
                    continue
                told = worker.turn()
                if told is not None:
                    taken.setdefault(worker.work, {}).setdefault(worker.name, []).append(told)
    finally:
        for worker in workers:
            worker.stop()
    return taken, {worker.name: worker.trouble for worker in workers if worker.trouble is not None}
