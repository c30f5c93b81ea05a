"""Times contenders in turn, so that a machine whose speed drifts slows them all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from contenders import Check

from ratelimit_mail import Envelope

Round = tuple[Check, Sequence[Envelope]]
"""What is called, and the envelopes that it is called with, one after another."""


def seconds_per_call(check: Check, envelopes: Sequence[Envelope]) -> float:
    """How long one call took, on average over one round."""
    start = time.perf_counter()
    for envelope in envelopes:
        check(envelope)
    return (time.perf_counter() - start) / len(envelopes)


def side_by_side(
    contenders: Mapping[str, Callable[[], Round]],
    rounds: int = 300,
    measure: Callable[[Check, Sequence[Envelope]], float] = seconds_per_call,
) -> dict[str, list[float]]:
    """The seconds per call of each contender in each round; the rounds go in turn."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    for number in range(rounds + 5):
        for name, prepare in contenders.items():
            seconds = measure(*prepare())
            if number >= 5:  # the first ones warm up
                taken[name].append(seconds)
    return taken


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
