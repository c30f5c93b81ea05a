"""What a contender takes besides time: bytes a sender, bytes a message, and its import."""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from typing import Any, Final

import pytest

from benchmarks.contenders import BEST, BY_HAND, OURS, make
from benchmarks.email_check import message

SIZES: Final = [("bytes a sender", 2_000, 1), ("bytes a message", 4, 1_000)]  # messages of each
ALONE: Final = "import ratelimit_mail"
IMPORTS: Final = {
    ALONE: ALONE,
    OURS: "from ratelimit_mail import Envelope, Limiter, Policy, "
    "MessageRateLimit, RecipientLimit, RecipientRateLimit",
    "limits": "import limits.strategies, limits.storage",
    "pyrate-limiter": "import pyrate_limiter",
    "throttled-py": "import throttled",
    "token-throttle": "import token_throttle",
}
"""This library loads each name at its first use: alone, and with the e-mail check's names."""
ATTRS: Final = "attrs itself"
TIMED = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def _allocated() -> float:
    gc.collect()
    return float(tracemalloc.get_traced_memory()[0])


@pytest.mark.parametrize(("what", "senders", "messages"), SIZES)
@pytest.mark.parametrize("name", [BY_HAND, OURS, *BEST])
def test_bytes(
    benchmark_of: Any, advance: Any, name: str, what: str, senders: int, messages: int
) -> None:
    """The bytes that Python allocates for the counts; the address is the caller's.

    A sender's messages are 2.5 seconds apart: the day holds a thousand.
    """
    contender = make(name)
    envelopes = [message(i) for i in range(senders)]
    contender.check(message("first"))

    def send() -> None:
        for _ in range(messages):
            advance(2.5)
            for envelope in envelopes:
                assert contender.check(envelope)
        for trim in contender.trims:
            trim()
        for thread in threading.enumerate():  # a timer of a peer drops what has expired
            if isinstance(thread, threading.Timer):
                thread.join(1)

    benchmark = benchmark_of(_allocated, f"memory, {what}", name, senders * messages)
    tracemalloc.start()
    benchmark.pedantic(send)
    tracemalloc.stop()


@pytest.mark.parametrize("name", [*IMPORTS, ATTRS])
def test_import(benchmark_of: Any, name: str, quick: bool) -> None:
    """The processor time of an import beyond `import attrs`, in a new process, with bytecode."""
    timed = TIMED.format(IMPORTS.get(name, "import attrs"))
    command = [sys.executable, "-c", timed if name == ATTRS else f"import attrs; {timed}"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds: list[float] = []

    def run() -> None:
        output = subprocess.check_output(command, env=environment, stderr=subprocess.DEVNULL)
        seconds.append(float(output))

    benchmark = benchmark_of(lambda: sum(seconds), "import", name)
    benchmark.pedantic(run, rounds=3 if quick else 15, warmup_rounds=1)
