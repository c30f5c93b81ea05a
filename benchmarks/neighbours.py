"""Neighbours: workloads in processes of their own, timed beside the one of the benchmark fixture.

In one process, the background thread of a peer would slow what is measured beside it: with a
million senders, the timer of `limits`, which drops what has expired, runs most of the time.
"""

import gc
from collections.abc import Callable
from functools import partial
from timeit import timeit

from benchmarks.workloads import Workload
from ratelimit_mail import Envelope

_workload: Workload  # of this process, where it is a neighbour


def begin(build: Callable[[str], Workload], name: str) -> None:
    """Make this process a neighbour."""
    global _workload
    gc.freeze()
    _workload = build(name)


def round_seconds() -> float:
    """Return how long a round took, without garbage collection."""
    return timeit(partial(_workload.send, prepared(_workload)), number=1)


def prepared(workload: Workload) -> list[Envelope]:
    """Return the messages of a round, after a round that warms the processor's caches."""
    workload.send(workload.prepare())
    return workload.prepare()
