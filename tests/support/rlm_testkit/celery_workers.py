"""Real Celery workers that send to a real SMTP server, and are killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from rlm_testkit.servers import wait_until
from rlm_testkit.smtp_sink import SMTPSink, most_in_a_window

__all__ = ["Result", "send_with_celery"]

MODULE: Final = "rlm_testkit.celery_program"
WINDOW: Final = 2.0
TIMEOUT: Final = 100.0

PUT: Final = f"""
import sys
from {MODULE} import send
for number in range(int(sys.argv[1])):
    send.delay("ann@uwo.ca" if number % 3 else "kim@uwo.ca", str(number))
"""


class Result(NamedTuple):
    """What came of a run.

    arrived: the numbers of the messages, as they arrived. uncertain: how many were being sent when
    their worker was killed. executions: how many there were.
    most: the most messages of one sender in a window at the sink.
    """

    arrived: Sequence[int]
    uncertain: int
    executions: int
    kills: int
    most: int

    def of_sender(self, is_kim: bool) -> list[int]:
        """Return the numbers of one sender's messages, as they arrived."""
        return [number for number in self.arrived if (number % 3 == 0) is is_kim]


class _Workers:
    def __init__(self, folder: Path, environment: dict[str, str], options: Sequence[str]) -> None:
        self._folder = folder
        self._environment = environment
        self._options = options
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        command = [sys.executable, "-m", "celery", "-A", MODULE, "worker", "-l", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command += ["-n", f"worker{len(os.listdir(self._folder))}@test", *self._options]
        log = self._folder / f"log{len(os.listdir(self._folder))}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._processes.append(process)
        wait_until(lambda: b"ready." in log.read_bytes() or process.poll() is not None)
        assert process.poll() is None, log.read_text()[-3000:]

    def kill(self, number: int) -> None:
        """Kill a worker with all of its processes."""
        process = self._processes.pop(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        while self._processes:
            self.kill(0)


@contextlib.contextmanager
def _workers(
    folder: Path, environment: dict[str, str], options: Sequence[str]
) -> Iterator[_Workers]:
    workers = _Workers(folder, environment, options)
    try:
        yield workers
    finally:
        workers.stop()


def _count(file: Path) -> int:
    return len(file.read_text().splitlines())


def send_with_celery(
    folder: Path,
    broker: str,
    store: str,
    *,
    messages: int,
    rate: str = "10/2 seconds",
    workers: int = 1,
    kills: int = 0,
    options: Sequence[str] = ("-c", "2"),
    chance: Random | None = None,
) -> Result:
    """Put messages of two senders, and let workers send them until all have arrived.

    options: of the command of a worker. kills: how often a worker is killed and another started.
    """
    chance = chance or Random(1)
    (folder / "logs").mkdir()
    (folder / "queue").mkdir()
    for name in ("executions", "uncertain"):
        (folder / name).touch()
    with SMTPSink(0.0) as sink:
        environment = os.environ | {
            "BROKER": broker,
            "FOLDER": str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "RATE": rate,
            "SMTP_PORT": str(sink.port),
            "STORE": store,
        }
        with _workers(folder / "logs", environment, options) as running:
            for _ in range(workers):
                running.start()
            command = [sys.executable, "-c", PUT, str(messages)]
            subprocess.run(command, env=environment, check=True, cwd=folder)
            arrivals = sink.arrivals()
            killed, end = 0, time.monotonic() + TIMEOUT
            while (
                len(arrivals) + _count(folder / "uncertain") < messages and time.monotonic() < end
            ):
                time.sleep(0.05)
                arrivals += sink.arrivals()
                if killed < kills and len(arrivals) > (killed + 1) * messages // (kills + 2):
                    time.sleep(chance.uniform(0, WINDOW))
                    running.kill(chance.randrange(workers))
                    running.start()
                    killed += 1
            time.sleep(0.5)  # for what should not arrive
            arrivals += sink.arrivals()
    arrivals.sort()
    senders = [[each for each in arrivals if (int(each.name) % 3 == 0) is k] for k in (True, False)]
    return Result(
        [int(each.name) for each in arrivals],
        len(set((folder / "uncertain").read_text().splitlines())),
        _count(folder / "executions"),
        killed,
        max(most_in_a_window(each, WINDOW) for each in senders),
    )
